"""`build`: documents in; a run directory with a trained, evaluated, exported model and a readable summary out."""

from __future__ import annotations

import logging
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from llmbuilder.building.plan import Plan, choose_plan, measured_speed
from llmbuilder.building.summary import write_summary
from llmbuilder.config import load_config
from llmbuilder.config.loading import explicit_settings
from llmbuilder.config.schema import Config
from llmbuilder.config.sizes import count_parameters
from llmbuilder.config.validation import fix_config, validate_config
from llmbuilder.data import DataLoader, Document, TextDataset, default_corpus, write_corpus
from llmbuilder.data.loader import LoadReport
from llmbuilder.data.shards import open_tokens
from llmbuilder.errors import DataError, LLMBuilderError
from llmbuilder.export import GGUFExport, GGUFVerification, export_gguf, verify_gguf
from llmbuilder.export.verification import llamacpp_is_installed
from llmbuilder.files import require_absent
from llmbuilder.inference import generate_text
from llmbuilder.machine import describe_machine
from llmbuilder.model import build_model, load_model
from llmbuilder.tokenizer import Tokenizer, choose_vocab_size
from llmbuilder.training import Callback, TrainingResults, train_model

logger = logging.getLogger("llmbuilder")
DEFAULT_SECONDS = 150.0
_SMALL_CORPUS = 100_000  # characters
_EXPORT_RESERVE = 5.0  # seconds left for samples, export and its check, and one more for every
_PARAMETERS_A_SECOND = 10_000_000
_LEAST_TRAINING = 10.0
_EVALUATIONS, _CHECKPOINTS, _LOG_LINES = 10, 5, 200  # in the course of a planned run


