"""Reading configuration: preset < file < environment < explicit overrides.

Environment variables are named LLMBUILDER_SECTION__KEY, for example LLMBUILDER_TRAINING__BATCH_SIZE=8.
"""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from llmbuilder.config.aliases import did_you_mean, meant_settings
from llmbuilder.config.model_schema import RopeScaling
from llmbuilder.config.parsing import AmbiguousNumberError, parse_value, read_mapping
from llmbuilder.config.places import Places, places_in_file, places_of_values
from llmbuilder.config.presets import PRESETS
from llmbuilder.config.schema import Config
from llmbuilder.config.section import with_places
from llmbuilder.errors import OVERRIDE, ConfigError, suggestion
from llmbuilder.formats.nanogpt.configuration import is_legacy, migrate_dictionary, migrate_python_file
from llmbuilder.notices import warn_once

logger = logging.getLogger("llmbuilder")
ENVIRONMENT_PREFIX = "LLMBUILDER_"
_WITH_PARTS: dict[str, type[BaseModel]] = {"model.rope_scaling": RopeScaling}  # settings that have keys of their own
OWN_VARIABLES = ("LLMBUILDER_LIFELINE",)  # those that the program sets for its own processes


def load_config(
    path: str | Path | None = None,
    *,
    preset: str | None = None,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    allow_code: bool = False,
    options: Mapping[str, str] | None = None,
) -> Config:
    """Return the configuration of a preset, a file, or both, with the environment and `overrides` applied on top.

    `path` is JSON, YAML, or a legacy configuration: flat JSON/YAML with keys such as `n_layer`, a nanoGPT
    Python file of assignments (parsed, never run), or the nested form of older LLMBuilder scripts. Legacy
    files are migrated with one notice. `overrides` are "section.key=value" strings or a mapping of such keys.
    A file that names code to import (`data.classifier: module:function`) is refused unless `allow_code` is set: it may
    come from somebody else. In `overrides` such a name is welcome. `options` names the option that an
    override comes from, by its setting, for messages about it.

    Raises ConfigError for a missing or malformed file, an unknown key (naming the nearest known one) or a wrong type.
    """
    values: dict[str, Any] = {}
    places: Places = {}
    if preset is not None:
        if preset not in PRESETS:
            raise ConfigError(f"unknown preset {preset!r}; there are {', '.join(PRESETS)}{suggestion(preset, PRESETS)}")
        values = merge(values, PRESETS[preset])
        places |= places_of_values(values, f"preset {preset!r}")
    if path is not None:
        read, lines = _read_file(Path(path))
        values = merge(values, read)
        places |= lines
        if not allow_code:
            _refuse_code(values, str(path))
    places |= {**explicit_places(overrides), **(options or {})}
    return build_config(merge(values, explicit_settings(overrides)), str(path or "the given settings"), places)


def read_config(path: str | Path) -> Config:
    """Return the configuration that a program's own file holds, without the environment; errors as `load_config`'s."""
    values, places = _read_file(Path(path))
    return build_config(values, str(path), places)


def _refuse_code(values: Mapping[str, Any], source: str) -> None:
    data = values.get("data")
    name = data.get("classifier") if isinstance(data, Mapping) else None
    if isinstance(name, str) and ":" in name and not Path(name).is_file():
        raise ConfigError(
            f"{source}: data.classifier names code to import ({name}), which a file must not do: give it yourself with "
            f"--set data.classifier={name}, or pass allow_code=True if you trust the file"
        )


def apply_settings(config: Config, settings: Mapping[str, Mapping[str, Any]]) -> None:
    """Set what the user asked for; its names and types were checked when the configuration was loaded."""
    for section, values in settings.items():
        for key, value in values.items():
            setattr(getattr(config, section), key, value)


def explicit_settings(overrides: Iterable[str] | Mapping[str, Any] = ()) -> dict[str, Any]:
    """Return what wins over every file and preset, by section: the environment, and `overrides` on top of it."""
    return merge(_from_environment(os.environ)[0], parse_overrides(overrides))


def explicit_places(overrides: Iterable[str] | Mapping[str, Any] = ()) -> Places:
    """Return the place of each of `explicit_settings`: the variable of the environment, or the setting as typed."""
    typed: Iterable[tuple[str, str]] = (
        ((name, f"{name}={value!r}") for name, value in overrides.items())
        if isinstance(overrides, Mapping)
        else ((text.partition("=")[0].strip(), text) for text in overrides)
    )
    places = {name: f"{OVERRIDE}{text}" for name, text in typed}
    own = _from_environment(os.environ)[1]
    return {**own, **{name.partition(".")[0]: place for name, place in places.items()}, **places}


def migrate_legacy_config(source: str | Path | Mapping[str, Any]) -> Config:
    """Return the new configuration for a legacy one, given as a file (JSON, YAML, nanoGPT Python) or a mapping.

    Keys without a counterpart are kept under `Config.legacy` and named in a notice. A file that is already in
    the new format is returned as it is.
    """
    if isinstance(source, Mapping):
        migrated = migrate_dictionary(dict(source))
        logger.warning(migrated.notice())
        return build_config(migrated.values, "the given mapping")
    values, places = _read_file(Path(source))
    return build_config(values, str(source), places)


