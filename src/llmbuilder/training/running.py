"""`train_model` and `resume_training`: everything around the loop."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from llmbuilder.acceleration import Acceleration
from llmbuilder.config.loading import load_config
from llmbuilder.config.recipe import resolve_recipe
from llmbuilder.config.schema import Config, TrainingConfig, section_of, whole_config
from llmbuilder.config.sizes import estimate_training_memory
from llmbuilder.config.validation import require_valid
from llmbuilder.data.dataset import TextDataset
from llmbuilder.errors import DataError, TokenizerError, TrainingError
from llmbuilder.files import read_json_lines, set_aside
from llmbuilder.formats.model_file import load_model
from llmbuilder.locking import locked_folder
from llmbuilder.machine import describe_machine, memory_bytes
from llmbuilder.model import LanguageModel, build_model
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.training.display.callbacks import Callback
from llmbuilder.training.display.metrics_file import MetricsFile
from llmbuilder.training.display.progress import TrainingProgress
from llmbuilder.training.display.run_report import RunReport
from llmbuilder.training.display.sinks import open_sinks
from llmbuilder.training.loop.trainer import Trainer
from llmbuilder.training.processes.distributed import Processes, is_restarted, joined_processes, process_device
from llmbuilder.training.results import TrainingResults
from llmbuilder.training.storage.checkpoints import TrainingState, list_checkpoints, read_newest_checkpoint
from llmbuilder.training.storage.paths import RunPaths

logger = logging.getLogger("llmbuilder")
_SAME_MACHINE = ("torch", "platform", "processors", "device", "gpus")


def train_model(
    model: LanguageModel,
    dataset: TextDataset,
    config: Config | TrainingConfig | None = None,
    output_dir: str | Path | None = None,
    callbacks: Sequence[Callback] | None = None,
    *,
    overwrite: bool = False,
) -> TrainingResults:
    """Train `model` on `dataset` and return the results.

    `config` is a Config or its training section (which knows the Config it came from). `output_dir` (default:
    training.output_dir) gets everything; with neither, `model.pt` and `tokenizer/` are written to the current
    directory, earlier ones being kept under numbered names. `callbacks` default to a progress display.
    A dataset without a tokenizer takes the model's, the configured, or the run's; else one is learned that fits
    the model's vocabulary. Started by torchrun, the processes train together; the first one does the writing.

    Raises TrainingError for a non-finite loss or a directory in use, TokenizerError if tokenizer and model do not
    fit, DataError if there is too little text, CheckpointError if `output_dir` holds a run already.
    """
    whole = _resolved_config(model, config)
    _fit_window(dataset, model)
    directory = output_dir if output_dir is not None else whole.training.output_dir
    if whole.training.init_from == "resume" and directory is None:
        raise TrainingError("training.init_from is 'resume', but there is no output directory to resume")
    paths = RunPaths.choose(directory)
    if whole.training.init_from == "resume" or (is_restarted() and list_checkpoints(paths.checkpoints)):
        return resume_training(paths.folder, callbacks=callbacks)
    with joined_processes(whole.system) as processes:
        processes.on_main(lambda: paths.require_free(overwrite=overwrite or is_restarted()))
        if paths.keep_earlier:
            processes.on_main(lambda: set_aside(paths.folder) and None)
        with _locked(paths, processes):
            if whole.training.init_from != "scratch":
                model.load_weights(load_model(whole.training.init_from, "cpu").weights())
            processes.on_main(lambda: _prepare(model, dataset, whole, paths, overwrite=overwrite or is_restarted()))
            if not processes.is_main:
                dataset = _open_dataset(paths)
                model.tokenizer_json = dataset.tokenizer.to_json() if dataset.tokenizer is not None else None
            return _run(model, dataset, whole, paths, callbacks, processes)


def resume_training(
    run_dir: str | Path,
    *,
    overrides: Iterable[str] = (),
    callbacks: Sequence[Callback] | None = None,
) -> TrainingResults:
    """Continue a run from its newest whole checkpoint, exactly where it stopped.

    `overrides` change the run's settings, for example "training.max_steps=20000" to train longer. Any number of
    processes can go on with a run, whatever number began it; the same number repeats it bit for bit.
    Raises TrainingError if there is no run, CheckpointError if no checkpoint of it can be read.
    """
    paths = RunPaths.of_run(run_dir)
    record = paths.read_record()
    if not list_checkpoints(paths.checkpoints):
        raise TrainingError(f"{paths.folder} has no checkpoint yet: start it again with --overwrite")
    config = load_config(paths.config, overrides=overrides)
    with joined_processes(config.system) as processes, _locked(paths, processes):
        state = read_newest_checkpoint(paths.checkpoints)
        processes.on_main(paths.remove_unfinished_writes)
        dataset = _open_dataset(paths)
        tokenizer = dataset.tokenizer
        if state.tokenizer is not None and tokenizer is not None and state.tokenizer != tokenizer.fingerprint:
            raise TrainingError(f"{paths.tokenizer} is not the tokenizer this run was started with")
        model = build_model(config)
        model.tokenizer_json = tokenizer.to_json() if tokenizer is not None else None
        return _run(model, dataset, config, paths, callbacks, processes, state, record)


def _locked(paths: RunPaths, processes: Processes) -> contextlib.AbstractContextManager[None]:
    """Hold the run directory in the main process; the others learn if it is taken."""
    stack = contextlib.ExitStack()
    processes.on_main(lambda: stack.enter_context(locked_folder(paths.folder, TrainingError)))
    return stack  # type: ignore[return-value]


def _prepare(model: LanguageModel, dataset: TextDataset, config: Config, paths: RunPaths, *, overwrite: bool) -> None:
    """Write everything into the run directory that training starts from."""
    tokenizer = _choose_tokenizer(model, dataset, config, paths)
    if not dataset.is_prepared:
        dataset.prepare(paths.tokens)
    _check_vocabulary(model, dataset)
    if overwrite:
        paths.remove_earlier_state()
    if tokenizer is not None:
        _store_tokenizer(tokenizer, paths)
        model.tokenizer_json = tokenizer.to_json()
    config.save(paths.config)
    paths.write_record(_describe_run(dataset, paths))


def _open_dataset(paths: RunPaths) -> TextDataset:
    """Open the dataset that a run's record names. Raises DataError if its tokens are gone."""
    data = paths.read_record()["dataset"]
    tokens = Path(os.path.normpath(paths.folder / data["tokens"]))
    if not tokens.is_dir():
        raise DataError(f"the tokens this run trains on are gone: there is no folder {tokens}")
    tokenizer = Tokenizer.from_pretrained(paths.tokenizer) if paths.tokenizer.is_dir() else None
    dataset = TextDataset(tokens, data["block_size"], data["stride"], tokenizer=tokenizer, seed=data["seed"])
    if dataset.corpus_fingerprint != data.get("corpus"):
        raise DataError(
            f"{tokens} was prepared anew since this run began: its data would be another; start a new run, or prepare "
            "the corpus from the same sources and settings again"
        )
    return dataset


