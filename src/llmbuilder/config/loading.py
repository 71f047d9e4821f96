"""Reading configuration: preset < file < environment < explicit overrides.

Environment variables are named LLMBUILDER_SECTION__KEY, for example LLMBUILDER_TRAINING__BATCH_SIZE=8.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from llmbuilder.config.parsing import parse_value, read_mapping
from llmbuilder.config.presets import PRESETS
from llmbuilder.config.schema import Config, Section
from llmbuilder.errors import ConfigError, suggestion
from llmbuilder.formats.nanogpt.configuration import is_legacy, migrate_dictionary, migrate_python_file

logger = logging.getLogger("llmbuilder")
ENVIRONMENT_PREFIX = "LLMBUILDER_"


def load_config(
    path: str | Path | None = None,
    *,
    preset: str | None = None,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    allow_code: bool = False,
) -> Config:
    """Return the configuration of a preset, a file, or both, with the environment and `overrides` applied on top.

    `path` is JSON, YAML, or a legacy configuration: flat JSON/YAML with keys such as `n_layer`, a nanoGPT
    Python file of assignments (parsed, never run), or the nested form of older LLMBuilder scripts. Legacy
    files are migrated with one notice. `overrides` are "section.key=value" strings or a mapping of such keys.
    A file that names code to import (`data.classifier: module:function`) is refused unless `allow_code` is set: it may
    come from somebody else. In `overrides` such a name is welcome.

    Raises ConfigError for a missing or malformed file, an unknown key (naming the nearest known one) or a wrong type.
    """
    values: dict[str, Any] = {}
    source = "the defaults"
    if preset is not None:
        if preset not in PRESETS:
            raise ConfigError(f"unknown preset {preset!r}; there are {', '.join(PRESETS)}{suggestion(preset, PRESETS)}")
        values = merge(values, PRESETS[preset])
        source = f"preset {preset!r}"
    if path is not None:
        source = str(path)
        values = merge(values, _read_file(Path(path)))
        if not allow_code:
            _refuse_code(values, source)
    return build_config(merge(values, explicit_settings(overrides)), source)


def read_config(path: str | Path) -> Config:
    """Return the configuration that a program's own file holds, without the environment; errors as `load_config`'s."""
    return build_config(_read_file(Path(path)), str(path))


def _refuse_code(values: Mapping[str, Any], source: str) -> None:
    data = values.get("data")
    name = data.get("classifier") if isinstance(data, Mapping) else None
    if isinstance(name, str) and ":" in name and not Path(name).is_file():
        raise ConfigError(
            f"{source}: data.classifier names code to import ({name}), which a file must not do: give it yourself with "
            f"--set data.classifier={name}, or pass --allow-code (allow_code=True) if you trust the file"
        )


def explicit_settings(overrides: Iterable[str] | Mapping[str, Any] = ()) -> dict[str, Any]:
    """Return what wins over every file and preset, by section: the environment, and `overrides` on top of it."""
    return merge(_from_environment(os.environ), parse_overrides(overrides))


def migrate_legacy_config(source: str | Path | Mapping[str, Any]) -> Config:
    """Return the new configuration for a legacy one, given as a file (JSON, YAML, nanoGPT Python) or a mapping.

    Keys without a counterpart are kept under `Config.legacy` and named in a notice. A file that is already in
    the new format is returned as it is.
    """
    if isinstance(source, Mapping):
        migrated = migrate_dictionary(dict(source))
        logger.warning(migrated.notice())
        return build_config(migrated.values, "the given mapping")
    return build_config(_read_file(Path(source)), str(source))


def build_config(values: Mapping[str, Any], source: str) -> Config:
    """Validate plain values into a `Config`; ConfigError lists every wrong key and type, with `source` as the place."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        lines = [_explain(detail) for detail in error.errors()]
        raise ConfigError(
            f"{source} cannot be used as a configuration:\n" + "\n".join(f"  {x}" for x in lines)
        ) from None


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `over` laid on top, section by section."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def parse_overrides(overrides: Iterable[str] | Mapping[str, Any]) -> dict[str, Any]:
    """Turn "training.batch_size=8" strings (values read as YAML) or a mapping of dotted keys into nested values."""
    values: dict[str, Any] = {}
    pairs: Iterable[tuple[str, Any]] = overrides.items() if isinstance(overrides, Mapping) else map(_split, overrides)
    for dotted, value in pairs:
        section, _, key = dotted.partition(".")
        if not key:
            raise ConfigError(f"{dotted!r} names no setting; write section.key=value, such as training.batch_size=8")
        values.setdefault(section, {})[key] = value
    return values


def _split(assignment: str) -> tuple[str, Any]:
    name, separator, value = assignment.partition("=")
    if not separator:
        raise ConfigError(f"{assignment!r} is no setting; write section.key=value, such as training.batch_size=8")
    return name.strip(), parse_value(value)


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, text in environment.items():
        section, separator, key = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        if separator:
            values.setdefault(section, {})[key] = parse_value(text)
        elif (begun := section.partition("_")[0]) in Config.model_fields:
            meant = f"{ENVIRONMENT_PREFIX}{begun}__{section[len(begun) + 1 :] or 'KEY'}".upper()
            raise ConfigError(f"the environment variable {name} names no setting: write {meant}")
    return values


def _read_file(path: Path) -> dict[str, Any]:
    """Return a file's values in the new format; a legacy one is migrated, with a notice."""
    if path.suffix.lower() == ".py":
        migrated = migrate_python_file(path)
    else:
        values = read_mapping(path)
        if not is_legacy(values):
            return values
        migrated = migrate_dictionary(values)
    logger.warning(migrated.notice())
    return migrated.values


def _explain(detail: Any) -> str:
    place = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        known = _known_keys(detail["loc"][:-1])
        return f"unknown key {place!r}{suggestion(str(detail['loc'][-1]), known)}"
    return f"{place}: {detail['msg'].removeprefix('Input should be ')}, got {detail['input']!r}"


def _known_keys(location: tuple[Any, ...]) -> Iterable[str]:
    if not location:
        return Config.model_fields
    section = Config.model_fields.get(str(location[0]))
    kind = section.annotation if section else None
    return kind.model_fields if isinstance(kind, type) and issubclass(kind, Section) else ()
