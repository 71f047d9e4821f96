"""`train_model` and `resume_training`: everything around the loop, from what the caller gives to the trainer's run."""

from __future__ import annotations

import contextlib
import logging
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llmbuilder.acceleration import limited_threads
from llmbuilder.config.loading import read_config
from llmbuilder.config.recipe import resolve_recipe
from llmbuilder.config.schema import Config, TrainingConfig, section_of, whole_config
from llmbuilder.config.section import place_of
from llmbuilder.config.sizes import count_parameters
from llmbuilder.config.validation import require_valid
from llmbuilder.data.dataset import TextDataset
from llmbuilder.errors import ConfigError, LLMBuilderError, TokenizerError, TrainingError
from llmbuilder.files import read_json_lines, remove_path
from llmbuilder.finetuning.adapting import adapter_shapes
from llmbuilder.formats.model_file import load_model
from llmbuilder.locking import locked_folder
from llmbuilder.machine import memory_bytes, pass_bytes
from llmbuilder.model import LanguageModel, build_model
from llmbuilder.training.display.callbacks import Callback
from llmbuilder.training.display.metrics_file import MetricsFile
from llmbuilder.training.display.notebook import default_progress
from llmbuilder.training.display.run_report import RunReport
from llmbuilder.training.display.sinks import open_sinks
from llmbuilder.training.loop.processor import choose_precision
from llmbuilder.training.loop.trainer import Trainer
from llmbuilder.training.loop.trial import try_settings
from llmbuilder.training.processes.distributed import (
    Processes,
    joined_processes,
    process_device,
    this_launch,
)
from llmbuilder.training.processes.memory import needs_sharding, require_memory, warn_about_memory
from llmbuilder.training.results import TrainingResults, unless_stopped
from llmbuilder.training.storage.checkpoints import (
    TrainingState,
    counted_sequences,
    list_checkpoints,
    read_newest_checkpoint,
)
from llmbuilder.training.storage.continuing import changes_asked, continued_config, kept_config, say_what_changes
from llmbuilder.training.storage.paths import RunPaths
from llmbuilder.training.storage.reference import begin_preferences, take_reference
from llmbuilder.training.storage.run_base import begin_adapting, belongings
from llmbuilder.training.storage.run_record import (
    describe_computation,
    describe_dataset,
    open_dataset,
    recorded_acceleration,
)
from llmbuilder.training.storage.run_tokenizer import choose_tokenizer, require_known_tokens, store_tokenizer
from llmbuilder.training.storage.run_tokens import prepare_tokens, take_tokens
from llmbuilder.training.storage.starting import Asked, Start, make_room, prepare_start
from llmbuilder.training.storage.unfinished import remove_empty_folder, remove_unfinished_writes

logger = logging.getLogger("llmbuilder")


def train_model(
    model: LanguageModel,
    dataset: TextDataset,
    config: Config | TrainingConfig | None = None,
    output_dir: str | Path | None = None,
    callbacks: Sequence[Callback] | None = None,
    *,
    overwrite: bool = False,
    continue_run: bool = False,
) -> TrainingResults:
    """Train `model` on `dataset` and return the results.

    `config` is a Config or its training section (which knows the Config it came from). `output_dir` (default:
    training.output_dir) gets everything; with neither, `model.pt` and `tokenizer/` are written to the current
    directory, earlier ones being kept under numbered names. `callbacks` default to a progress display.
    A dataset without a tokenizer takes the model's, the configured, or the run's; else one is learned that fits
    the model's vocabulary. Started by torchrun, the processes train together; the first one does the writing.
    An earlier run in the directory is refused, replaced with `overwrite`, and with `continue_run` continued as
    `resume_training` does, so that a scheduler can repeat the same call until the run is finished.

    Raises TrainingError for a non-finite loss or a directory in use, TokenizerError if tokenizer and model do not
    fit, DataError if there is too little text, CheckpointError if `output_dir` holds a run already. SIGINT and SIGTERM
    end the run after the step and what is to be saved; then they reach the caller, as a KeyboardInterrupt and a
    SystemExit that are both StoppedRun and hold the results. The process is left as it was found, but for the C
    library's allocator, which keeps large freed blocks from then on (see `acceleration`).
    """
    return train(model, dataset, config, output_dir, callbacks, overwrite=overwrite, continue_run=continue_run)