def _is_sharded(config: Config, processes: Processes) -> bool:
    """Whether the model is cut over the processes: when asked for, or when it would not fit into one whole."""
    if processes.count == 1 or config.system.distributed_strategy == "ddp":
        return False
    if config.system.distributed_strategy == "fsdp":
        return True
    needed = estimate_training_memory(config.model, config.training, processes.count).total
    return needed > 0.8 * memory_bytes(process_device(config.system)) and config.training.optimizer != "muon"


def _recorded_acceleration(record: dict[str, Any], processes: Processes) -> Acceleration | None:
    """Return the settings the run was started with, if it goes on on such a machine; they decide the last bits."""
    machine = record.get("machine", {})
    same = all(machine.get(key) == value for key, value in describe_machine().items() if key in _SAME_MACHINE)
    if not same or record.get("processes", 1) != processes.count or "acceleration" not in record:
        return None
    return Acceleration.from_dict(record["acceleration"])


def _run(
    model: LanguageModel,
    dataset: TextDataset,
    config: Config,
    paths: RunPaths,
    callbacks: Sequence[Callback] | None,
    processes: Processes,
    state: TrainingState | None = None,
    record: dict[str, Any] | None = None,
) -> TrainingResults:
    """Fill in what is left to be chosen, record it, and train."""
    is_sharded = _is_sharded(config, processes)
    memory = memory_bytes(process_device(config.system))
    resolve_recipe(config, dataset.info.tokens, memory, is_sharded=is_sharded)
    if processes.is_main:
        _warn_about_memory(config, memory, processes.count, is_sharded=is_sharded)
    processes.on_main(lambda: config.save(paths.config))
    acceleration = _recorded_acceleration(record, processes) if record is not None else None
    watchers = _watchers(config, paths, callbacks, processes)
    trainer = Trainer(
        model, dataset, config, paths, watchers, processes=processes, is_sharded=is_sharded, acceleration=acceleration
    )
    if state is not None:
        trainer.state.history = [line for line in read_json_lines(paths.metrics) if line["step"] <= state.step]
    described = {**(record or _describe_run(dataset, paths)), **_describe_machine(trainer)}
    processes.on_main(lambda: paths.write_record(described))
    _warn_about_warmup(config.training, trainer.state.max_steps)
    return trainer.run(state)


def _warn_about_warmup(training: TrainingConfig, steps: int) -> None:
    if training.warmup_steps >= steps and not training.eval_only:
        logger.warning(
            f"training.warmup_steps ({training.warmup_steps}) covers the whole run of {steps} steps: "
            "the learning rate never reaches its peak"
        )


