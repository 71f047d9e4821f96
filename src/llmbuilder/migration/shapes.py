"""How many attention heads a model has, where its checkpoint does not say so: no tensor shows it.

A project's files name shapes: configurations, tables in programs, defaults of classes. Those of the same width and
number of layers as the tensors are the model's, if they all agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from llmbuilder.config.parsing import read_mapping
from llmbuilder.errors import ConfigError
from llmbuilder.formats.nanogpt.known_arguments import SPELLINGS
from llmbuilder.migration.programs import Program

_HEADS, _WIDTHS, _LAYERS = (SPELLINGS[name].split() for name in ("num_heads", "embedding_dim", "num_layers"))
_TESTS = {"test", "tests", "testing", "fixtures"}  # shapes of models that nobody trained
_LARGEST = 1 << 20  # bytes of a configuration file


def find_heads(
    root: Path,
    files: Sequence[PurePosixPath],
    programs: Mapping[PurePosixPath, Program],
    width: int,
    layers: int,
) -> tuple[int, str] | None:
    """Return the number of heads of the only shape that a project names for a width and a number of layers, and where.

    `files` are looked through for configurations; `programs` are those that can have made the model.
    None where it names none, or several that differ.
    """
    found: dict[int, str] = {}
    for place, values in _tables(root, files, programs):
        heads, own_width, own_layers = (_number(values, names) for names in (_HEADS, _WIDTHS, _LAYERS))
        if heads and (own_width, own_layers) == (width, layers) and width % heads == 0:
            found.setdefault(heads, place)
    return next(iter(found.items())) if len(found) == 1 else None


def _number(values: Mapping[str, Any], names: Sequence[str]) -> int | None:
    return next((values[name] for name in names if type(values.get(name)) is int), None)


def _tables(
    root: Path, files: Sequence[PurePosixPath], programs: Mapping[PurePosixPath, Program]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for file in files:
        if _TESTS & set(file.parts):
            continue
        if file.suffix in (".json", ".yaml", ".yml") and (root / file).stat().st_size <= _LARGEST:
            try:
                values = read_mapping(root / file)
            except ConfigError:
                continue
            yield from ((str(file), table) for table in _nested(values))
    for path, program in programs.items():
        if _TESTS & set(path.parts):
            continue
        whole = {**program.configured, **program.given, **program.defaults}
        for values in (whole, *program.dataclasses.values(), *program.presets.values()):
            yield from ((str(path), table) for table in _nested(values))


def _nested(values: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield values
    for inner in values.values():
        if isinstance(inner, Mapping):
            yield from _nested(inner)