def train(
    model: LanguageModel,
    dataset: TextDataset,
    config: Config | TrainingConfig | None,
    output_dir: str | Path | None,
    callbacks: Sequence[Callback] | None,
    *,
    overwrite: bool,
    continue_run: bool,
    has_weights: bool = False,
) -> TrainingResults:
    """Do what `train_model` does; `has_weights` says that the model holds what training.init_from names already."""
    whole = _resolved_config(model, config)
    _require_objective(dataset, whole)
    _fit_window(dataset, model)
    directory = output_dir if output_dir is not None else whole.training.output_dir
    if whole.training.init_from == "resume" and directory is None:
        raise TrainingError("training.init_from is 'resume', but there is no output directory to resume")
    paths = RunPaths.choose(directory)
    asked = _asked(whole.training, overwrite=overwrite, continue_run=continue_run)
    changes = changes_asked(whole, dataset, paths.folder) if asked is Asked.RESUME else {}
    system = continued_config(RunPaths.of_run(paths.folder), changes).system if asked is Asked.RESUME else whole.system
    with joined_processes(system) as processes:
        start = processes.on_main(lambda: prepare_start(paths, asked, this_launch()))
        if start is Start.RESUME:
            if asked is Asked.CONTINUE:
                changes = changes_asked(whole, dataset, paths.folder)
            results = _resume(paths.folder, changes, callbacks)
        else:
            results = _start(model, dataset, whole, paths, callbacks, processes, start, has_weights=has_weights)
    return unless_stopped(results)


def resume_training(
    run_dir: str | Path,
    *,
    overrides: Iterable[str] = (),
    callbacks: Sequence[Callback] | None = None,
) -> TrainingResults:
    """Continue a run from its newest whole checkpoint, exactly where it stopped.

    `overrides` change the run's settings, for example "training.max_steps=20000" to train longer; one that cannot be
    changed any more, such as the model's shape, is a ConfigError. Any number of
    processes can go on with a run, whatever number began it; the same number repeats it bit for bit.
    Raises TrainingError if there is no run, CheckpointError if no checkpoint of it can be read, StoppedRun as
    `train_model` does.
    """
    return unless_stopped(_resume(run_dir, overrides, callbacks))


def _asked(training: TrainingConfig, *, overwrite: bool, continue_run: bool) -> Asked:
    if overwrite and continue_run:
        raise TrainingError("a run cannot be both replaced (overwrite) and continued (continue): ask for one of them")
    if training.init_from == "resume":
        return Asked.RESUME
    return Asked.OVERWRITE if overwrite else Asked.CONTINUE if continue_run else Asked.NEW


def _resume(
    run_dir: str | Path, overrides: Iterable[str] | Mapping[str, Any], callbacks: Sequence[Callback] | None
) -> TrainingResults:
    """Train from the newest whole checkpoint."""
    paths = RunPaths.of_run(run_dir)
    record = paths.read_record()
    if not list_checkpoints(paths.checkpoints):
        again = "the same command and --overwrite" if paths.model.exists() else "the same command"
        raise TrainingError(f"{paths.folder} has no checkpoint yet: start it again with {again}")
    config = continued_config(paths, overrides)
    _require_trainable(config, "model", "training", "system", "tracking")
    before = read_config(paths.config)
    with joined_processes(config.system) as processes, _locked(paths, processes):
        processes.on_main(lambda: remove_unfinished_writes(paths))
        saved = read_newest_checkpoint(paths.checkpoints)
        saved.sequences, saved.sequences_left_out = counted_sequences(saved, before.training)
        dataset = open_dataset(paths)
        tokenizer = dataset.tokenizer
        if saved.tokenizer is not None and tokenizer is not None and saved.tokenizer != tokenizer.fingerprint:
            raise TrainingError(f"{paths.tokenizer} is not the tokenizer this run was started with")
        model = build_model(config)
        model.tokenizer, model.metadata = tokenizer, dict(record.get("belongings", {}))
        return _run(model, dataset, config, paths, callbacks, processes, saved, record, before)


def _resolved_config(model: LanguageModel, config: Config | TrainingConfig | None) -> Config:
    """Return a whole configuration of the run's own. Raises ConfigError for training settings that cannot be."""
    source = config if isinstance(config, Config) else whole_config(config) if config is not None else None
    whole = (source or Config()).copy_of()
    whole.training = section_of(config, TrainingConfig).model_copy()
    whole.model = model.config.model_copy()
    _require_trainable(whole)
    return whole


