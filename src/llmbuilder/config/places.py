"""Where the values of a configuration come from, so that a message about one names the true place.

A place is words such as "run.yaml, line 3", "preset 'tiny'", "the environment variable LLMBUILDER_TRAINING__SEED".
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

import yaml

from llmbuilder.config.parsing import plain_nodes
from llmbuilder.formats.nanogpt.configuration import MigratedConfig

Places = dict[str, str]  # by "section.key", or by what stands in a key's place


def places_of_values(values: Mapping[str, object], place: str) -> Places:
    """Return one place for every key of nested values."""
    return {name: place for section, inner in values.items() for name in _names(section, inner)}


def _names(section: str, inner: object) -> list[str]:
    return [section, *(f"{section}.{key}" for key in inner)] if isinstance(inner, Mapping) else [section]


def places_in_file(path: Path, migrated: MigratedConfig | None = None) -> Places:
    """Return the line of every key of a file; of a legacy one by the names that the keys have here."""
    written = {name: f"{path}, line {line}" for name, line in _lines(path).items()}
    if migrated is None:
        return written
    found = {key: f"the default of {default.origin} for a key that {path} leaves out"
             for key, default in migrated.defaults.items()}  # fmt: skip
    found |= written
    named = {**{key: key for key in migrated.defaults}, **migrated.mapping}
    return {new: f"{found.get(key, str(path))} ({key})" for key, new in named.items()}


def _lines(path: Path) -> dict[str, int]:
    if path.suffix.lower() == ".py":
        return _lines_of_python(path)
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix.lower() == ".json":
        text = text.replace("\t", " ")  # YAML reads JSON but for its tabs, and no line changes
    try:
        node = plain_nodes(text)
    except (yaml.YAMLError, RecursionError):  # JSON with escapes that YAML lacks
        return {}
    return _lines_of_node(node, "") if isinstance(node, yaml.MappingNode) else {}


def _lines_of_node(node: yaml.MappingNode, prefix: str) -> dict[str, int]:
    lines: dict[str, int] = {}
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        lines[name] = key.start_mark.line + 1
        if isinstance(value, yaml.MappingNode) and name.count(".") < 2:
            lines |= _lines_of_node(value, f"{name}.")
    return lines


def _lines_of_python(path: Path) -> dict[str, int]:
    """Return the last line that sets each name; names inside classes and functions count as the file's own."""
    lines: dict[str, int] = {}
    for node in ast.walk(ast.parse(path.read_bytes())):
        targets: list[ast.expr] = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign | ast.AugAssign):
            targets = [node.target]
        lines |= {target.id: target.lineno for target in targets if isinstance(target, ast.Name)}
    return lines
