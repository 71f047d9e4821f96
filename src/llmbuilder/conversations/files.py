"""Files of conversations, or of preference pairs: JSON Lines, JSON and Parquet, alone or in a folder.

They are told from text, and from each other, by their first rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from llmbuilder.conversations.forms import Conversation, conversation_of, form_of
from llmbuilder.documents.folders import is_prepared, list_folder
from llmbuilder.errors import DataError, MissingDependencyError
from llmbuilder.notices import kind_of

T = TypeVar("T")
_LINES, _LIST, _PARQUET = (".jsonl", ".ndjson"), (".json",), (".parquet",)
_SUFFIXES = (*_LINES, *_LIST, *_PARQUET)
_TALK, _PAIRS = "conversations", "pairs"
# Fields of the question and of its answer, as they are called where nothing else makes a form that is known.
_ASKED = frozenset(("question", "query", "problem", "instruction", "prompt", "input", "user", "human"))
_ANSWERED = frozenset(("answer", "answers", "response", "output", "solution", "reply", "assistant", "completion"))
_ABOUT = re.compile(r"(readme|licen[cs]e|notice|citation|dataset_infos?|card)([._-].*)?", re.IGNORECASE)
_LONGEST_LINE = 64 << 20  # bytes
_LARGEST_LIST = 2 << 30  # bytes of a JSON file, which is read as one
_LOOKED_AT = 20  # rows
_BEGINNING = 1 << 20  # bytes


@dataclass(frozen=True)
class LeftOut:
    """A row that is not used, where it stands, and why."""

    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


def conversation_files(source: str | Path) -> list[Path] | None:
    """Return the files of a source of conversations; None for any other, such as text and documents.

    A folder is one if it holds files of conversations, and beside them nothing but what is said about them. Raises
    DataError for preference pairs, MissingDependencyError for Parquet without pyarrow.
    """
    files = _files_of(source)
    kinds = _kinds(files)
    if _PAIRS in kinds:
        raise DataError(
            f"{files[kinds.index(_PAIRS)]} holds pairs of answers, of which one is preferred: those are learned with "
            "--objective dpo (finetuning.objective); or keep the preferred ones as conversations (messages)"
        )
    return files if files and all(kinds) else None


def pair_files(source: str | Path) -> list[Path]:
    """Return the files of a source of preference pairs, a file or a folder as `conversation_files` takes them.

    Raises DataError for any other source, MissingDependencyError for Parquet without pyarrow.
    """
    if not Path(source).exists():
        raise DataError(f"no such file or folder: {source}")
    files = _files_of(source)
    kinds = _kinds(files)
    if _TALK in kinds:
        raise DataError(
            f"{files[kinds.index(_TALK)]} holds conversations, and no pairs of a chosen and a rejected answer: "
            "leave out --objective dpo (finetuning.objective), and their answers are learned"
        )
    if not files or not all(kinds):
        raise DataError(
            f"{source} holds no preference pairs: --objective dpo (finetuning.objective) learns from rows with a "
            "chosen and a rejected answer: lines of a .jsonl, a list in a .json, a .parquet, or a folder of such files"
        )
    return files


def read_conversations(files: list[Path]) -> Iterator[Conversation | LeftOut]:
    """Yield what the rows of files hold, in their order."""
    return read_rows(files, conversation_of)


def read_rows(files: list[Path], understood: Callable[[Mapping[str, Any], str], T]) -> Iterator[T | LeftOut]:
    """Yield what the rows of files are `understood` to hold, by their values and their place, in their order.

    What raises DataError is left out.
    """
    for file in files:
        for place, row in _rows(file):
            if isinstance(row, DataError):
                yield LeftOut(place, str(row))
                continue
            try:
                if not isinstance(row, dict):
                    raise DataError(f"it is {kind_of(row)} and not an object")
                # pandas writes NaN for an empty cell.
                yield understood({name: None if value != value else value for name, value in row.items()}, place)
            except DataError as error:
                yield LeftOut(place, str(error))


def unknown_fields(source: str | Path) -> list[str]:
    """Return the fields of rows in which, by their names, somebody asks and answers, in none of the forms known.

    By the first row; none where it holds something else.
    """
    for file in _files_of(source):
        row = _first_item(file) if file.suffix.lower() in _LIST else None
        row = next((row for _, row in _rows(file)), None) if row is None else row
        if isinstance(row, dict) and form_of(row) is None:
            names = {str(name).lower() for name in row}
            if (names & _ASKED and names & _ANSWERED) or {"text", "role"} <= names:
                return list(map(str, row))
    return []


def _files_of(source: str | Path) -> list[Path]:
    """Return the files of a source that may hold rows; none if it has others, too."""
    path = Path(source)
    if path.is_file():
        return [path] if path.suffix.lower() in _SUFFIXES else []
    if not path.is_dir() or is_prepared(path) or (path / "train.bin").is_file():
        return []
    files = [file for file in list_folder(path, may_be_empty=True).files if not _ABOUT.fullmatch(file.name)]
    return files if all(file.suffix.lower() in _SUFFIXES for file in files) else []


def _kinds(files: list[Path]) -> list[str | None]:
    """Return what each of the files holds, as far as it takes to know that one holds neither."""
    kinds: list[str | None] = []
    for file in files:
        kinds.append(_kind_of(file))
        if kinds[-1] is None:
            break
    return kinds


def _kind_of(file: Path) -> str | None:
    """Return whether a file holds conversations or pairs, by its first rows; None for neither."""
    first = _first_item(file) if file.suffix.lower() in _LIST else None
    rows = _rows(file) if first is None else iter([("", first)])
    for number, (_, row) in enumerate(rows):
        form = None if isinstance(row, DataError) else form_of(row)
        if form is not None:
            return _PAIRS if form == "preferences" else _TALK
        if number >= _LOOKED_AT:
            break
    return None


def _first_item(file: Path) -> Any:
    """Return what a list in a JSON file begins with, without reading all of it; None if that is not seen at once."""
    with open(file, "rb") as handle:
        start = handle.read(_BEGINNING).decode("utf-8-sig", "ignore").lstrip()
    if not start.startswith("["):
        return None
    try:
        return json.JSONDecoder().raw_decode(start[1:].lstrip())[0]
    except (ValueError, RecursionError):
        return None


def _rows(file: Path) -> Iterator[tuple[str, Any]]:
    """Yield where each row stands and what it holds, an error in the place of what cannot be read."""
    kind = file.suffix.lower()
    try:
        if kind in _PARQUET:
            yield from _parquet_rows(file)
        elif kind in _LIST and _begins_with(file, b"["):
            yield from _list_rows(file)
        else:
            yield from _line_rows(file)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error


def _begins_with(file: Path, sign: bytes) -> bool:
    with open(file, "rb") as handle:
        return handle.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(sign)


def _line_rows(file: Path) -> Iterator[tuple[str, Any]]:
    with open(file, "rb") as handle:
        number = 0
        while line := handle.readline(_LONGEST_LINE + 1):
            number += 1
            place = f"{file.name}:{number}"
            if len(line) > _LONGEST_LINE and not line.endswith(b"\n"):
                yield place, DataError(f"the line is longer than {_LONGEST_LINE >> 20} MB")
                while (more := handle.readline(1 << 20)) and not more.endswith(b"\n"):
                    pass
            elif line.strip():
                yield place, _parsed_line(line)


def _parsed_line(line: bytes) -> Any:
    try:
        return json.loads(line.removeprefix(b"\xef\xbb\xbf"))
    except json.JSONDecodeError as error:
        return DataError(f"the line is no JSON: {error.msg} at character {error.pos + 1}")
    except (ValueError, RecursionError) as error:
        return DataError(f"the line is no JSON: {error}")


def _list_rows(file: Path) -> Iterator[tuple[str, Any]]:
    size = file.stat().st_size
    if size > _LARGEST_LIST:
        raise DataError(f"{file} has {size:,} bytes, and a JSON list is read as one: make it JSON Lines (.jsonl)")
    try:
        values = json.loads(file.read_text("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is no JSON: {error}") from error
    for number, value in enumerate(values, 1):
        yield f"{file.name}, item {number}", value


def _parquet_rows(file: Path) -> Iterator[tuple[str, Any]]:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingDependencyError("pyarrow", "parquet", f"reading {file.name}") from None
    number = 0
    try:
        with parquet.ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=256):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{file.name}, row {number}", row
    except arrow.ArrowException as error:
        raise DataError(f"{file} is no complete Parquet file: {error}") from error