def _require_trainable(config: Config, *sections: str) -> None:
    """Raise ConfigError for training settings that cannot be; a warm-up longer than the run is only warned of."""
    unchecked = ["training.warmup_steps"] if config.training.warmup_steps >= 0 else []
    require_valid(config, sections or ["training", "finetuning"], "train with these settings", unchecked=unchecked)


def _require_objective(dataset: TextDataset, config: Config) -> None:
    """Raise ConfigError for pairs that nothing would be learned of, and for an objective that needs them.

    Files and the environment are shared with commands that have pairs: what they say of the objective is passed over.
    """
    asked = config.finetuning.objective
    if dataset.holds_pairs and asked != "dpo":
        raise ConfigError(
            f"{dataset.source_name} holds preference pairs, and finetuning.objective is {asked!r}: set it to 'dpo'"
        )
    if asked == "dpo" and not dataset.holds_pairs:
        if place_of(config, "finetuning.objective") is None:
            raise ConfigError(
                f"finetuning.objective 'dpo' learns from preference pairs, and {dataset.source_name} holds none: tune "
                "on pairs with `llmbuilder finetune model` (finetune_model)"
            )
        config.finetuning.objective = "likelihood"


def _fit_window(dataset: TextDataset, model: LanguageModel) -> None:
    """Shorten the dataset's windows to what the model can take."""
    context = model.config.max_seq_length
    if dataset.block_size > context:
        logger.warning(
            f"the dataset's block_size ({dataset.block_size}) is longer than the model's context "
            f"(model.max_seq_length {context}): training on windows of {context} tokens"
        )
        dataset.set_windows(context, dataset.stride, documents_apart=dataset.documents_apart)


def _locked(paths: RunPaths, processes: Processes) -> contextlib.ExitStack:
    """Hold the run directory in the main process; the others learn if it is taken."""
    stack = contextlib.ExitStack()
    processes.on_main(lambda: stack.enter_context(locked_folder(paths.folder, TrainingError)))
    return stack


def _start(
    model: LanguageModel,
    dataset: TextDataset,
    config: Config,
    paths: RunPaths,
    callbacks: Sequence[Callback] | None,
    processes: Processes,
    start: Start,
    *,
    has_weights: bool,
) -> TrainingResults:
    """Train from the first step, with the weights that the model has or training.init_from names."""
    window = dataset.block_size
    is_sharded = needs_sharding(config, processes, window)
    require_memory(config, memory_bytes(process_device(config.system)), processes.count, window, is_sharded=is_sharded)
    is_new = processes.on_main(lambda: not paths.folder.exists())
    with _locked(paths, processes) as held:
        try:
            if config.training.init_from != "scratch" and not has_weights:
                _take_over(model, dataset, config)
            if config.finetuning.method != "full":
                adapter_shapes(model, config)  # what it would refuse, before anything is written
            processes.on_main(lambda: _prepare(model, dataset, config, paths, start, held))
        except LLMBuilderError:
            if is_new and processes.is_main:
                remove_empty_folder(paths.folder)
            raise
        if not processes.is_main:
            dataset = open_dataset(paths)
            model.tokenizer = dataset.tokenizer
        return _run(model, dataset, config, paths, callbacks, processes)


def _take_over(model: LanguageModel, dataset: TextDataset, config: Config) -> None:
    """Give `model` the weights of training.init_from, and the tokenizer whose tokens those know."""
    source = load_model(config.training.init_from, "cpu")
    model.load_weights(source.weights())
    model.metadata = belongings(source)
    is_named = model.tokenizer is not None or dataset.tokenizer is not None or config.tokenizer.path is not None
    if source.tokenizer is not None and not is_named:
        model.tokenizer = source.tokenizer
    elif source.tokenizer is None and not is_named and not dataset.is_prepared:
        raise TokenizerError(
            f"training.init_from: {config.training.init_from} holds no tokenizer, and the tokens of a new one would "
            "mean nothing to its weights: name the tokenizer that it was trained with (--tokenizer, or tokenizer.path)"
        )


