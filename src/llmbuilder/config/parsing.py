"""JSON and YAML as configurations write them.

Words stay words: YAML 1.1 reads `no`, `off`, `on` and `yes` as booleans, which turns the language Norwegian and
`mixed_precision: no` into something else; only `true` and `false` are booleans here, as in YAML 1.2. Dates and numbers
by sixties (`1:30`) are words as well, `1e-4` is a number, and `010`, which is 8 in one version and 10 in the other, is
an error. A key that stands twice is an error, because one of the two would be lost. So is what could be read and not
written again: numbers that are not finite, halves of characters, and aliases that stand for more than a file could
hold.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from llmbuilder.errors import ConfigError
from llmbuilder.notices import kind_of


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2's booleans."""


_MOST_VALUES = 100_000
_DEEPEST = 50
_BOOLEAN = "tag:yaml.org,2002:bool"
_REPLACED = {_BOOLEAN, *(f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "timestamp"))}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _REPLACED]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOLEAN, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_INTEGER = "tag:yaml.org,2002:int"
_Loader.add_implicit_resolver(
    _INTEGER,
    re.compile(r"^[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0o[0-7_]+|[0-9][0-9_]*)$"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^(?:[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)"
               r"|\.(?:nan|NaN|NAN))$"),
    list("-+0123456789."),
)  # fmt: skip


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    own = [key.value for key, _ in node.value]  # before those of other mappings join them
    for number, key in enumerate(own):
        if key in own[:number]:
            raise _Repeated(key, f"line {node.start_mark.line + 1}")
    loader.flatten_mapping(node)
    return {loader.construct_object(k, deep=True): loader.construct_object(v, deep=True) for k, v in node.value}


_Loader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)


class AmbiguousNumberError(Exception):
    """A number that versions of YAML read differently."""

    def __init__(self, text: str, line: int) -> None:
        octal = text.replace("_", "").lstrip("+-0") or "0"
        self.line = line
        super().__init__(
            f"{text} could be a decimal or an octal number: write {octal}, or 0o{octal} if it is meant to be octal"
        )


def _construct_integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(node.value)
    if re.match(r"^[-+]?0[0-9_]", text):
        raise AmbiguousNumberError(text, node.start_mark.line + 1)
    return int(text.replace("_", ""), 0)


_Loader.add_constructor(_INTEGER, _construct_integer)


class _Repeated(Exception):
    """A key stands twice in one mapping."""

    def __init__(self, key: object, place: str = "") -> None:
        super().__init__(f"the key {key!r} stands twice" + (f" in the mapping at {place}" if place else ""))


def read_mapping(path: Path) -> dict[str, Any]:
    """Parse a JSON or YAML file into a dictionary. Raises ConfigError with line and column for malformed files."""
    text = _read_text(path)
    if not text.strip():
        raise ConfigError(f"{path} is empty: a configuration has sections, such as training: with batch_size: 8 in it")
    is_json = path.suffix.lower() == ".json"
    try:
        values = _from_json(text) if is_json else _from_yaml(text)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{path} is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}{_json_remedy(error)}"
        ) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {_yaml_problem(error)}") from None
    except _Repeated as error:
        raise ConfigError(f"{path}: {error}: one of the two would be lost; write it once") from None
    except AmbiguousNumberError as error:
        raise ConfigError(f"{path}, line {error.line}: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path} is nested too deeply for a configuration") from None
    except ValueError as error:
        raise ConfigError(f"{path} holds a value that cannot be read: {error}") from None
    if values is None:
        raise ConfigError(f"{path} holds nothing but comments: a configuration has sections, such as training:")
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path} is no configuration: it must hold a mapping of sections, such as training: with batch_size: 8 in "
            f"it, and is {kind_of(values)}"
        )
    for name, problem in _unwritable(values):
        raise ConfigError(f"{path}: {name} {problem}")
    return values


