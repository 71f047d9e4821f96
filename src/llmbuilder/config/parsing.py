"""JSON and YAML as configurations write them.

Words stay words: YAML 1.1 reads `no`, `off`, `on` and `yes` as booleans, which turns the language Norwegian and
`mixed_precision: no` into something else; only `true` and `false` are booleans here, as in YAML
1.2. A key that stands twice is an error, because one of the two would be lost.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from llmbuilder.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2's booleans."""


_BOOLEAN = "tag:yaml.org,2002:bool"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOLEAN]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOLEAN, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    own = [key.value for key, _ in node.value]  # before those of other mappings join them
    for number, key in enumerate(own):
        if key in own[:number]:
            raise _Repeated(key, f"line {node.start_mark.line + 1}")
    loader.flatten_mapping(node)
    return {loader.construct_object(k, deep=True): loader.construct_object(v, deep=True) for k, v in node.value}


_Loader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)


class _Repeated(Exception):
    """A key stands twice in one mapping."""

    def __init__(self, key: object, place: str = "") -> None:
        super().__init__(f"the key {key!r} stands twice" + (f" in the mapping at {place}" if place else ""))


def read_mapping(path: Path) -> dict[str, Any]:
    """Parse a JSON or YAML file into a dictionary. Raises ConfigError with line and column for malformed files."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"no such configuration file: {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from None
    try:
        values = _from_json(text) if path.suffix.lower() == ".json" else yaml.load(text, _Loader)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{path} is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    except _Repeated as error:
        raise ConfigError(f"{path}: {error}: one of the two would be lost; write it once") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a mapping of sections, not {type(values).__name__}")
    return values


def _from_json(text: str) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        mapping = dict(pairs)
        if len(mapping) < len(pairs):
            names = [name for name, _ in pairs]
            raise _Repeated(next(name for name in names if names.count(name) > 1))
        return mapping

    return json.loads(text, object_pairs_hook=once)


def parse_value(text: str) -> Any:
    """Return what a value on the command line or in the environment means, read as YAML; else the text itself."""
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, _Repeated):
        return text
