"""Tables with a text in each row: CSV, JSON Lines, Parquet.

A row is a document if the text column holds text; any other row is reported by its number and the reason. The text
column is the one asked for, else one that is named like text, else the longest. The other columns become notes.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from llmbuilder.documents.containers import open_decompressed
from llmbuilder.documents.document import Document, Outcome, Unreadable
from llmbuilder.documents.text import decode_text, read_text
from llmbuilder.errors import DataError, MissingDependencyError

Values = dict[str, Any]
LARGEST_LINE = 1 << 30  # bytes
_TEXT_COLUMNS = ("text", "content", "body", "document", "article", "prompt")
_LOOKED_AT = 100  # rows that decide which column has the text
_ROWS_TOGETHER = 512
_LONGEST_NOTE = 200  # characters
_LONGEST_HEADING = 80


def read_csv(path: Path, name: str, text_column: str | None = None) -> Iterator[Outcome]:
    """Yield the rows of a table separated by commas, semicolons, tabs or bars. Raises DataError if it is none."""
    lines = read_text(path)
    declared = re.match(r"sep=(.)\r?\n", lines)  # as Excel writes it
    text = lines[declared.end() :] if declared else lines
    # Quotes inside quoted fields are doubled (RFC 4180), whatever a look at the beginning makes of them.
    try:
        delimiter = declared[1] if declared else csv.Sniffer().sniff(text[:20000], delimiters=",;\t|").delimiter
    except csv.Error:
        delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    csv.field_size_limit(1 << 30)
    try:
        table = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        yield from _documents(_csv_rows(table, name), name, "csv", text_column)
    except csv.Error as error:
        raise DataError(f"{name}: not a readable table: {error}") from error


def _csv_rows(table: Iterator[list[str]], name: str) -> Iterator[tuple[str, Values] | Unreadable]:
    rows: Iterator[list[str]] = (row for row in table if row)
    header = [column.strip() for column in next(rows, [])]
    if any(len(column) > _LONGEST_HEADING for column in header):  # a row already: the table has no header
        rows = itertools.chain([header], rows)
        header = [f"column {number}" for number in range(1, len(header) + 1)]
    twice = next((column for column in header if header.count(column) > 1 and column), None)
    if twice is not None:
        raise DataError(f"{name}: two of its columns are called {twice!r}: one of them would be lost")
    for number, row in enumerate(rows, start=1):
        source, more = f"{name}#{number}", row[len(header) :]
        if any(more):
            yield Unreadable(source, f"it has more fields ({len(more)}) than the header: quote those with delimiters")
        else:
            yield source, dict(itertools.zip_longest(header, row[: len(header)]))


def read_json_lines(
    path: Path,
    name: str,
    text_column: str | None = None,
    *,
    begin: int = 0,
    end: int | None = None,
    largest_line: int = LARGEST_LINE,
) -> Iterator[Outcome]:
    """Yield the rows of a JSON Lines file, compressed or not; with `end`, those that begin in a range of its bytes.

    Raises DataError if the file is damaged.
    """
    prefix = name if end is None else f"{name}@{begin}"
    with _damage_named(name):
        if text_column is None and begin:  # all parts of a file take the same column
            with open(path, "rb") as handle:
                text_column = _text_column_of(_json_lines(handle, name, None, largest_line))
        with _opened(path) as handle:
            if begin:
                handle.seek(begin - 1)
                _skip_line(handle)
            rows = _json_lines(handle, prefix, end, largest_line)
            yield from _documents(rows, name if end is None else None, "jsonl", text_column)


def _opened(path: Path) -> IO[bytes]:
    """Open lines for reading, decompressed; of UTF-16, whose line ends are two bytes, as UTF-8."""
    with open(path, "rb") as probe:
        is_utf16 = probe.read(2) in (b"\xff\xfe", b"\xfe\xff")
    return io.BytesIO(read_text(path).encode("utf-8", "surrogatepass")) if is_utf16 else open_decompressed(path)


def _json_lines(
    handle: IO[bytes], name: str, end: int | None, largest_line: int
) -> Iterator[tuple[str, Values] | Unreadable]:
    number = 0
    while end is None or handle.tell() < end:
        line = handle.readline(largest_line)
        if not line:
            return
        number += 1
        source = f"{name}#{number}"
        if len(line) == largest_line and not line.endswith(b"\n"):
            _skip_line(handle)
            yield Unreadable(source, f"the line is longer than {largest_line:,} bytes")
        elif line.strip():
            yield _parsed(line, source)


def _parsed(line: bytes, source: str) -> tuple[str, Values] | Unreadable:
    try:
        values = json.loads(decode_text(line, source))
    except (ValueError, RecursionError, DataError) as error:
        reason = str(error).removeprefix(f"{source}: ").splitlines()[0]
        return Unreadable.because(source, f"the line is not JSON: {reason}")
    return (source, values) if isinstance(values, dict) else Unreadable(source, "the line is not a JSON object")


def _skip_line(handle: IO[bytes]) -> None:
    while (piece := handle.readline(1 << 20)) and not piece.endswith(b"\n"):
        pass


@contextmanager
def _damage_named(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError) as error:
        raise DataError(f"{name}: it is damaged: {error}") from error


def read_parquet(
    path: Path, name: str, text_column: str | None = None, *, row_groups: range | None = None
) -> Iterator[Outcome]:
    """Yield the rows of a Parquet file, or of some of its row groups. Raises DataError if it is damaged."""
    begin = row_groups.start if row_groups is not None else 0
    prefix = f"{name}@{begin}" if begin else name
    columns = _readable_columns(path, name)
    if text_column is None and begin:
        rows = (("", row) for row in iter_parquet_rows(path, columns, name=name))
        text_column = _text_column_of(rows)
    named = enumerate(iter_parquet_rows(path, columns, name=name, row_groups=row_groups), start=1)
    rows = ((f"{prefix}#{number}", row) for number, row in named)
    yield from _documents(rows, name, "parquet", text_column)


def _readable_columns(path: Path, name: str) -> list[str]:
    """Return the columns with texts, numbers and truth values; others can be neither a text nor a note."""
    pyarrow = require_pyarrow("reading Parquet files")
    import pyarrow.parquet as parquet

    kinds = pyarrow.types
    tests = (kinds.is_string, kinds.is_large_string, kinds.is_string_view, kinds.is_dictionary, kinds.is_binary,
             kinds.is_large_binary, kinds.is_boolean, kinds.is_integer, kinds.is_floating)  # fmt: skip
    with _parquet_damage_named(name):
        schema = parquet.read_schema(path)
    return [field.name for field in schema if any(test(field.type) for test in tests)]


@contextmanager
def _parquet_damage_named(name: str) -> Iterator[None]:
    pyarrow = require_pyarrow("reading Parquet files")
    try:
        yield
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{name}: cannot be read as Parquet: {str(error).splitlines()[0]}") from error


def iter_parquet_rows(
    path: Path | str, columns: Sequence[str] | None = None, *, row_groups: range | None = None, name: str | None = None
) -> Iterator[Values]:
    """Yield the rows of a Parquet file as dictionaries, some hundred in memory at a time.

    Raises DataError, naming the file (`name`, default: the path), if it is damaged.
    """
    require_pyarrow("reading Parquet files")
    import pyarrow.parquet as parquet

    groups = list(row_groups) if row_groups is not None else None
    with _parquet_damage_named(name or str(path)), parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(_ROWS_TOGETHER, row_groups=groups, columns=columns):
            try:
                rows = batch.to_pylist()
            except UnicodeDecodeError:
                rows = [_row(batch, number) for number in range(batch.num_rows)]
            yield from rows


def _row(batch: Any, number: int) -> Values:
    """Return one row of a batch in which some value is not what its type says; such a value is null."""
    row: Values = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            row[name] = column[number].as_py()
        except UnicodeDecodeError:
            row[name] = None
    return row


def require_pyarrow(purpose: str) -> Any:
    """Return PyArrow. Raises MissingDependencyError if it is not installed."""
    try:
        import pyarrow
    except ImportError:
        raise MissingDependencyError("pyarrow", "parquet", purpose) from None
    return pyarrow


def _documents(
    rows: Iterable[tuple[str, Values] | Unreadable], whole: str | None, kind: str, text_column: str | None
) -> Iterator[Outcome]:
    """Turn rows with their names into documents; `whole` names the table if one without rows is to be reported."""
    stream = iter(rows)
    first: list[tuple[str, Values] | Unreadable] = []
    damage: list[Exception] = []
    try:
        for row in itertools.islice(stream, _LOOKED_AT):
            first.append(row)
    except Exception as error:  # noqa: BLE001 - raised again behind the rows that stand before the damage
        damage.append(error)
    column = text_column or _text_column_of(first)
    if not first and not damage and whole is not None:
        yield Unreadable(whole, "no rows in it")
    for row in itertools.chain(first, stream if not damage else ()):
        yield row if isinstance(row, Unreadable) else _document(*row, column, kind)
    if damage:
        raise damage[0]


def _text_column_of(rows: Iterable[tuple[str, Values] | Unreadable]) -> str:
    """Return the column named like text that holds any, in small letters or large, else the one with most text."""
    values = [row[1] for row in itertools.islice(rows, _LOOKED_AT) if not isinstance(row, Unreadable)]
    sizes: Counter[str] = Counter()
    for row in values:
        sizes.update({name: len(value) for name, value in row.items() if name and isinstance(value, str | bytes)})
    named = (name for known in _TEXT_COLUMNS for name in sizes if name.casefold() == known and sizes[name])
    return next(named, None) or max(sizes, key=lambda name: sizes[name], default=_TEXT_COLUMNS[0])


def _document(source: str, values: Values, column: str, kind: str) -> Outcome:
    if column not in values:
        return Unreadable(source, f"no column {column!r}; its columns are {', '.join(map(str, values)) or 'none'}")
    text = _text_of(values[column])
    if not text:
        return Unreadable(source, f"no text in column {column!r} (--text-column names another)")
    title = values.get("title")
    notes = {key: value for key, value in values.items() if key != column and _is_note(value)}
    return Document(text, source, kind, str(title) if title else None, notes=notes)


def _text_of(value: object) -> str | None:
    """Return a value that is a text; some programs store texts as bytes."""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return None
    return value if isinstance(value, str) else None


def _is_note(value: object) -> bool:
    return isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= _LONGEST_NOTE)