def _prepare(
    model: LanguageModel,
    dataset: TextDataset,
    config: Config,
    paths: RunPaths,
    start: Start,
    held: contextlib.ExitStack,
) -> None:
    """Write everything into the run directory that training starts from."""
    remove_unfinished_writes(paths, keep=dataset.train.path.parent if dataset.is_prepared else None)
    tokenizer = choose_tokenizer(model, dataset, config, paths, replaces=start is Start.REPLACE)
    prepare_tokens(dataset, paths)
    try:
        require_known_tokens(model, dataset)
    except LLMBuilderError:
        remove_path(paths.unfinished_tokens)
        raise
    make_room(paths, start, dataset.train.path.parent, tokenizer, held)  # not sooner: what fails before changes nothing
    take_tokens(dataset, paths)
    if tokenizer is not None:
        store_tokenizer(tokenizer, paths)
        model.tokenizer = tokenizer
    config.save(paths.config)
    kept = belongings(model)
    description = {"launch": this_launch().name, **describe_dataset(dataset, paths)}
    description |= {"belongings": kept} if kept else {}
    paths.write_record({**paths.read_record(), **description})


def _run(
    model: LanguageModel,
    dataset: TextDataset,
    config: Config,
    paths: RunPaths,
    callbacks: Sequence[Callback] | None,
    processes: Processes,
    saved: TrainingState | None = None,
    record: dict[str, Any] | None = None,
    before: Config | None = None,
) -> TrainingResults:
    """Fill in what is left to be chosen, record it, and train.

    A run that was `saved` and had another configuration `before` is changed only when the new one was tried.
    """
    window = dataset.block_size
    is_sharded = needs_sharding(config, processes, window)
    memory = memory_bytes(process_device(config.system))
    room = pass_bytes(process_device(config.system))
    pairs = len(dataset.train) if dataset.holds_pairs else None
    resolve_recipe(config, dataset.info.tokens, room, window=window, is_sharded=is_sharded, pairs=pairs)
    choose_precision(config, process_device(config.system), processes)
    if config.finetuning.method != "full":
        begin_adapting(model, config, paths, processes, is_sharded=is_sharded, goes_on=saved is not None)
    if dataset.holds_pairs and saved is None:
        begin_preferences(model, dataset, paths, processes)
    elif dataset.holds_pairs:
        take_reference(model, dataset, paths)
    if processes.is_main:
        warn_about_memory(config, memory, processes.count, window, is_sharded=is_sharded)
    acceleration = recorded_acceleration(record, processes.count) if record is not None else None
    if acceleration is not None and config.system.num_threads is not None:
        acceleration = acceleration.with_threads(config.system.num_threads)  # it may have been changed since
    with limited_threads(config.system.num_threads):
        trainer = Trainer(
            model, dataset, config, paths,
            processes=processes, is_sharded=is_sharded, acceleration=acceleration,
        )  # fmt: skip
        if saved is not None and before is not None and before.to_dict() != config.to_dict():
            try_settings(trainer, saved, before)
            processes.on_main(lambda: say_what_changes(before, config, paths.folder))
        trainer.callbacks = _watchers(config, paths, callbacks, processes)
        processes.on_main(lambda: kept_config(config).save(paths.config))
        if saved is not None:
            trainer.state.history = [line for line in read_json_lines(paths.metrics) if line["step"] <= saved.step]
        parameters = count_parameters(config.model)  # without adapters, which are worked in when it is written
        computation = describe_computation(trainer.acceleration, processes.count, parameters)
        processes.on_main(lambda: paths.write_record({**paths.read_record(), **computation}))
        if saved is not None and processes.is_main:
            _say_if_complete(config.training, saved.step, paths)
        _warn_about_warmup(config.training, trainer.state.max_steps)
        return trainer.run(saved)


def _watchers(
    config: Config, paths: RunPaths, callbacks: Sequence[Callback] | None, processes: Processes
) -> list[Callback]:
    """Return what watches the run, in the main process: its files, the services asked for, and the caller's own."""
    if not processes.is_main:
        return []
    sinks = [MetricsFile(paths.metrics), *open_sinks(config, paths.folder), RunReport(paths.folder)]
    return [*sinks, *([default_progress()] if callbacks is None else callbacks)]


def _say_if_complete(training: TrainingConfig, step: int, paths: RunPaths) -> None:
    if training.max_steps is not None and step >= training.max_steps and not training.eval_only:
        logger.warning(
            f"{paths.folder} is complete: its {step:,} steps are done; to train longer: llmbuilder train resume "
            f"{shlex.quote(str(paths.folder))} --set training.max_steps={2 * step}"
        )


def _warn_about_warmup(training: TrainingConfig, steps: int) -> None:
    if training.warmup_steps >= steps and not training.eval_only:
        logger.warning(
            f"training.warmup_steps ({training.warmup_steps}) covers the whole run of {steps} steps: "
            "the learning rate never reaches its peak"
        )
