"""`build`: documents in; a run directory with a trained, evaluated, exported model and a readable summary out."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llmbuilder.building.beginnings import held_out_beginnings
from llmbuilder.building.corpus_text import BuildText, read_text
from llmbuilder.building.plan import Plan, choose_plan, require_useful
from llmbuilder.building.result import BuildResult
from llmbuilder.building.speed import measured_speed
from llmbuilder.building.summary import write_summary
from llmbuilder.config import load_config
from llmbuilder.config.in_force import refuse, require_taken
from llmbuilder.config.loading import explicit_settings
from llmbuilder.config.schema import Config
from llmbuilder.config.sizes import count_parameters
from llmbuilder.config.validation import fix_config, validate_config
from llmbuilder.corpus.load_report import LoadReport
from llmbuilder.data import TextDataset
from llmbuilder.evaluation import bits_per_byte
from llmbuilder.evaluation.ngrams import ngram_bits_per_byte
from llmbuilder.evaluation.token_bytes import mean_token_bytes, token_bytes
from llmbuilder.export import GGUFExport, GGUFVerification, export_gguf, verify_gguf
from llmbuilder.export.verification import llamacpp_is_installed
from llmbuilder.files import require_absent
from llmbuilder.formats.model_file import load_model
from llmbuilder.inference import generate_text
from llmbuilder.machine import describe_machine
from llmbuilder.model import LanguageModel, build_model
from llmbuilder.tokenizer import Tokenizer, choose_vocab_size
from llmbuilder.tokenizer.in_force import require_made_as
from llmbuilder.training import Callback, StoppedRun, TrainingResults, train_model
from llmbuilder.training.storage.paths import RunPaths
from llmbuilder.training.storage.run_tokens import prepare_tokens

logger = logging.getLogger("llmbuilder")
DEFAULT_SECONDS = 150.0
_SMALL_CORPUS = 100_000  # characters
_EXPORT_RESERVE = 5.0  # seconds left for samples, export and its check, and one more for every
_PARAMETERS_A_SECOND = 10_000_000
_LEAST_TRAINING = 10.0
_MEASURING_SHARE = 0.03  # of the budget, for speeds alone; the plan as a whole takes less than 5%
_SAMPLES = 3
_EVALUATIONS, _CHECKPOINTS, _LOG_LINES = 10, 5, 200  # in the course of a planned run


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

    `documents` is a folder, a file or several of them; None takes data.path, or the running interpreter's own
    documentation. A setting that was asked for and would not act is a ConfigError.
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
    _require_buildable(planned, given, {"time_budget": time_budget, "documents": documents, "output": output})

    announce("Reading documents")
    text = read_text(documents if documents is not None else planned.data.path, folder, planned)
    report = text.report
    announce(text.summary())
    _warn_if_small(report)

    seconds = time_budget if time_budget is not None else DEFAULT_SECONDS if choose else None
    if choose:
        _choose_vocabulary(planned, report, given)
    tokenizer = _get_tokenizer(text, planned, announce)
    # The text is read already; the settings of reading have acted.
    dataset = TextDataset(text.path, 1, None, planned.data.train_split, tokenizer, seed=planned.system.seed)
    prepare_tokens(dataset, RunPaths.choose(folder))
    if choose:
        planned, plan = _plan(planned, dataset, given, begin, seconds or DEFAULT_SECONDS, announce)
        announce(f"Plan: {plan.summary()}")
    else:
        plan = None
        planned.model.vocab_size = max(planned.model.vocab_size, len(tokenizer))
    if seconds is not None and planned.training.time_budget_seconds is None:
        reserve = _EXPORT_RESERVE + count_parameters(planned.model) / _PARAMETERS_A_SECOND
        left = seconds - (time.perf_counter() - begin) - reserve
        planned.training.time_budget_seconds = max(_LEAST_TRAINING, left)
    if not validate_config(planned)[0]:
        planned = fix_config(planned)  # says what it changes

    dataset.set_windows(planned.model.max_seq_length, planned.data.stride)
    model = build_model(planned)
    planned.training.output_dir = None
    try:
        results = train_model(model, dataset, planned, folder, callbacks, overwrite=overwrite)
    except StoppedRun as stopped:  # what there is becomes a model, too
        results = stopped.results

    announce("Writing samples" if results.interrupted else "Evaluating, sampling, exporting")
    trained = load_model(folder / "model.pt", planned.system.device)
    samples = _samples(trained, dataset, planned)
    exported, verification = _export(trained, folder, tokenizer, quantization, text)
    result = BuildResult(
        output=str(folder),
        model_path=str(folder / "model.pt"),
        gguf_path=exported.path if exported else None,
        documents=report.to_dict(),
        plan=plan.summary() if plan else None,
        training=results,
        bits_per_byte=_bits_per_byte(trained, results, dataset, tokenizer, planned),
        samples=samples,
        export=exported,
        verification=verification,
        seconds=time.perf_counter() - begin,
        machine=describe_machine(),
    )
    write_summary(folder, result)
    return result


def _require_buildable(config: Config, given: list[str], arguments: Mapping[str, object]) -> None:
    """Raise ConfigError for what was asked for in vain; `arguments` are those that stand in a setting's place."""
    named = {name: name if value is not None else None for name, value in arguments.items()}
    replaced = {
        "training.output_dir": named.get("output")
        if str(arguments.get("output")) != config.training.output_dir
        else None,
        "training.time_budget_seconds": named.get("time_budget"),
        "data.path": named.get("documents"),
    }
    require_taken("build", given, config, replaced=replaced)
    if config.training.eval_only:
        refuse(["training.eval_only"], "a build trains: use `llmbuilder model evaluate`")
    if config.training.init_from == "resume":
        refuse(["training.init_from"], "a build begins a run: go on with one by `llmbuilder train resume`")


