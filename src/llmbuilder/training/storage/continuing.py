"""What can still be changed of a run that goes on: `TAKEN["train resume"]`; anything else is refused."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from llmbuilder.config.in_force import TAKEN, all_settings, differing, refuse, require_taken
from llmbuilder.config.loading import (
    build_config,
    explicit_places,
    explicit_settings,
    merge,
    parse_overrides,
    read_config,
)
from llmbuilder.config.schema import Config, is_auto
from llmbuilder.data.dataset import TextDataset
from llmbuilder.errors import ConfigError
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.training.storage.paths import RunPaths

_TEXTS = re.compile(r"\d+ texts")  # how a dataset of texts in memory is called
_ABOUT_THE_START = ("training.init_from", "training.output_dir")


def continued_config(paths: RunPaths, overrides: Iterable[str] | Mapping[str, Any]) -> Config:
    """Return a run's configuration with `overrides`, and with what else the environment can still change of it.

    Raises ConfigError for an override of what the run has settled.
    """
    environment = explicit_settings()
    build_config(environment, "the environment", explicit_places())  # knows no such setting, or no such value
    taken = {
        section: {key: value for key, value in values.items() if f"{section}.{key}" in TAKEN["train resume"]}
        for section, values in environment.items()
    }
    given = overrides if isinstance(overrides, Mapping) else list(overrides)
    values = merge(merge(read_config(paths.config).to_dict(), taken), parse_overrides(given))
    config = build_config(values, f"the configuration of {paths.folder}", explicit_places(given))
    require_taken("train resume", given, config)
    return config


def changes_asked(config: Config, dataset: TextDataset, folder: Path) -> dict[str, Any]:
    """Return what a configuration that says to resume the run in `folder` changes of it, by setting.

    What is left to its default or to be chosen stays as the run has it. Raises ConfigError for a setting that was asked
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
        is_asked = bool(differing(sections[section], [key])) and not is_auto(value)
        if not is_asked or value == getattr(settled[section], key) or name in _ABOUT_THE_START:
            continue
        if name in TAKEN["train resume"]:
            changes[name] = value
        elif section != "generation":
            refuse([name], f"the run in {folder} has {getattr(settled[section], key)!r}, and goes on with it")
    if run.training.time_budget_seconds is not None:
        changes.pop("training.max_steps", None)  # the number that was fitted to the time
    return changes


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
