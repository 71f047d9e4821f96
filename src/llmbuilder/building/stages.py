"""The stages of a build, each done once, whatever process does it."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from llmbuilder.building.ability import describe_ability
from llmbuilder.building.beginnings import held_out_beginnings
from llmbuilder.building.corpus_text import BuildText, read_text
from llmbuilder.building.held_out import held_out_names
from llmbuilder.building.journal import Journal
from llmbuilder.building.modelfile import write_modelfile
from llmbuilder.building.passages import Comparison, compare_writing
from llmbuilder.building.planning import (
    LEAST_TRAINING,
    choose_vocabulary,
    ending_seconds,
    find_tokenizer,
    make_plan,
    open_text,
    reserved_seconds,
)
from llmbuilder.building.result import Adaptation, BuildResult, Expectation, Sample
from llmbuilder.building.summary import write_summary
from llmbuilder.config.loading import build_config, read_config
from llmbuilder.config.schema import Config, GenerationConfig
from llmbuilder.config.sizes import count_parameters
from llmbuilder.config.validation import fix_config, validate_config
from llmbuilder.corpus.load_report import LoadReport
from llmbuilder.data import TextDataset
from llmbuilder.errors import ExportError, NoCheckpointError
from llmbuilder.evaluation import bits_per_byte
from llmbuilder.export import GGUFExport, GGUFVerification, export_gguf, verify_gguf
from llmbuilder.export.verification import llamacpp_is_installed
from llmbuilder.files import read_json_lines, remove_path
from llmbuilder.formats.model_file import load_model
from llmbuilder.inference import Generator
from llmbuilder.machine import describe_machine, slowdown
from llmbuilder.model import LanguageModel, build_model
from llmbuilder.report import has_metrics, write_run_report
from llmbuilder.report.build import SUMMARY_NAME
from llmbuilder.stages import Progress
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.training import Callback, TrainingResults, resume_training, train_model
from llmbuilder.training.storage.checkpoints import list_checkpoints, remove_checkpoint
from llmbuilder.training.storage.model_files import run_name
from llmbuilder.training.storage.paths import RunPaths
from llmbuilder.training.storage.run_record import open_dataset
from llmbuilder.training.storage.run_tokens import prepare_tokens
from llmbuilder.training.storage.unfinished import remove_temporary

logger = logging.getLogger("llmbuilder")
DEFAULT_SECONDS = 110.0
_SAMPLES = 3
_SMALL_CORPUS = 100_000  # characters
_FILES = r"corpus\.txt(\.manifest\.json)?|build\.json|model\.gguf|summary\.(md|json)|Modelfile|report\.html"
_UNFINISHED = re.compile(rf"\.({_FILES})\.\w{{8}}\.tmp$")


class Build:
    """One build at work: what the journal says is done is taken from the disk, the rest is done.

    `begin` is when the build began, on `time.perf_counter`, as if it had never been stopped.
    """

    default_seconds = DEFAULT_SECONDS

    def __init__(
        self,
        journal: Journal,
        announce: Callable[[str], None],
        callbacks: Sequence[Callback] | None,
        *,
        progress: Progress,
        begin: float,
        overrides: Iterable[str] = (),
    ) -> None:
        request = journal.request
        self.journal = journal
        self.folder = journal.folder
        self.paths = RunPaths.choose(self.folder)
        self._own_tokenizer = self.folder / ".build-tokenizer"
        self.announce = announce
        self.callbacks = callbacks
        self.progress = progress
        self.overrides = list(overrides)  # of a run that goes on
        self.begin = begin
        self.chooses: bool = request["chooses"]
        self.quantization: str = request["quantization"]
        self.explicit: dict[str, Any] = request["explicit"]
        budget = request["time_budget"]
        self.seconds: float | None = budget if budget is not None else self.default_seconds if self.chooses else None
        self.config = build_config(request["settings"], "the settings of this build")

    def run(self) -> BuildResult:
        """Do what is left to do, and return the result."""
        journal = self.journal
        remove_temporary(self.folder, _UNFINISHED)  # what a killed build was writing
        if not journal.has("training"):
            _ = self.text, self.tokenizer, self.planned
        results = self._trained()
        found = journal.carry_out("evaluation", lambda: self._evaluate(results))
        samples = [Sample(**one) for one in journal.carry_out("samples", lambda: [asdict(s) for s in self._samples()])]
        exported = journal.carry_out("export", self._export, is_there=_is_file)
        checked = journal.carry_out("check", lambda: self._check(exported))
        plan = journal.left_by("plan")
        result = BuildResult(
            output=str(self.folder),
            model_path=str(self.paths.model),
            gguf_path=exported and exported["file"]["path"],
            documents=self.text.report.to_dict(),
            plan=plan["summary"],
            expected=Expectation.from_dict(plan["expected"]) if plan.get("expected") else None,
            training=results,
            bits_per_byte=found["bits_per_byte"],
            samples=samples,
            export=GGUFExport(**exported["file"]) if exported else None,
            verification=GGUFVerification(**checked) if checked else None,
            seconds=time.perf_counter() - self.begin,
            machine=describe_machine(),
            held_out=found["held_out"],
            ability=found["ability"],
            copied_share=found["copied_share"],
            longest_copied=found.get("longest_copied", ""),
            adaptation=Adaptation.from_dict(found["adaptation"]) if found.get("adaptation") else None,
            modelfile=exported and exported["modelfile"],
            parameters=found["parameters"],
        )
        journal.carry_out("summary", lambda: self._write_pages(result), is_there=lambda _: self._has_pages())
        remove_path(self._own_tokenizer)
        return result

    @property
    def _has_run(self) -> bool:
        """Whether the run in the folder is this build's, and none that it is to replace."""
        return run_name(self.paths) not in (None, self.journal.replaces)

    @cached_property
    def text(self) -> BuildText:
        """The documents, read."""
        left = self.journal.carry_out("documents", self._read, is_there=_is_unchanged)
        report = LoadReport.from_state(left["report"])
        tokenizer = Path(left["tokenizer"]) if left["tokenizer"] else None
        return BuildText(Path(left["path"]), report, left["bytes"], tokenizer, left["tokenizer_settings"])

    def _read(self) -> dict[str, Any]:
        self.announce("Reading documents")
        documents = self.journal.request["documents"]
        text = read_text(
            documents if documents is not None else self.config.data.path, self.folder, self.config, self.progress
        )
        self.announce(text.summary())
        if text.report.characters < _SMALL_CORPUS:
            logger.warning(
                f"{text.report.characters:,} characters are very little to learn language from: expect a model that "
                f"repeats them; {_SMALL_CORPUS:,} or more make a start"
            )
        return {
            "path": str(text.path),
            "bytes": text.bytes,
            "report": text.report.to_state(),
            "tokenizer": str(text.tokenizer) if text.tokenizer else None,
            "tokenizer_settings": text.tokenizer_settings,
        }

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer: in the run, or, before that begins, in a place of the build's."""
        left = self.journal.carry_out(
            "tokenizer", self._make_tokenizer,
            is_there=lambda left: any(found.fingerprint == left["fingerprint"] for found in self._tokenizers()),
        )  # fmt: skip
        return next(found for found in self._tokenizers() if found.fingerprint == left["fingerprint"])

    def _make_tokenizer(self) -> dict[str, Any]:
        if self.chooses:
            choose_vocabulary(self.config, self.text.report.characters, self.explicit)
        tokenizer = find_tokenizer(self.text, self.config, self.announce)
        tokenizer.save_pretrained(self._own_tokenizer)
        return {"fingerprint": tokenizer.fingerprint, "size": len(tokenizer)}

    def _tokenizers(self) -> Iterator[Tokenizer]:
        for folder in (self._own_tokenizer, self.paths.tokenizer):
            if (folder / "tokenizer.json").is_file():
                yield Tokenizer.from_pretrained(folder)

    @cached_property
    def dataset(self) -> TextDataset:
        """The text as tokens: those of the run, once it has begun."""
        if self._has_run and "dataset" in self.paths.read_record():
            return self.run_tokens
        dataset = open_text(self.text, self.config, self.tokenizer)
        prepare_tokens(dataset, self.paths)
        return dataset

    @cached_property
    def run_tokens(self) -> TextDataset:
        """The tokens that the run was trained on, and its validation part."""
        return open_dataset(self.paths)

    @cached_property
    def planned(self) -> Config:
        """What is trained, and how: the plan, or what was given in its place."""
        left = self.journal.carry_out("plan", self._plan)
        return build_config(left["config"], "the plan of this build")

    def _plan(self) -> dict[str, Any]:
        config, summary, expected = self.config, None, None
        seconds = self.seconds
        if self.chooses:
            assert seconds is not None
            plan = make_plan(config, self.dataset, self.explicit, self.begin, seconds, self.announce)
            config, summary, expected = plan.config, plan.summary(), asdict(plan.expectation())
            self.announce(f"Plan: {summary}")
        else:
            config.model.vocab_size = max(config.model.vocab_size, len(self.tokenizer))
        self._keep_in_time(config, ending_seconds(self.dataset.info.tokens, count_parameters(config.model)))
        if not validate_config(config)[0]:
            config = fix_config(config)  # says what it changes
        config.training.output_dir = None
        return {"config": config.to_dict(), "summary": summary, "expected": expected}

    def _keep_in_time(self, config: Config, alone: float) -> None:
        """Give the run what is left of the build's time; what follows training takes `alone` on a quiet machine."""
        if self.seconds is not None and config.training.time_budget_seconds is None:
            reserve = reserved_seconds(alone, slowdown(), self.seconds)
            left = self.seconds - (time.perf_counter() - self.begin)
            config.training.time_budget_seconds = max(LEAST_TRAINING + reserve, left)
            config.training.time_reserve_seconds = reserve

    def _trained(self) -> TrainingResults:
        """Return the results of training; the step-by-step history is in metrics.jsonl."""
        left = self.journal.carry_out("training", self._train, is_there=lambda _: self.paths.model.is_file())
        told = {name: value for name, value in left.items() if name != "run"}
        return TrainingResults(**{**told, "history": read_json_lines(self.paths.metrics)})

    def _train(self) -> dict[str, Any]:
        results = None
        if self._has_run and list_checkpoints(self.paths.checkpoints):
            results = self._resume()
        if results is None:
            results = self._begin_training(self.planned.copy_of(), self.dataset)
        self.announce("Evaluating, sampling, exporting")
        return {**results.to_dict(), "history": [], "run": run_name(self.paths)}

    def _resume(self) -> TrainingResults | None:
        """Go on with the run; None, and its checkpoints gone, if none of them is whole."""
        with self.journal.changing(self.overrides):
            try:
                return resume_training(self.folder, overrides=self.overrides, callbacks=self.callbacks)
            except NoCheckpointError as error:
                self.announce(f"{error}, and it does, with the same text, tokenizer and plan")
        for path in list_checkpoints(self.paths.checkpoints):
            remove_checkpoint(path)
        return None

    def _begin_training(self, config: Config, dataset: TextDataset) -> TrainingResults:
        dataset.set_configured_windows(config.model.max_seq_length, config.data)
        return train_model(
            build_model(config), dataset, config, self.folder, self.callbacks,
            overwrite=not self._has_run, continue_run=self._has_run,
        )  # fmt: skip

    @cached_property
    def model(self) -> LanguageModel:
        """The trained model."""
        return load_model(self.paths.model, self.config.system.device)

    def _evaluate(self, results: TrainingResults) -> dict[str, Any]:
        bits = self._bits_per_byte(results)
        writing = compare_writing(Generator(self.model), self.run_tokens)
        text = open_text(self.text, self.config, self.tokenizer)
        return {
            "bits_per_byte": bits,
            "ability": self._describe_ability(writing, bits),
            "copied_share": writing.copied,
            "longest_copied": writing.longest_copied,
            "held_out": held_out_names(text, self.text.path) if self.run_tokens.validation is not None else [],
            "parameters": count_parameters(self.model.config),
        }

    def _describe_ability(self, writing: Comparison, bits: float | None) -> str:
        return describe_ability(writing, bits)

    def _bits_per_byte(self, results: TrainingResults) -> float | None:
        """Return the bits per byte that the best validation loss comes to; None where nothing was validated."""
        validation = self.run_tokens.validation
        if results.best_validation_loss is None or validation is None:
            return None
        settings = read_config(self.paths.config).training  # the run's own: what was to be chosen has a number there
        return bits_per_byte(self.model, validation, self.tokenizer, settings.batch_size, settings.eval_batches)

    def _samples(self) -> list[Sample]:
        """Continue the beginnings of a few documents that were held out."""
        return self._write_after_beginnings(self.model, self.run_tokens, self.planned.generation)

    def _write_after_beginnings(
        self, model: LanguageModel, dataset: TextDataset, generation: GenerationConfig
    ) -> list[Sample]:
        prompts = held_out_beginnings(dataset, _SAMPLES)
        settings = generation.model_copy()
        settings.seed = self.config.system.seed if settings.seed is None else settings.seed
        found = Generator(model).generate(prompts, settings)
        return [Sample(prompt, text) for prompt, texts in zip(prompts, found, strict=True) for text in texts]

    def _export(self) -> dict[str, Any] | None:
        if not self.tokenizer.has_gguf_form:
            return None
        name, context = self.folder.resolve().name, self.model.config.max_seq_length
        file = export_gguf(self.model, self.folder / "model.gguf", self.quantization, name=name, overwrite=True)
        modelfile = write_modelfile(
            Path(file.path), self.planned.generation, context=context, ending=self.tokenizer.end_of_text,
            ability=self.journal.left_by("evaluation")["ability"],
            has_template="chat_template" in self.model.metadata,
        )  # fmt: skip
        return {"file": asdict(file), "modelfile": str(modelfile)}

    def _write_pages(self, result: BuildResult) -> None:
        write_summary(self.folder, result)
        if has_metrics(self.folder):
            write_run_report(self.folder)  # again, with what is known only now

    def _has_pages(self) -> bool:
        return all((self.folder / name).is_file() for name in (SUMMARY_NAME, "summary.md"))

    def _check(self, exported: dict[str, Any] | None) -> dict[str, Any] | None:
        if exported is None or not llamacpp_is_installed():
            return None
        start = self.text.beginning(4000)
        texts = [part for part in (start[:400], start[400:800], start[2000:2400]) if part.strip()]
        try:
            return asdict(verify_gguf(exported["file"]["path"], self.model, texts, greedy_tokens=32))
        except ExportError:
            Path(exported["file"]["path"]).unlink(missing_ok=True)  # what failed its check is nobody's to use
            raise


def _is_file(exported: dict[str, Any] | None) -> bool:
    return exported is None or (Path(exported["file"]["path"]).is_file() and Path(exported["modelfile"]).is_file())


def _is_unchanged(text: dict[str, Any]) -> bool:
    path = Path(text["path"])
    return path.is_dir() or (path.is_file() and path.stat().st_size == text["bytes"])