def _warn_about_memory(config: Config, memory: int, processes: int, *, is_sharded: bool) -> None:
    estimate = estimate_training_memory(config.model, config.training, processes)
    needed = estimate.activations + (estimate.total - estimate.activations) / (processes if is_sharded else 1)
    if needed > memory and not config.training.eval_only:
        logger.warning(
            f"training needs about {needed / 2**30:.1f} GiB in each process ({estimate.activations / 2**30:.1f} of it "
            f"activations), and there are {memory / 2**30:.1f}: a smaller batch_size with more "
            "gradient_accumulation_steps, or gradient_checkpointing=true, needs less"
        )


def _resolved_config(model: LanguageModel, config: Config | TrainingConfig | None) -> Config:
    source = config if isinstance(config, Config) else whole_config(config) if config is not None else None
    whole = (source or Config()).copy_of()
    whole.training = section_of(config, TrainingConfig).model_copy()
    whole.model = model.config.model_copy()
    require_valid(whole, ["training"], "train with these settings", unchecked=["training.warmup_steps"])
    return whole


def _fit_window(dataset: TextDataset, model: LanguageModel) -> None:
    context = model.config.max_seq_length
    if dataset.block_size > context:
        logger.warning(
            f"the dataset's block_size ({dataset.block_size}) is longer than the model's context "
            f"(model.max_seq_length {context}): training on windows of {context} tokens"
        )
        dataset.shorten_windows(context)


def _choose_tokenizer(model: LanguageModel, dataset: TextDataset, config: Config, paths: RunPaths) -> Tokenizer | None:
    """Return the tokenizer of the run, learning one if there is none; None for tokens without a known tokenizer."""
    if dataset.tokenizer is None and not dataset.is_prepared:
        dataset.tokenizer = _existing_tokenizer(model, config, paths)
    if dataset.tokenizer is None and not dataset.is_prepared:
        size = min(config.tokenizer.vocab_size or model.config.vocab_size, model.config.vocab_size)
        logger.warning(
            f"no tokenizer given: learning a {config.tokenizer.algorithm} tokenizer of at most {size:,} tokens "
            f"from {dataset.source_name}, saved to {paths.tokenizer}"
        )
        dataset.learn_tokenizer(vocab_size=size, **config.tokenizer.training_options)
    tokenizer = dataset.tokenizer
    if tokenizer is not None and not tokenizer.has_gguf_form:
        logger.warning(
            f"a {tokenizer.algorithm} tokenizer has no exact form in GGUF: this model will not export to llama.cpp "
            "(byte-level BPE and character tokenizers do)"
        )
    return tokenizer


def _existing_tokenizer(model: LanguageModel, config: Config, paths: RunPaths) -> Tokenizer | None:
    if model.tokenizer_json is not None:
        return Tokenizer.from_json(model.tokenizer_json)
    if config.tokenizer.path is not None:
        return Tokenizer.from_pretrained(config.tokenizer.path)
    if (paths.tokenizer / "tokenizer.json").is_file():
        found = Tokenizer.from_pretrained(paths.tokenizer)
        if len(found) <= model.config.vocab_size:
            logger.warning(f"using the tokenizer in {paths.tokenizer} ({len(found):,} tokens)")
            return found
    return None


def _check_vocabulary(model: LanguageModel, dataset: TextDataset) -> None:
    largest = dataset.largest_token_id()
    if largest >= model.config.vocab_size:
        raise TokenizerError(
            f"the tokenizer has {largest + 1:,} tokens but model.vocab_size is {model.config.vocab_size:,}: "
            "set config.model.vocab_size = len(tokenizer) before building the model"
        )


def _store_tokenizer(tokenizer: Tokenizer, paths: RunPaths) -> None:
    if (paths.tokenizer / "tokenizer.json").is_file() and paths.keep_earlier:
        if Tokenizer.from_pretrained(paths.tokenizer) == tokenizer:
            return
        set_aside(paths.tokenizer)
    tokenizer.save_pretrained(paths.tokenizer)


def _describe_run(dataset: TextDataset, paths: RunPaths) -> dict[str, Any]:
    tokens = dataset.train.path.parent
    return {
        "dataset": {
            "source": dataset.source_name,
            "tokens": os.path.relpath(tokens, paths.folder),
            "block_size": dataset.block_size,
            "stride": dataset.stride,
            "train_split": dataset.train_split,
            "seed": dataset.seed,
            "training_tokens": dataset.info.tokens,
            "corpus": dataset.corpus_fingerprint,
        },
    }


def _describe_machine(trainer: Trainer) -> dict[str, Any]:
    return {
        "machine": describe_machine(),
        "processes": trainer.processes.count,
        "acceleration": trainer.acceleration.to_dict(),
        "parameters": trainer.learner.model.num_parameters(),
    }


def _watchers(
    config: Config, paths: RunPaths, callbacks: Sequence[Callback] | None, processes: Processes
) -> list[Callback]:
    if not processes.is_main:
        return []
    sinks = [MetricsFile(paths.metrics), *open_sinks(config, paths.folder), RunReport(paths.folder)]
    return [*sinks, *([TrainingProgress()] if callbacks is None else callbacks)]
