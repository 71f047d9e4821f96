"""What can still be changed of a run that goes on: `TAKEN["train resume"]`; anything else is refused."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from llmbuilder.config.in_force import TAKEN, all_settings, changed_config, refuse
from llmbuilder.config.loading import (
    ENVIRONMENT_PREFIX,
    build_config,
    explicit_places,
    explicit_settings,
    parse_overrides,
    read_config,
)
from llmbuilder.config.schema import Config, is_auto
from llmbuilder.data.dataset import TextDataset
from llmbuilder.errors import ConfigError
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.training.storage.paths import RunPaths

logger = logging.getLogger("llmbuilder")
_TEXTS = re.compile(r"\d+ texts")  # how a dataset of texts in memory is called
_ABOUT_THE_START = ("training.init_from", "training.output_dir")


def continued_config(paths: RunPaths, overrides: Iterable[str] | Mapping[str, Any]) -> Config:
    """Return a run's configuration with `overrides`, and with what else the environment can still change of it.

    Evaluating only is asked for each time anew. Raises ConfigError for an override of what the run has settled.
    """
    run = read_config(paths.config)
    run.training.eval_only = False
    environment = explicit_settings()
    build_config(environment, "the environment", explicit_places())  # knows no such setting, or no such value
    taken = {
        section: {key: value for key, value in values.items() if f"{section}.{key}" in TAKEN["train resume"]}
        for section, values in environment.items()
    }
    _say_what_is_passed_over(environment, run, paths)
    given = overrides if isinstance(overrides, Mapping) else list(overrides)
    config = changed_config(run, given, f"the configuration of {paths.folder}", taken)
    if config.training.time_budget_seconds is not None and "max_steps" in parse_overrides(given).get("training", {}):
        logger.warning(f"{paths.folder} goes on by training.max_steps from here, and no longer by its time budget")
        config.training.time_budget_seconds = None
    return config


def changes_asked(config: Config, dataset: TextDataset, folder: Path) -> dict[str, Any]:
    """Return what a configuration that says to resume the run in `folder` changes of it, by setting.

    What was not set or is left to be chosen stays as the run has it. Raises ConfigError for a setting that was asked
    for and is settled otherwise, and for another text or tokenizer than those that the run goes on with.
    """
    paths = RunPaths.of_run(folder)
    _require_same_data(dataset, paths)
    run = read_config(paths.config)
    sections, settled = config.sections(), run.sections()
    changes: dict[str, Any] = {}
    for name in all_settings():
        section, key = name.split(".")
        value = getattr(sections[section], key)
        is_asked = key in sections[section].model_fields_set and not _is_left(name, value, config)
        if not is_asked or name in _ABOUT_THE_START or value == getattr(settled[section], key):
            continue
        if name in TAKEN["train resume"]:
            changes[name] = value
        elif section != "generation":
            refuse([name], f"the run in {folder} has {getattr(settled[section], key)!r}, and goes on with it")
    if run.training.time_budget_seconds is not None and config.training.time_budget_seconds is not None:
        changes.pop("training.max_steps", None)  # the limit within which a number was fitted to the time
    return changes


def _is_left(name: str, value: Any, config: Config) -> bool:
    """Whether a setting leaves to the run what it has: what is to be chosen, and null where the run has settled it."""
    if name == "training.gradient_accumulation_steps":
        return is_auto(config.training.batch_size)
    is_chosen = name not in TAKEN["train resume"] or name == "training.muon_learning_rate"
    return is_auto(value) or (value is None and is_chosen)


def kept_config(config: Config) -> Config:
    """Return what a run keeps of the configuration it goes on with: all but that it was evaluated only this time."""
    kept = config.copy_of()
    kept.training.eval_only = False
    return kept


def say_what_changes(before: Config, after: Config, folder: Path) -> None:
    """Log a notice if a step will have another number of sequences: what a step learns from changes with it."""
    keys = ("batch_size", "gradient_accumulation_steps")
    changed = [f"training.{key} {getattr(before.training, key)} -> {getattr(after.training, key)}"
               for key in keys if getattr(before.training, key) != getattr(after.training, key)]  # fmt: skip
    if changed:
        logger.warning(
            f"{folder} goes on with {' and '.join(changed)}: with the next sequence of its data, none left out or twice"
        )


def _say_what_is_passed_over(environment: Mapping[str, Any], run: Config, paths: RunPaths) -> None:
    """Log which variables of the environment would have another run than this one, and are not looked at."""
    sections = run.sections()
    names = [
        f"{ENVIRONMENT_PREFIX}{section}__{key}".upper()
        for section, values in build_config(environment, "the environment").sections().items()
        for key in environment.get(section, {})
        if _is_settled(f"{section}.{key}") and getattr(values, key) != getattr(sections[section], key)
    ]
    if names:
        logger.warning(f"{', '.join(names)} would not act on {paths.folder}, which goes on as it was begun")


def _is_settled(name: str) -> bool:
    return name in TAKEN["train model"] - TAKEN["train resume"] and name not in _ABOUT_THE_START


def _require_same_data(dataset: TextDataset, paths: RunPaths) -> None:
    """Raise ConfigError for another text or tokenizer than those that a run goes on with."""
    recorded = paths.read_record().get("dataset", {}).get("source")
    if recorded is not None and not _is_same_source(recorded, dataset.source_name):
        raise ConfigError(
            f"the run in {paths.folder} is trained on {recorded} and goes on with its own tokens: "
            f"{dataset.source_name} would not act; name the same, or start another run"
        )
    if dataset.tokenizer is not None and (paths.tokenizer / "tokenizer.json").is_file():
        own = Tokenizer.from_pretrained(paths.tokenizer)
        if own.fingerprint != dataset.tokenizer.fingerprint:
            raise ConfigError(
                f"the run in {paths.folder} goes on with its own tokenizer, and the one given is another: "
                "leave it out, or start another run"
            )


def _is_same_source(recorded: str, name: str) -> bool:
    """Whether two names of a text can mean one: a run may be continued from elsewhere, or with the texts themselves."""
    are_files = not any(_TEXTS.fullmatch(one) for one in (recorded, name))
    return not are_files or Path(recorded).name == Path(name).name