@dataclass
class BuildResult:
    """Everything a build ends with; `bits_per_byte` and `perplexity` are of the validation part."""

    output: str
    model_path: str
    gguf_path: str | None
    documents: dict[str, Any]
    plan: str | None
    training: TrainingResults
    bits_per_byte: float | None
    samples: list[str]
    export: GGUFExport | None
    verification: GGUFVerification | None
    seconds: float
    machine: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, without the step-by-step history."""
        values = asdict(self)
        values["training"].pop("history")
        return values


def build(
    documents: str | Path | Sequence[str | Path] | None,
    output: str | Path,
    *,
    preset: str | None = None,
    config: Config | None = None,
    time_budget: float | None = None,
    overrides: Iterable[str] = (),
    quantization: str = "f16",
    overwrite: bool = False,
    announce: Callable[[str], None] = lambda message: None,
    callbacks: Sequence[Callback] | None = None,
) -> BuildResult:
    """Read documents, clean and deduplicate them, train a tokenizer and a model, evaluate, sample and export.

    `documents` is a folder, a file or several of them; None takes the running interpreter's own documentation.
    Without a preset or config the model is chosen for the corpus, the machine and `time_budget`, the seconds for
    the whole build (default 150). `overrides` are "section.key=value" settings that always win.

    Raises CheckpointError or DataError if `output` holds something, DataError if there is nothing to read.
    """
    begin = time.perf_counter()
    folder = Path(output)
    require_absent(folder, overwrite=overwrite)
    given = list(overrides)
    planned = config.copy_of() if config is not None else load_config(preset=preset, overrides=given)
    choose = preset is None and config is None

    announce("Reading documents")
    corpus, report = _read_corpus(documents, folder, planned)
    announce(_reading_summary(report))
    if report.characters < _SMALL_CORPUS:
        logger.warning(
            f"{report.characters:,} characters are very little to learn language from: expect a model that repeats "
            f"them; {_SMALL_CORPUS:,} or more make a start"
        )

    seconds = time_budget if time_budget is not None else DEFAULT_SECONDS if choose else None
    if choose:
        _choose_vocabulary(planned, report, given)
    tokenizer = _get_tokenizer(corpus, planned, announce)
    if choose:
        planned, plan = _plan(planned, corpus, tokenizer, given, begin, seconds or DEFAULT_SECONDS)
        announce(f"Plan: {plan.summary()}")
    else:
        plan = None
        planned.model.vocab_size = max(planned.model.vocab_size, len(tokenizer))
    if seconds is not None:
        reserve = _EXPORT_RESERVE + count_parameters(planned.model) / _PARAMETERS_A_SECOND
        left = seconds - (time.perf_counter() - begin) - reserve
        planned.training.time_budget_seconds = max(_LEAST_TRAINING, left)
    if not validate_config(planned)[0]:
        planned = fix_config(planned)  # says what it changes

    dataset = TextDataset.from_config(corpus, planned, tokenizer)
    model = build_model(planned)
    planned.training.output_dir = None
    results = train_model(model, dataset, planned, folder, callbacks, overwrite=overwrite)

    announce("Writing samples" if results.interrupted else "Evaluating, sampling, exporting")
    trained = load_model(folder / "model.pt", planned.system.device)
    samples = _samples(trained, corpus, planned)
    exported, verification = _export(trained, folder, tokenizer, quantization, corpus)
    result = BuildResult(
        output=str(folder),
        model_path=str(folder / "model.pt"),
        gguf_path=exported.path if exported else None,
        documents=report.to_dict(),
        plan=plan.summary() if plan else None,
        training=results,
        bits_per_byte=_bits_per_byte(results, folder),
        samples=samples,
        export=exported,
        verification=verification,
        seconds=time.perf_counter() - begin,
        machine=describe_machine(),
    )
    write_summary(folder, result)
    return result


def plan_build(
    documents: str | Path | Sequence[str | Path] | None,
    *,
    time_budget: float = DEFAULT_SECONDS,
    overrides: Iterable[str] = (),
    announce: Callable[[str], None] = lambda message: None,
) -> Plan:
    """Return what `build` would train, and the loss to expect, from the documents and a short measurement.

    Nothing is left on the disk. Raises DataError if there is nothing to read.
    """
    begin = time.perf_counter()
    given = list(overrides)
    planned = load_config(overrides=given)
    with tempfile.TemporaryDirectory(prefix="llmbuilder-plan-") as folder:
        announce("Reading documents")
        corpus, report = _read_corpus(documents, Path(folder) / "run", planned)
        announce(_reading_summary(report))
        _choose_vocabulary(planned, report, given)
        tokenizer = _get_tokenizer(corpus, planned, announce)
        return _plan(planned, corpus, tokenizer, given, begin, time_budget)[1]


def _choose_vocabulary(config: Config, report: LoadReport, given: list[str]) -> None:
    config.model.vocab_size = choose_vocab_size(report.characters)
    _apply(config, explicit_settings(given))


def _read_corpus(
    documents: str | Path | Sequence[str | Path] | None, folder: Path, config: Config
) -> tuple[Path, LoadReport]:
    loader = DataLoader.from_config(config.data)
    corpus = folder / "corpus.txt"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        write_corpus(_documents(documents, loader), corpus, loader.report, overwrite=True)
    except LLMBuilderError:
        if not any(folder.iterdir()):
            folder.rmdir()  # nothing was made: leave no empty directory behind
        raise
    return corpus, loader.report


def _documents(sources: str | Path | Sequence[str | Path] | None, loader: DataLoader) -> Iterator[Document]:
    if sources is None:
        yield from loader.process(default_corpus())
        return
    for source in [sources] if isinstance(sources, str | Path) else sources:
        path = Path(source)
        if not path.exists():
            raise DataError(f"no such file or folder: {path}")
        yield from loader.iter_directory(path) if path.is_dir() else loader.load_file(path)


def _reading_summary(report: LoadReport) -> str:
    formats = ", ".join(f"{count} {name}" for name, count in sorted(report.formats.items()))
    text = f"{report.documents:,} documents, {report.characters:,} characters ({formats})"
    if report.duplicates:
        text += f"; {len(report.duplicates)} duplicates removed"
    return text + (f"; {len(report.skipped)} files skipped" if report.skipped else "")


def _get_tokenizer(corpus: Path, config: Config, announce: Callable[[str], None]) -> Tokenizer:
    if config.tokenizer.path is not None:
        return Tokenizer.from_pretrained(config.tokenizer.path)
    size = config.tokenizer.vocab_size or config.model.vocab_size
    announce(f"Training a {config.tokenizer.algorithm} tokenizer of {size:,} tokens")
    return TextDataset(corpus, block_size=1).learn_tokenizer(
        vocab_size=size, algorithm=config.tokenizer.algorithm, min_frequency=config.tokenizer.min_frequency
    )


def _plan(
    config: Config, corpus: Path, tokenizer: Tokenizer, given: list[str], begin: float, seconds: float
) -> tuple[Config, Plan]:
    """Choose the shape and the recipe; settings the user gave override both."""
    with open(corpus, encoding="utf-8") as handle:
        sample = handle.read(200_000)
    size = len(sample.encode("utf-8"))
    bytes_per_token = size / max(1, len(tokenizer.encode(sample)))
    tokens = int(corpus.stat().st_size / bytes_per_token * config.data.train_split)
    speed = measured_speed(config)
    training_seconds = max(_LEAST_TRAINING, seconds - (time.perf_counter() - begin) - _EXPORT_RESERVE)
    plan = choose_plan(config, tokens, len(tokenizer), training_seconds, speed, bytes_per_token)
    every = max(1, plan.steps // _EVALUATIONS)
    plan.config.training.eval_every = every
    plan.config.training.save_every = max(1, plan.steps // _CHECKPOINTS)
    plan.config.training.log_every = max(1, plan.steps // _LOG_LINES)
    _apply(plan.config, explicit_settings(given))
    return plan.config, plan


def _apply(config: Config, settings: Mapping[str, Mapping[str, Any]]) -> None:
    """Set what the user asked for; its names and types were checked when the configuration was loaded."""
    for section, values in settings.items():
        for key, value in values.items():
            setattr(getattr(config, section), key, value)


def _samples(model: Any, corpus: Path, config: Config) -> list[str]:
    """Continue the beginnings of a few documents of the corpus."""
    with open(corpus, encoding="utf-8") as handle:
        text = handle.read(1 << 20)
    starts = [part.strip() for part in text.split("\n\n") if len(part.split()) >= 8]
    chosen = starts[:: max(1, len(starts) // 3)][:3] or [text[:40]]
    prompts = [" ".join(start.split()[:4]) for start in chosen]
    settings = config.generation.model_copy(update={"max_new_tokens": 80, "num_samples": 1})
    return generate_text(model, prompt=prompts, config=settings, seed=config.system.seed)


def _export(
    model: Any, folder: Path, tokenizer: Tokenizer, quantization: str, corpus: Path
) -> tuple[GGUFExport | None, GGUFVerification | None]:
    if not tokenizer.has_gguf_form:
        return None, None
    exported = export_gguf(model, folder / "model.gguf", quantization, name=folder.name, overwrite=True)
    if not llamacpp_is_installed():
        return exported, None
    with open(corpus, encoding="utf-8") as handle:
        text = handle.read(4000)
    texts = [part for part in (text[:400], text[400:800], text[2000:2400]) if part.strip()]
    return exported, verify_gguf(folder / "model.gguf", model, texts, greedy_tokens=32)


def _bits_per_byte(results: TrainingResults, folder: Path) -> float | None:
    path = folder / "tokens" / "validation.bin"
    if results.best_validation_loss is None or not path.is_file():
        return None
    info = open_tokens(path)[1]
    return results.best_validation_loss * info.tokens / info.bytes_of_text / math.log(2)
