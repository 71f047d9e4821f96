"""JSON files that hold texts: an array of objects, an object around one, a single object with a text, JSON Lines.

An array is a table (see `rows`), read row by row. Most other JSON, such as settings, is by programs for programs.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmbuilder.documents.document import Outcome, Unreadable
from llmbuilder.documents.folders import MANIFEST
from llmbuilder.documents.rows import Values, choose_text
from llmbuilder.documents.tables import json_value, read_json_lines, row_documents
from llmbuilder.documents.text import read_text
from llmbuilder.errors import DataError

NO_ROWS = (
    "unsupported JSON: an array of objects, an object around one, one object with a text, and JSON Lines can be read"
)
_LARGEST_OBJECT = 1 << 27  # characters: what is no array is in memory as a whole, several times its size
_MOSTLY = 0.5  # of an object: its list of rows
_SPACE = re.compile(r"[ \t\r\n]*")


def read_json(path: Path, name: str, text_column: str | None = None) -> Iterator[Outcome]:
    """Yield the documents of a JSON file. Raises DataError if it holds no texts, or is damaged."""
    if path.name.endswith(MANIFEST):
        raise DataError(f"{name}: it describes a corpus")
    text = read_text(path).removeprefix("\ufeff").lstrip(" \t\r\n")
    if text.startswith("["):
        yield from _array(text, name, text_column)
        return
    if not text.startswith("{"):
        raise DataError(f"{name}: {NO_ROWS}")
    try:
        yield from _object(text, name, text_column)
    except json.JSONDecodeError as error:
        if not _is_lines(text):
            raise DataError(f"{name}: it is damaged: {error}") from error
        yield from read_json_lines(path, name, text_column)


def _is_lines(text: str) -> bool:
    """Whether the first line is a whole object, as in JSON Lines under this name."""
    try:
        return isinstance(json_value(text.partition("\n")[0]), dict)
    except (ValueError, RecursionError):
        return False


def _array(text: str, name: str, text_column: str | None) -> Iterator[Outcome]:
    rows = _elements(text, name)
    first = next(rows, None)
    if first is not None and not isinstance(first[1], dict):
        raise DataError(f"{name}: {NO_ROWS}")
    found = itertools.chain([first] if first is not None else [], rows)
    yield from row_documents((_row(source, value) for source, value in found), name, "json", text_column)


def _row(source: str, value: Any) -> tuple[str, Values] | Unreadable:
    return (source, value) if isinstance(value, dict) else Unreadable(source, "it is not a JSON object")


def _elements(text: str, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the elements of an array one at a time. Raises DataError where it is damaged, behind those before."""
    decoder = json.JSONDecoder()
    as_floats = json.JSONDecoder(parse_int=float)  # for numbers of thousands of digits
    place = _skipped(text, 1)
    try:
        if text.startswith("]", place):
            return
        for number in itertools.count(1):
            try:
                value, place = decoder.raw_decode(text, place)
            except json.JSONDecodeError:
                raise
            except ValueError:
                value, place = as_floats.raw_decode(text, place)
            yield f"{name}#{number}", value
            place = _skipped(text, place)
            if text.startswith("]", place):
                return
            if not text.startswith(",", place):
                raise json.JSONDecodeError("Expecting ',' delimiter", text, place)
            place = _skipped(text, place + 1)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name}: it is damaged: {error}") from error


def _skipped(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return found.end() if found is not None else place


def _object(text: str, name: str, text_column: str | None) -> Iterator[Outcome]:
    if len(text) > _LARGEST_OBJECT and not _is_lines(text):
        raise DataError(f"{name}: one JSON object of {len(text):,} characters: write its rows as JSON Lines")
    try:
        value = json_value(text)
    except RecursionError as error:
        raise DataError(f"{name}: it is damaged: it is nested too deep") from error
    rows = _only_list(value)
    if rows is not None and choose_text(rows, text_column).is_named(text_column):
        named = ((f"{name}#{number}", row) for number, row in enumerate(rows, start=1))
        yield from row_documents(named, name, "json", text_column)
    elif (row_text := choose_text([value], text_column)).is_named(text_column) and row_text.text(value):
        yield from row_documents([(name, value)], name, "json", text_column)
    else:
        raise DataError(f"{name}: {NO_ROWS}")


def _only_list(value: Values) -> list[Values] | None:
    """Return the one list of objects that an object consists of, None if it is something else."""
    lists = [one for one in value.values() if isinstance(one, list) and one and all(isinstance(o, dict) for o in one)]
    if len(lists) != 1 or "messages" in value or "conversations" in value:
        return None
    return lists[0] if len(json.dumps(lists[0])) >= _MOSTLY * len(json.dumps(value)) else None