def _read_text(path: Path) -> str:
    if path.is_dir():
        raise ConfigError(f"{path} is a folder: name a configuration file in it (.json, .yaml or nanoGPT's .py)")
    try:
        return path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"no such configuration file: {path}") from None
    except UnicodeDecodeError as error:
        if path.read_bytes()[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise ConfigError(f"{path} is UTF-16, as PowerShell writes files: save it as UTF-8") from None
        raise ConfigError(
            f"{path} is no text in UTF-8 ({error.reason} at byte {error.start}): save it as such"
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from None


def _json_remedy(error: json.JSONDecodeError) -> str:
    """Return what to do about the two things that people write and JSON lacks."""
    rest, before = error.doc[error.pos :].lstrip(), error.doc[: error.pos].rstrip()
    if rest.startswith(("//", "/*", "#")):
        return ": JSON has no comments; remove them, or write the file as .yaml"
    if (before.endswith(",") and rest.startswith(("}", "]"))) or rest.startswith((",}", ",]")):
        return ": remove the comma before the closing bracket"
    return ": JSON takes double quotes only" if rest.startswith("'") else ""


def _yaml_problem(error: yaml.YAMLError) -> str:
    """Return PyYAML's several lines in one, with what it stumbles over in words."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return str(error)
    problem = getattr(error, "problem", None) or "cannot be read"
    if "'\\t'" in problem:
        problem = "a tab where blanks belong; indent with blanks"
    elif problem == "mapping values are not allowed here":
        problem = "a colon where none can stand: is the line before it indented alike, or the value in need of quotes?"
    return f"{problem} (line {mark.line + 1}, column {mark.column + 1})"


def plain_nodes(text: str) -> yaml.Node | None:
    """Return the document as nodes, which know their lines."""
    loader = _Loader(text)
    try:
        return loader.get_single_node()
    finally:
        loader.dispose()


def _from_yaml(text: str) -> Any:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _written_values(node, {}) > _MOST_VALUES:
            raise yaml.YAMLError(f"its aliases stand for more than {_MOST_VALUES:,} values, which no configuration has")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _written_values(node: yaml.Node, known: dict[int, float]) -> float:
    """Return how many values a node holds with aliases written out; infinite for one that holds itself."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = math.inf  # until it is counted: an alias to it would be within itself
        inner = (part for pair in node.value for part in pair) if isinstance(node, yaml.MappingNode) else node.value
        known[id(node)] = 1 + sum(_written_values(part, known) for part in inner)
    return known[id(node)]


def _unwritable(values: Any) -> Iterator[tuple[str, str]]:
    """Yield by its dotted name each value that neither JSON nor a file in UTF-8 can hold, with what is wrong."""
    waiting: list[tuple[str, Any, int]] = [("", values, 0)]
    while waiting:
        name, value, depth = waiting.pop()
        if depth > _DEEPEST:
            yield name[:100], "is nested too deeply for a configuration"
        elif isinstance(value, dict):
            broken = next((key for key in value if isinstance(key, str) and not _is_text(key)), None)
            if broken is not None:
                yield f"the key {broken!a}", "holds half a character (a lone surrogate)"
            waiting += [(f"{name}.{key}".lstrip("."), item, depth + 1) for key, item in value.items()]
        elif isinstance(value, list | tuple):
            waiting += [(name, item, depth + 1) for item in value]
        elif isinstance(value, str) and not _is_text(value):
            yield name, f"holds half a character (a lone surrogate): {value[:50]!a}"
        elif isinstance(value, float) and not math.isfinite(value):
            yield name, f"is {value}, which is no finite number"


def _is_text(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _from_json(text: str) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        mapping = dict(pairs)
        if len(mapping) < len(pairs):
            names = [name for name, _ in pairs]
            raise _Repeated(next(name for name in names if names.count(name) > 1))
        return mapping

    try:
        return json.loads(text, object_pairs_hook=once)
    except _Repeated:
        with contextlib.suppress(yaml.YAMLError, ValueError, AmbiguousNumberError):
            _from_yaml(text.replace("\t", " "))  # raises the same and knows the line
        raise


def parse_value(text: str) -> Any:
    """Return what a value on the command line or in the environment means, read as YAML; else the text itself.

    Raises AmbiguousNumberError for a number such as 010.
    """
    try:
        return _from_yaml(text)
    except (yaml.YAMLError, _Repeated, RecursionError, ValueError):
        return text
