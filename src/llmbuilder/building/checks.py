"""What can be known to be wrong before work begins: found here, without reading documents or loading PyTorch."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from llmbuilder.building.bases import AUTO, base_places, least_parameters, require_base, require_method
from llmbuilder.building.journal import is_build
from llmbuilder.config import load_config
from llmbuilder.config.in_force import changed_config, refuse, require_taken
from llmbuilder.config.loading import parse_overrides, read_config
from llmbuilder.config.schema import Config, is_auto
from llmbuilder.config.section import place_of
from llmbuilder.config.sizes import count_parameters, estimate_training_memory
from llmbuilder.config.validation import require_in_range, require_valid
from llmbuilder.errors import OVERRIDE, ConfigError, DataError, LLMBuilderError, MissingDependencyError
from llmbuilder.files import require_absent, require_other, require_writable
from llmbuilder.formats.model_places import require_model
from llmbuilder.formats.quantizations import require_quantization
from llmbuilder.machine import memory_bytes, require_device, require_four_bits
from llmbuilder.notices import command
from llmbuilder.tokenizer.places import require_tokenizer

_SMALLEST_RUN = 16_000_000  # bytes: tokens, a small model with its checkpoints, the page
_COPIES = 2  # the best and the last model, a checkpoint and the one it replaces, a base and what it becomes
_WEIGHT, _TRAINED_WEIGHT = 4, 12  # bytes of a parameter in a model file, and in a checkpoint with both moments
_SHORTEST_BUILD = 7.0  # seconds: what reading, measuring and the end of a build take, whatever is trained
_SMALLEST_MODEL = {"num_layers": 1, "num_heads": 1, "num_key_value_heads": None, "head_dim": None, "embedding_dim": 64,
                   "max_seq_length": 8, "vocab_size": 256, "intermediate_size": None}  # fmt: skip
Sources = str | Path | Sequence[str | Path] | None


def check_build(
    documents: Sources,
    output: str | Path | None,
    *,
    preset: str | None = None,
    config: Config | None = None,
    time_budget: float | None = None,
    overrides: Iterable[str] = (),
    quantization: str = "f16",
    overwrite: bool = False,
    base: str | Path | None = None,
    method: str | None = None,
) -> Config:
    """Return the configuration that a build with these arguments begins with.

    Raises ConfigError, DataError, ExportError, TokenizerError or MissingDependencyError for what would fail later.
    """
    given = list(overrides)
    require_quantization(quantization)
    planned = config.copy_of() if config is not None else load_config(preset=preset, overrides=given)
    planned.finetuning.objective = "likelihood"  # a file that says otherwise is shared with commands that have pairs
    check_base(planned, base, method, chosen=preset if preset is not None else config)
    base = None if base == AUTO else base  # which it is, the documents say
    if output is None:
        raise ConfigError("name a run directory with --output (or training.output_dir)")
    arguments = {"time_budget": time_budget, "documents": documents, "output": output, "base": base}
    require_buildable(planned, given, arguments)
    if time_budget is not None and not 0 < time_budget < float("inf"):
        raise ConfigError(f"the time budget must be more than 0 seconds, not {time_budget}")
    sources = require_documents(documents if documents is not None else planned.data.path)
    require_other(Path(output), sources if base is None else [*sources, *base_places(base)])
    require_absent(Path(output), overwrite=overwrite or is_build(output))  # what differs from a build is said later
    is_chosen = preset is None and config is None
    if is_chosen and time_budget is not None and time_budget < _SHORTEST_BUILD:
        raise ConfigError(
            f"a time budget of {time_budget:g} seconds leaves no time for training, and few steps teach a model "
            "nothing: the least that makes sense is --time-budget 15s, for a page of text"
        )
    is_open = is_chosen and base is None  # the model is still to be chosen, and may be the smallest
    check_run(planned, Path(output), base=base, bytes_needed=_SMALLEST_RUN if is_open else None)
    return planned


def check_base(config: Config, base: str | Path | None, method: str | None, *, chosen: object = None) -> None:
    """Let `config` be one that adapts `base`, if there is one; with "auto" there may be none.

    Raises ConfigError for a method without a base, and for a preset or configuration (`chosen`) beside one; else as
    `require_base` does.
    """
    if base is None:
        if method is not None:
            raise ConfigError("--method says how a base is adapted: name one with --base")
        return
    if chosen is not None:
        raise ConfigError(
            "a base brings the shape of its model along: name no preset and no configuration with it (single settings "
            "go with --set)"
        )
    if base == AUTO:
        require_method(method or AUTO)
        return
    require_base(base, method or AUTO)
    config.finetuning.method = "lora" if method in (None, "auto") else method  # type: ignore[assignment]


def check_run(
    config: Config, output: Path | None, *, base: str | Path | None = None, bytes_needed: int | None = None
) -> None:
    """Raise for settings out of range, a device, tokenizer or library that is not there, and an output without room.

    `bytes_needed` is what the output surely takes (default: by the size of `base`, or by the shape of the model).
    """
    require_in_range(config)
    require_asked_device(config)
    _require_possible_batch(config)
    if config.finetuning.method == "qlora":
        require_four_bits()
    if config.tokenizer.path is not None:
        require_tokenizer(config.tokenizer.path)
    for name in ("tensorboard", "trackio", "wandb"):
        if getattr(config.tracking, name) and name not in sys.modules and importlib.util.find_spec(name) is None:
            raise MissingDependencyError(name, name, f"tracking.{name}")
    if output is not None:
        if output.exists() and not output.is_dir():
            raise ConfigError(f"{output} is a file: name a folder for the run")
        require_writable(output, bytes_needed=bytes_needed or _least_bytes(config, base), error=ConfigError)


def check_planned_output(config: Config, output: Path | None, sources: Iterable[str | Path]) -> None:
    """Raise as `check_run` for a build whose model is still to be chosen, and for an output that is an input."""
    if output is not None:
        require_other(output, sources)
    check_run(config, output, bytes_needed=_SMALLEST_RUN)


def require_no_build(folder: Path) -> None:
    """Raise ConfigError for a folder with a build, whose pages and exports would tell of another run."""
    if is_build(folder):
        raise ConfigError(
            f"{folder} holds a build: `llmbuilder build ... --overwrite` replaces it, "
            f"`{command('train', 'resume', folder)}` goes on with it, and another run goes to another folder"
        )


def check_resume(run: str | Path, overrides: Iterable[str]) -> None:
    """Raise ConfigError for overrides that a run cannot go on with."""
    given, config_file = list(overrides), Path(run) / "config.json"
    if not config_file.is_file():
        parse_overrides(given)
        return  # a build that has not come so far; what holds no run at all is said by who opens it
    config = changed_config(read_config(config_file), given, f"the configuration of {run}")
    require_asked_device(config)
    require_valid(config, ["training"], "train with these settings", unchecked=["training.warmup_steps"])


def require_asked_device(config: Config) -> None:
    """Raise ConfigError for a device that the command names and that is absent; others fall back later, with a note."""
    place = place_of(config, "system.device")
    if place is not None and place.startswith(OVERRIDE):
        require_device(config.system.device, place)


def require_documents(documents: Sources) -> list[str]:
    """Return the sources as a list. Raises DataError for one that is not there, or cannot be read."""
    sources = [] if documents is None else [documents] if isinstance(documents, str | Path) else list(documents)
    for source in map(str, sources):
        if not source.strip():
            raise DataError("the name of the documents is empty: name a folder or a file")
        if not os.path.exists(source):
            raise DataError(f"no such file or folder: {source}")
        if not os.path.isdir(source) and not os.path.isfile(source):
            raise DataError(f"{source} is neither a folder nor a file: name documents")
        if not os.access(source, os.R_OK | (os.X_OK if os.path.isdir(source) else 0)):
            raise DataError(f"{source} is not yours to read")
        if os.path.isdir(source) and not any(os.scandir(source)):
            raise DataError(f"{source} is empty: put documents there (.pdf, .docx, .txt, .md, .html, .epub, .csv, ...)")
    return [str(source) for source in sources]


def require_buildable(config: Config, given: list[str], arguments: Mapping[str, object]) -> None:
    """Raise ConfigError for what was asked for in vain; `arguments` are those that stand in a setting's place."""
    named = {name: name if value is not None else None for name, value in arguments.items()}
    replaced = {
        "training.output_dir": named.get("output")
        if str(arguments.get("output")) != config.training.output_dir
        else None,
        "training.time_budget_seconds": named.get("time_budget"),
        "data.path": named.get("documents"),
    }
    require_taken("build" if arguments.get("base") is None else "build --base", given, config, replaced=replaced)
    if config.training.eval_only:
        refuse(["training.eval_only"], "a build trains: use `llmbuilder model evaluate`")
    if config.training.init_from == "resume":
        refuse(["training.init_from"], "a build begins a run: go on with one by `llmbuilder train resume`")