def _warn_if_small(report: LoadReport) -> None:
    if report.characters < _SMALL_CORPUS:
        logger.warning(
            f"{report.characters:,} characters are very little to learn language from: expect a model that repeats "
            f"them; {_SMALL_CORPUS:,} or more make a start"
        )


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
    _require_buildable(planned, given, {"documents": documents})
    with tempfile.TemporaryDirectory(prefix="llmbuilder-plan-") as folder:
        announce("Reading documents")
        text = read_text(documents if documents is not None else planned.data.path, Path(folder) / "run", planned)
        announce(text.summary())
        _choose_vocabulary(planned, text.report, given)
        tokenizer = _get_tokenizer(text, planned, announce)
        dataset = TextDataset(text.path, 1, None, planned.data.train_split, tokenizer, seed=planned.system.seed)
        dataset.prepare(Path(folder) / "tokens")
        return _plan(planned, dataset, given, begin, time_budget, announce)[1]


def _choose_vocabulary(config: Config, report: LoadReport, given: list[str]) -> None:
    config.model.vocab_size = choose_vocab_size(report.characters)
    _apply(config, explicit_settings(given))


def _get_tokenizer(text: BuildText, config: Config, announce: Callable[[str], None]) -> Tokenizer:
    place = config.tokenizer.path or text.tokenizer
    if place is not None:
        found = Tokenizer.from_pretrained(place)
        require_made_as(config.tokenizer, found, place, None if config.tokenizer.path else text.tokenizer_settings)
        return found
    size = config.tokenizer.vocab_size or config.model.vocab_size
    announce(f"Training a {config.tokenizer.algorithm} tokenizer of {size:,} tokens")
    return TextDataset(text.path, block_size=1).learn_tokenizer(vocab_size=size, **config.tokenizer.training_options)


def _plan(
    config: Config,
    dataset: TextDataset,
    given: list[str],
    begin: float,
    seconds: float,
    announce: Callable[[str], None],
) -> tuple[Config, Plan]:
    """Choose the shape and the recipe; settings the user gave override both.

    What is expected is in bytes, and in tokens as the result is: by the bytes of the tokens that will validate.
    """
    assert dataset.tokenizer is not None
    vocabulary, scored = len(dataset.tokenizer), dataset.validation or dataset.train
    sizes = token_bytes(dataset.tokenizer)
    announce("Measuring how predictable the text is, and how fast this machine trains")
    # Seen text is predicted better than any model will do, and says nothing of how hard the text is.
    ngram_bits = ngram_bits_per_byte(dataset.train.tokens, scored.tokens, sizes) if dataset.validation else None
    speed = measured_speed(config, _MEASURING_SHARE * seconds)
    left = max(_LEAST_TRAINING, seconds - (time.perf_counter() - begin) - _EXPORT_RESERVE)
    training_seconds = config.training.time_budget_seconds or left
    plan = choose_plan(
        config, dataset.info.tokens, vocabulary, training_seconds, speed, mean_token_bytes(scored.tokens, sizes),
        ngram_bits=ngram_bits, besides=max(0.0, seconds - training_seconds),
    )  # fmt: skip
    require_useful(plan, seconds)
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


def _samples(model: Any, dataset: TextDataset, config: Config) -> list[str]:
    """Continue the beginnings of a few documents that were held out."""
    prompts = held_out_beginnings(dataset, _SAMPLES)
    settings = config.generation.model_copy()
    settings.seed = config.system.seed if settings.seed is None else settings.seed
    found = generate_text(model, prompt=prompts, config=settings)
    return found if settings.num_samples == 1 else [sample for samples in found for sample in samples]


def _export(
    model: Any, folder: Path, tokenizer: Tokenizer, quantization: str, text: BuildText
) -> tuple[GGUFExport | None, GGUFVerification | None]:
    if not tokenizer.has_gguf_form:
        return None, None
    exported = export_gguf(model, folder / "model.gguf", quantization, name=folder.name, overwrite=True)
    if not llamacpp_is_installed():
        return exported, None
    start = text.beginning(4000)
    texts = [part for part in (start[:400], start[400:800], start[2000:2400]) if part.strip()]
    return exported, verify_gguf(folder / "model.gguf", model, texts, greedy_tokens=32)


def _bits_per_byte(
    model: LanguageModel, results: TrainingResults, dataset: TextDataset, tokenizer: Tokenizer, config: Config
) -> float | None:
    """Return the bits per byte that the best validation loss comes to; None where nothing was validated."""
    if results.best_validation_loss is None or dataset.validation is None:
        return None
    settings = config.training
    return bits_per_byte(model, dataset.validation, tokenizer, settings.batch_size, settings.eval_batches)