def build_config(values: Mapping[str, Any], source: str, places: Mapping[str, str] | None = None) -> Config:
    """Validate plain values into a `Config`, which remembers the `places` they come from.

    ConfigError lists every wrong key and type with its place: that in `places` by "section.key", else `source`.
    """
    known = places or {}
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain(error, source, known)) from None
    sections = {name: copy.deepcopy(dict(section)) for name, section in config.sections().items()}
    came = {
        name: (place, sections[section][key])
        for name, place in known.items()
        for section, key in [name.split(".", 1) if "." in name else ("", "")]
        if key in sections.get(section, {})
    }
    return with_places(config, came)


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
        if not (section and key):
            meant = did_you_mean(dotted, "=..." if meant_settings(dotted) else "")
            raise ConfigError(
                f"{OVERRIDE}{dotted} names no setting: write section.key=value, such as training.batch_size=8{meant}"
            )
        values.setdefault(section, {})[key] = value
    return values


def _split(assignment: str) -> tuple[str, Any]:
    name, separator, value = assignment.partition("=")
    place = f"{OVERRIDE}{assignment}"
    if not separator:
        meant = did_you_mean(name, "=...") or ", such as training.batch_size=8"
        raise ConfigError(f"{place} is no setting: write section.key=value{meant}")
    return name.strip(), _value(value, place, f"{name.strip()}=")


def _value(text: str, place: str, name: str) -> Any:
    if not text.strip():
        raise ConfigError(f"{place} has no value: write one, or {name}null to empty the setting")
    try:
        return parse_value(text)
    except AmbiguousNumberError as error:
        raise ConfigError(f"{place}: {error}") from None


def _from_environment(environment: Mapping[str, str]) -> tuple[dict[str, Any], Places]:
    """Return the settings of the environment by section, and the variable that each comes from."""
    values: dict[str, Any] = {}
    places: Places = {}
    for name, text in environment.items():
        if not name.startswith(ENVIRONMENT_PREFIX) or name in OWN_VARIABLES:
            continue
        place = f"the environment variable {name}"
        section, separator, key = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
        if separator:
            values.setdefault(section, {})[key] = _value(text, place, f"{name}=")
            places[section] = places[f"{section}.{key}"] = place
        else:
            _refuse_variable(name, section)
    return values, places


def _refuse_variable(name: str, said: str) -> None:
    """Raise ConfigError for a variable that is meant for a setting; one that is like none is only named."""
    begun, _, key = said.partition("_")
    meant = [f"{begun}.{key or 'KEY'}"] if begun in Config.model_fields else meant_settings(said)
    if meant:
        names = [ENVIRONMENT_PREFIX + setting.replace(".", "__").upper() for setting in meant[:3]]
        raise ConfigError(f"the environment variable {name} names no setting: write {' or '.join(names)}, or unset it")
    warn_once(f"the environment variable {name} is no setting (LLMBUILDER_SECTION__KEY) and does nothing")


def _read_file(path: Path) -> tuple[dict[str, Any], Places]:
    """Return a file's values in the new format and their places; a legacy one is migrated, with a notice."""
    if path.suffix.lower() == ".py":
        migrated = migrate_python_file(path)
    else:
        values = read_mapping(path)
        if not is_legacy(values):
            filled = {
                name: {} if value is None and name in Config.model_fields and name != "legacy" else value
                for name, value in values.items()  # a section whose keys are all commented out
            }
            return filled, places_in_file(path)
        migrated = migrate_dictionary(values)
    logger.warning(migrated.notice())
    return migrated.values, places_in_file(path, migrated)


def _explain(error: ValidationError, source: str, places: Mapping[str, str]) -> str:
    """Return every wrong key and value in a line of its own, beginning with its place."""
    wrong: dict[tuple[str, str], list[str]] = {}
    got: dict[tuple[str, str], str] = {}
    for detail in error.errors():
        location = [str(part) for part in detail["loc"]]
        setting = ".".join(location[:2])
        name = ".".join(location[: 3 if setting in _WITH_PARTS else 2])
        place = places.get(setting) or places.get(location[0]) or source
        if detail["type"] == "extra_forbidden":
            wrong[(place, f"unknown key {name!r}{_meant(location)}")] = []
            continue
        # What stands behind the key names the parts of a union that pydantic tried.
        said = detail["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
        said = said.partition(", unable to parse")[0]
        wrong.setdefault((place, name), []).append(said)
        got.setdefault((place, name), f", got {detail['input']!r}")
    lines = [
        f"{place}: {text}" + (f": {' or '.join(dict.fromkeys(said))}{got[(place, text)]}" if said else "")
        for (place, text), said in wrong.items()
    ]
    return lines[0] if len(lines) == 1 else "these settings cannot be used:\n" + "\n".join(f"  {x}" for x in lines)


def _meant(location: list[str]) -> str:
    if len(location) == 1:
        return suggestion(location[0], Config.model_fields) or did_you_mean(location[0])
    whole = _WITH_PARTS.get(".".join(location[:2]))
    if whole is not None:
        return suggestion(location[-1], whole.model_fields)
    return did_you_mean(".".join(location))