def require_model_and_tokenizer(model: str | Path, tokenizer: str | Path | None) -> None:
    """Raise CheckpointError or TokenizerError if one of them can be none by its name and first bytes."""
    require_model(model)
    if tokenizer is not None:
        require_tokenizer(tokenizer)


def check_output(
    output: Path, inputs: Iterable[str | Path] = (), *, overwrite: bool, error: type[LLMBuilderError] = DataError
) -> None:
    """Raise `error` for an output that is an input, is there already, or cannot be written."""
    require_other(output, inputs, error=error)
    require_absent(output, overwrite=overwrite, error=error)
    require_writable(output, error=error)


def _require_possible_batch(config: Config) -> None:
    """Refuse a batch that not even the smallest model could be trained with, whatever is chosen later."""
    if is_auto(config.training.batch_size):
        return
    smallest = estimate_training_memory(config.model.model_copy(update=_SMALLEST_MODEL), config.training).total
    there = memory_bytes()
    if smallest > there:
        raise ConfigError(
            f"training.batch_size ({config.training.batch_size}) takes more than {smallest / 2**30:,.0f} GiB with the "
            f"smallest model, and there are {there / 2**30:.1f}: a smaller one with more gradient_accumulation_steps "
            "trains on as much a step"
        )


def _least_bytes(config: Config, base: str | Path | None) -> int:
    """Return what a run's files surely take.

    The best and the last model, a checkpoint and the one it replaces; beside adapters the base and what it becomes.
    How many rows the embedding has, the tokenizer says, which is not learned yet: the smallest one's are counted.
    """
    if base is None:
        parameters = count_parameters(config.model.model_copy(update={"vocab_size": _SMALLEST_MODEL["vocab_size"]}))
    else:
        parameters = least_parameters(base)
    learns_all = config.finetuning.method == "full"
    a_parameter = _COPIES * _WEIGHT + (_COPIES * _TRAINED_WEIGHT if learns_all else 0)
    return _SMALLEST_RUN + parameters * a_parameter
