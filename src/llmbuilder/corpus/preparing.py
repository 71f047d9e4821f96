"""`prepare_corpus`: from any documents to a finished corpus."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llmbuilder.auditing.fidelity import require_rapidfuzz
from llmbuilder.config.schema import Config, DataConfig
from llmbuilder.config.validation import require_valid
from llmbuilder.corpus.audit import audit_sample
from llmbuilder.corpus.corpus_report import CorpusReport
from llmbuilder.corpus.decisions import Decisions, DuplicateSettings, decide, repeated_lines
from llmbuilder.corpus.description import describe_corpus
from llmbuilder.corpus.dividing import Division, divide_documents
from llmbuilder.corpus.document_files import DocumentFile
from llmbuilder.corpus.engine import Engine
from llmbuilder.corpus.keys import (
    CORPUS_FORMAT,
    EXTRACTING,
    EXTRACTION,
    REFINEMENT,
    REFINING,
    content_key,
    digest,
    settings_key,
    versions,
)
from llmbuilder.corpus.output import is_output, places_of, record_inputs, remove_own_files, require_output
from llmbuilder.corpus.own_tokenizer import OwnTokenizer
from llmbuilder.corpus.schemas import EXTRACTED, REFINED
from llmbuilder.corpus.slices import LARGEST_CORPUS, SLICE_BYTES, cut_slices
from llmbuilder.corpus.stage_clock import StageClock
from llmbuilder.corpus.store import Store
from llmbuilder.corpus.tasks.tokenize import merged
from llmbuilder.corpus.units import cut_units, list_sources
from llmbuilder.documents.sources import Found, Source
from llmbuilder.duplicates.near import NearDuplicateSettings
from llmbuilder.duplicates.semantic import TextEmbedder
from llmbuilder.duplicates.shingles import METHOD
from llmbuilder.errors import ConfigError, DataError
from llmbuilder.files import file_checksum, write_json
from llmbuilder.locking import locked_folder
from llmbuilder.notices import counted
from llmbuilder.refining.classifiers import classifier_file
from llmbuilder.refining.refiner import Refiner
from llmbuilder.report.corpus import write_corpus_report
from llmbuilder.stages import Progress, no_progress
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.tokens.overlap import overlap_of
from llmbuilder.tokens.shards import open_shards
from llmbuilder.tokens.splitting import PARTS

logger = logging.getLogger("llmbuilder")
_NEAR_DUPLICATES = 0.8  # what "auto" stands for here


def prepare_corpus(
    inputs: str | Path | Sequence[str | Path],
    output: str | Path,
    config: Config | None = None,
    *,
    tokenizer: str | Path | Tokenizer | None = None,
    engine: str = "local",
    workers: int | None = None,
    ray_address: str | None = None,
    overwrite: bool = False,
    audit: int = 0,
    progress: Progress = no_progress,
) -> CorpusReport:
    """Turn folders, files, globs and addresses into a corpus: extract, clean, filter, deduplicate, split, tokenize.

    `config.data` holds the settings of the stages. Without `tokenizer` (or `config.tokenizer.path`) one that was given
    earlier, or trained with the same settings, is kept, else one is trained from the corpus. An `output` prepared from
    the same inputs is brought up to date: only sources that are new or changed are read; it may lie in an input, which
    it is no part of. `audit` files, drawn at random, are read again in an independent way and compared with what was
    extracted of them (`CorpusReport.audit`). `progress` is called with a stage, the units done and all of them.
    Raises DataError if an input names nothing or lies in `output`, nothing is left, or `output` holds something else
    and `overwrite` is not set; ConfigError for settings that cannot be.
    """
    config = config or Config()
    _require_valid(config)
    given = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    begin = time.perf_counter()
    runner = Engine(engine, workers=workers, address=ray_address)
    folder = Path(output)
    names = [str(item) for item in given]
    require_output(folder, names, overwrite=overwrite)
    unknown = sorted(set(config.data.mixture) - set(names))
    if unknown:
        raise ConfigError(f"data.mixture names {unknown[0]!r}, which is no INPUT; there are {', '.join(names)}")
    found = list_sources(given, is_output(folder))
    Refiner.from_config(config.data)  # what cannot be is refused before hours of reading
    semantic = _semantic_settings(config.data)
    if audit:
        require_rapidfuzz()
    folder.mkdir(parents=True, exist_ok=True)
    with locked_folder(folder, DataError):
        work = _Work(folder, config, semantic, runner, StageClock(progress))
        description = work.prepare(found, names, tokenizer, audit)
    seconds = time.perf_counter() - begin
    return CorpusReport(folder, description, seconds, work.units, work.units_worked_on, work.stage_seconds, work.audit)


def _require_valid(config: Config) -> None:
    """Raise ConfigError for settings that cannot be; a corpus has no model that its vocabulary would have to fit."""
    checked = config.copy_of()
    checked.model.vocab_size = max(checked.model.vocab_size, checked.tokenizer.vocab_size or 0)
    require_valid(checked, ["data", "tokenizer", "system"], "prepare a corpus with these settings")


def _semantic_settings(data: DataConfig) -> tuple[float, str] | None:
    """Return the threshold and what names the model. Raises DataError if it cannot be loaded."""
    if data.semantic_duplicates is None:
        return None
    if data.semantic_model is None:
        raise ConfigError("data.semantic_duplicates needs data.semantic_model, the folder of a model2vec model")
    TextEmbedder(data.semantic_model)
    weights = sorted(Path(data.semantic_model).glob("*.safetensors"))
    return data.semantic_duplicates, " ".join(map(file_checksum, weights))


class _Work:
    """One preparation: the stages in order, each finished before the next begins."""

    def __init__(
        self,
        folder: Path,
        config: Config,
        semantic: tuple[float, str] | None,
        engine: Engine,
        progress: StageClock,
    ) -> None:
        self._folder = folder
        self._work = folder / "work"
        self._config = config
        self._engine = engine
        self._progress = progress
        self._near = NearDuplicateSettings.from_config(config.data, auto=_NEAR_DUPLICATES)
        self._semantic = semantic
        self._own_tokenizer = OwnTokenizer(folder, config, progress)
        self._used: set[Path] = set()
        self._touched: set[int] = set()
        self.units = 0
        self.audit: dict[str, Any] | None = None

    @property
    def stage_seconds(self) -> dict[str, float]:
        return self._progress.seconds

    @property
    def units_worked_on(self) -> int:
        return len(self._touched)

    def prepare(
        self, found: Found, names: list[str], tokenizer: str | Path | Tokenizer | None, audited: int
    ) -> dict[str, Any]:
        """Bring the folder up to date and return what `corpus.json` says."""
        record_inputs(self._folder, names)
        sources = list(found.sources)
        units = cut_units(sources)
        self.units = len(units)
        extracted = self._extract(units, names)
        refined = self._refine(extracted, sources)
        decisions = self._decide(refined)
        lines = self._repeated_lines(refined, decisions)
        receipts = self._write_documents(refined, decisions, lines)
        if not any(receipt["documents_file"] for receipt in receipts):
            raise DataError(f"nothing is left of {counted(len(sources), 'source')}: {_reasons(receipts)}")
        tokens, used, division = self._tokenize(receipts, tokenizer)
        parts = {part: values for part in PARTS if (values := merged(tokens, part)) is not None}
        description = describe_corpus(
            inputs=names,
            hidden=found.hidden,
            config=self._config,
            versions=versions(),
            receipts=receipts,
            decisions=decisions,
            tokens=parts,
            held_out=self._describe_held_out(parts, division),
            tokenizer=used,
            trained_as=self._own_tokenizer.training_options,
        )
        write_json(self._folder / "corpus.json", description)
        if audited:
            self.audit = audit_sample(units, extracted, audited, description["fingerprint"], self._folder).to_dict()
        self._progress.write(self._folder)
        write_corpus_report(self._folder)
        self._remove_unused(receipts, tokens)
        return description

    def _extract(self, units: list[list[Source]], names: list[str]) -> list[Path]:
        settings = settings_key(self._config.data, EXTRACTION, versions(EXTRACTING))
        store = Store(self._work / "extracted", EXTRACTED)
        # A name means another file where its input is another one.
        places = {name: place["relative"] for name, place in zip(names, places_of(self._folder, names), strict=True)}
        planned = [[source.key(f"{settings} {places[source.collection]}") for source in unit] for unit in units]
        files = [store.path(keys) for keys in planned]
        missing = [number for number, path in enumerate(files) if not path.is_file()]
        earlier = store.parts() if missing else {}
        wanted = [
            {
                "unit": number,
                "path": str(files[number]),
                "keys": planned[number],
                "sources": [source.to_dict() for source in units[number]],
                "earlier": {key: earlier[key] for key in planned[number] if key in earlier},
            }
            for number in missing
        ]
        self._run("extract", wanted, len(units))
        self._used |= set(files)
        return files

    def _refine(self, extracted: list[Path], sources: list[Source]) -> list[Path]:
        data = self._config.data
        own = [[asdict(self._near), METHOD] if self._near else None, *map(content_key, data.evaluation_files)]
        if data.classifier is not None:
            own.append(content_key(classifier_file(data.classifier)))
        settings = settings_key(data, REFINEMENT, {**versions(REFINING), "o": own})
        store = Store(self._work / "refined", REFINED)
        is_large = sum(source.size for source in sources) > LARGEST_CORPUS
        slices = [part for path in extracted for part in cut_slices(path, None if is_large else SLICE_BYTES)]
        planned = [[digest(key, settings) for key in part.keys] for part in slices]
        files = [store.path(keys) for keys in planned]
        missing = [number for number, path in enumerate(files) if not path.is_file()]
        earlier = store.parts() if missing else {}
        wanted = [
            {
                "unit": number,
                "path": str(files[number]),
                "keys": planned[number],
                "input": str(slices[number].path),
                "places": slices[number].places,
                "earlier": {key: earlier[key] for key in planned[number] if key in earlier},
            }
            for number in missing
        ]
        self._run("refine", wanted, len(slices))
        self._used |= set(files)
        return files

    def _decide(self, refined: list[Path]) -> Decisions:
        folder = self._work / "compared"
        folder.mkdir(parents=True, exist_ok=True)
        self._progress("deduplicate", 0, 1)
        settings = DuplicateSettings(self._config.data.remove_duplicates, self._near, self._semantic)
        decisions = decide(refined, settings, folder, self._compare)
        self._used |= set(decisions.files)
        self._progress("deduplicate", 1, 1)
        return decisions

    def _compare(self, task: str, wanted: list[dict[str, Any]]) -> None:
        if wanted:
            self._run(task, wanted, len(wanted))

    def _repeated_lines(self, refined: list[Path], decisions: Decisions) -> Path | None:
        least = self._config.data.repeated_lines
        if least is None:
            return None
        lines, counted = repeated_lines(refined, decisions.drops, least, self._work / "compared", self._compare)
        self._used |= {*counted, *([lines] if lines else [])}
        return lines

    def _write_documents(self, refined: list[Path], decisions: Decisions, lines: Path | None) -> list[dict[str, Any]]:
        shared = digest(lines.name if lines else "", str(CORPUS_FORMAT))
        paths = [
            self._work / "written" / f"{digest(path.stem, json.dumps(drops), shared)}.json"
            for path, drops in zip(refined, decisions.drops, strict=True)
        ]
        wanted = [
            {"unit": number, "path": str(path), "input": str(refined[number]), "drops": decisions.drops[number]}
            for number, path in enumerate(paths)
            if not self._is_written(path)
        ]
        self._run("write_documents", wanted, len(paths), lines=str(lines) if lines else None)
        self._used |= set(paths)
        return [json.loads(path.read_text("utf-8")) for path in paths]

    def _is_written(self, receipt: Path) -> bool:
        if not receipt.is_file():
            return False
        values = json.loads(receipt.read_text("utf-8"))
        named = (
            (self._folder / kind / values[f"{kind}_file"])
            for kind in ("documents", "dropped")
            if values[f"{kind}_file"]
        )
        return all(path.is_file() for path in named)

    def _tokenize(
        self, receipts: list[dict[str, Any]], given: str | Path | Tokenizer | None
    ) -> tuple[list[dict[str, Any]], Tokenizer | None, Division | None]:
        if not self._config.data.tokenize:
            return [], None, None
        documents = self._folder / "documents"
        names = [receipt["documents_file"] for receipt in receipts if receipt["documents_file"]]
        files = [DocumentFile.open(documents / name) for name in names]
        tokenizer = self._own_tokenizer.choose(files, given)
        seed = self._config.system.seed
        division = divide_documents(files, self._config.data.train_split, seed, self._work / "compared", self._compare)
        self._used |= set(division.files)
        mixture = self._config.data.mixture
        keys = [
            digest(file.path.name, tokenizer.fingerprint, json.dumps([split, mixture, seed], sort_keys=True))
            for file, split in zip(files, division.splits, strict=True)
        ]
        (self._folder / "tokens").mkdir(exist_ok=True)
        paths = [self._work / "tokenized" / f"{key}.json" for key in keys]
        wanted = [
            {"unit": number, "path": str(paths[number]), "documents": str(file.path), "split": split, "key": key[:24]}
            for number, (file, split, key) in enumerate(zip(files, division.splits, keys, strict=True))
            if not self._is_tokenized(paths[number])
        ]
        self._run("tokenize", wanted, len(paths), tokenizer=str(self._folder / "tokenizer"), mixture=mixture, seed=seed)
        self._used |= set(paths)
        return [json.loads(path.read_text("utf-8")) for path in paths], tokenizer, division

    def _describe_held_out(self, parts: dict[str, dict[str, Any]], division: Division | None) -> dict[str, Any] | None:
        """Return how much of the validation part the training part holds, None without one."""
        if division is None or len(parts) < len(PARTS):
            return None
        train, validation = (open_shards(self._folder / "tokens", parts[part]) for part in PARTS)
        overlap = overlap_of(train, validation)
        return {"documents": division.held_out, "overlap": overlap, "largest": division.overlaps}

    def _is_tokenized(self, receipt: Path) -> bool:
        if not receipt.is_file():
            return False
        values = json.loads(receipt.read_text("utf-8"))
        return all((self._folder / "tokens" / part["file"]).is_file() for part in values.values())

    def _run(self, task: str, wanted: list[dict[str, Any]], total: int, **settings: Any) -> None:
        for unit in wanted:
            Path(unit["path"]).parent.mkdir(parents=True, exist_ok=True)
        self._touched |= {unit["unit"] for unit in wanted if task == "extract"}
        done = total - len(wanted)
        self._progress(task, done, total)
        shared = {
            "data": self._config.data.model_dump(),
            "near": asdict(self._near) if self._near else None,
            "work": str(self._work),
            "folder": str(self._folder),
            **settings,
        }
        for _ in self._engine.run(task, shared, wanted):
            done += 1
            self._progress(task, done, total)
        if done < total:  # the engine's processes were told to stop, and this one was not
            raise DataError(
                f"{counted(total - done, 'unit')} of work stopped: the same command goes on where this one ended"
            )

    def _remove_unused(self, receipts: Iterable[dict[str, Any]], tokens: Iterable[dict[str, Any]]) -> None:
        """Delete what an earlier state of the corpus left."""
        keep = set(self._used)
        for receipt in receipts:
            keep |= {self._folder / kind / str(receipt[f"{kind}_file"]) for kind in ("documents", "dropped")}
        for values in tokens:
            for part in values.values():
                path = self._folder / "tokens" / part["file"]
                keep |= {path, path.with_suffix(".json")}
        remove_own_files(self._folder, keep)


def _reasons(receipts: Iterable[dict[str, Any]]) -> str:
    found: dict[str, int] = {}
    for receipt in receipts:
        for reasons in receipt["reasons"].values():
            for reason, count in reasons.items():
                found[reason] = found.get(reason, 0) + count
    largest = sorted(found.items(), key=lambda item: -item[1])[:3]
    return "; ".join(f"{reason} ({count})" for reason, count in largest) or "no documents in them"
