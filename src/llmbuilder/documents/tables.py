"""Tables with a text in each row: CSV, JSON Lines, Parquet.

A row is a document if it holds text (see `rows`); any other row is reported by its number and the reason. A small CSV
table without a column of texts is one document, a table in Markdown.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import lzma
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from llmbuilder.documents.containers import open_decompressed
from llmbuilder.documents.document import Document, Outcome, Unreadable
from llmbuilder.documents.office_files.layout import table as markdown_table
from llmbuilder.documents.rows import RowText, Values, choose_text
from llmbuilder.documents.text import decode_text, read_text
from llmbuilder.errors import DataError, MissingDependencyError

LARGEST_LINE = 1 << 30  # bytes
_LOOKED_AT = 100  # rows that decide which column has the text
_ROWS_TOGETHER = 512
_LONGEST_HEADING = 80
_MOST_TITLES = 5  # lines above a table
_SMALL_TABLE, _LONGEST_CELL = 20_000, 80  # characters: of a table, and of its cells on average, that stay together


def read_csv(path: Path, name: str, text_column: str | None = None) -> Iterator[Outcome]:
    """Yield the rows of a table separated by commas, semicolons, tabs or bars. Raises DataError if it is none."""
    lines = read_text(path)
    declared = re.match(r"sep=(.)\r?\n", lines)  # as Excel writes it
    text = lines[declared.end() :] if declared else lines
    text = _without_comments(text)
    try:
        delimiter = declared[1] if declared else csv.Sniffer().sniff(text[:20000], delimiters=",;\t|").delimiter
    except csv.Error:
        delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    csv.field_size_limit(1 << 30)
    # Quotes inside quoted fields are doubled (RFC 4180), whatever a look at the beginning makes of them, or escaped.
    escape = "\\" if _ESCAPED_QUOTE.search(text) and '""' not in text else None
    try:
        cells = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, escapechar=escape)
        titles, rows = _titles(row for row in cells if row)
        if len(text) <= _SMALL_TABLE:
            whole = list(rows)
            if (document := _small_table(titles, whole, name, text_column, delimiter)) is not None:
                yield document
                return
            rows = iter(whole)
        if titles:
            yield Unreadable(f"{name}#title", f"lines above the table, no rows of it: {' / '.join(titles)}")
        yield from row_documents(_csv_rows(rows, name, delimiter), name, "csv", text_column)
    except csv.Error as error:
        raise DataError(f"{name}: not a readable table: {error}") from error


_ESCAPED_QUOTE = re.compile(r"""[^\\"]\\"[^\s,;|]""")


def _without_comments(text: str) -> str:
    """Return a table without the lines before it that only say something of it."""
    comments = re.match(r"(?:#[^\n]*\n)+", text)
    if comments is None:
        return text
    is_alone = comments.group().count("\n") == 1
    if is_alone and _is_header_like(comments.group(), text[comments.end() :]):
        return text
    return text[comments.end() :]


def _is_header_like(line: str, rest: str) -> bool:
    """Whether a line that begins with # has as many delimiters as the next one, as a header may."""
    following = rest.split("\n", 1)[0]
    return any(following.count(sign) and line.count(sign) == following.count(sign) for sign in ",;\t|")


def _titles(rows: Iterator[list[str]]) -> tuple[list[str], Iterator[list[str]]]:
    """Return the lines above a table, rows of several cells with one of them filled, and the rows of the table."""
    titles: list[str] = []
    above: list[list[str]] = []
    for row in rows:
        above.append(row)
        filled = [cell for cell in row if cell.strip()]
        if len(row) < 2 or len(filled) > 1 or len(above) > _MOST_TITLES:
            break
        titles += filled
    if not titles or len(above[-1]) < 2 or sum(bool(cell.strip()) for cell in above[-1]) < 2:
        return [], itertools.chain(above, rows)
    return titles, itertools.chain(above[-1:], rows)


def _small_table(
    titles: list[str], rows: list[list[str]], name: str, text_column: str | None, delimiter: str
) -> Document | None:
    """Return a table that has no column of texts as one document, None for any other one."""
    found = list(_csv_rows(iter(rows), name, delimiter))
    values = [row[1] for row in found if not isinstance(row, Unreadable)]
    if len(values) < len(found) or not values or choose_text(values, text_column).form != "lines":
        return None
    if sum(map(len, itertools.chain(*rows))) > _LONGEST_CELL * sum(map(len, rows)):
        return None
    return Document("\n\n".join((*titles, markdown_table(rows))), name, "csv")


def _csv_rows(rows: Iterator[list[str]], name: str, delimiter: str) -> Iterator[tuple[str, Values] | Unreadable]:
    header = [column.strip() for column in next(rows, [])]
    if has_none := _is_data(header):  # the table has no header
        rows = itertools.chain([header], rows)
        header = [f"column {number}" for number in range(1, len(header) + 1)]
    header = _told_apart(header)
    for number, row in enumerate(rows, start=1):
        source = f"{name}#{number}"
        if has_none:
            header += [f"column {place}" for place in range(len(header) + 1, len(row) + 1)]
        more = row[len(header) :]
        if (fused := _rows_in_a_field(row, len(header), delimiter)) is not None:
            yield Unreadable(source, f"a quote in it that is never closed takes in {fused} more rows: close it")
        elif any(more):
            yield Unreadable(source, f"it has more fields ({len(more)}) than the header: quote those with delimiters")
        else:
            yield source, dict(itertools.zip_longest(header, row[: len(header)]))


def _told_apart(header: list[str]) -> list[str]:
    """Return the names of columns, each once: the second of a name is "name (2)", the second without one "column 5"."""
    found: Counter[str] = Counter()
    names = []
    for number, column in enumerate(header, start=1):
        found[column] += 1
        again = f"{column} ({found[column]})" if column else f"column {number}"
        names.append(column if found[column] == 1 else again)
    return names


def _is_data(row: list[str]) -> bool:
    """Whether a first row is no header: it holds long texts, sentences, or nothing but numbers and the like."""
    filled = [cell for cell in row if cell]
    return bool(filled) and (
        any(len(cell) > _LONGEST_HEADING or _SENTENCE.fullmatch(cell) for cell in filled)
        or all(_NUMBER.fullmatch(cell) for cell in filled)
        or (len(filled) > 1 and sum(bool(_NUMBER.fullmatch(cell)) for cell in filled) >= len(filled) / 2)
    )


_SENTENCE = re.compile(r"\w\S*(?:\s+\S+){3,}[.!?。]['\"”]?")
_NUMBER = re.compile(r"[-+]?[\d.,:/\- TZ%€$]*\d[\d.,:/\- TZ%€$]*")


def _rows_in_a_field(row: list[str], width: int, delimiter: str) -> int | None:
    """Return how many rows a field has taken in because its quote is not closed; None for a field of several lines."""
    for cell in row:
        lines = cell.split("\n")[1:]
        like_rows = sum(line.count(delimiter) == width - 1 for line in lines if line.strip())
        if width > 1 and like_rows >= 3 and like_rows >= 0.8 * len(lines):
            return like_rows
    return None


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
        chosen = None
        if text_column is None and begin:  # all parts of a file take the same columns
            with open(path, "rb") as handle:
                chosen = _chosen(_json_lines(handle, name, None, largest_line))
        with _opened(path) as handle:
            if begin:
                handle.seek(begin - 1)
                _skip_line(handle)
            rows = _json_lines(handle, prefix, end, largest_line)
            yield from row_documents(rows, name if end is None else None, "jsonl", text_column, chosen)


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
        values = json_value(decode_text(line, source))
    except (ValueError, RecursionError, DataError) as error:
        reason = str(error).removeprefix(f"{source}: ").splitlines()[0]
        return Unreadable.because(source, f"the line is not JSON: {reason}")
    return (source, values) if isinstance(values, dict) else Unreadable(source, "the line is not a JSON object")


def json_value(text: str) -> Any:
    """Return what JSON says; a number of thousands of digits, which Python does not read, as a float."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError:
        return json.loads(text, parse_int=float)


def _skip_line(handle: IO[bytes]) -> None:
    while (piece := handle.readline(1 << 20)) and not piece.endswith(b"\n"):
        pass


@contextmanager
def _damage_named(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
        raise DataError(f"{name}: it is damaged: {error or type(error).__name__}") from error


def read_parquet(
    path: Path, name: str, text_column: str | None = None, *, row_groups: range | None = None
) -> Iterator[Outcome]:
    """Yield the rows of a Parquet file, or of some of its row groups. Raises DataError if it is damaged."""
    begin = row_groups.start if row_groups is not None else 0
    prefix = f"{name}@{begin}" if begin else name
    columns = _readable_columns(path, name)
    chosen = None
    if text_column is None and begin:
        chosen = _chosen(("", row) for row in iter_parquet_rows(path, columns, name=name))
    named = enumerate(iter_parquet_rows(path, columns, name=name, row_groups=row_groups), start=1)
    rows = ((f"{prefix}#{number}", row) for number, row in named)
    yield from row_documents(rows, name, "parquet", text_column, chosen)


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


def row_documents(
    rows: Iterable[tuple[str, Values] | Unreadable],
    whole: str | None,
    kind: str,
    text_column: str | None,
    chosen: RowText | None = None,
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
    row_text = chosen or _chosen(first, text_column)
    if not first and not damage and whole is not None:
        yield Unreadable(whole, "no rows in it")
    for row in itertools.chain(first, stream if not damage else ()):
        yield row if isinstance(row, Unreadable) else _document(*row, row_text, kind)
    if damage:
        raise damage[0]


def _chosen(rows: Iterable[tuple[str, Values] | Unreadable], text_column: str | None = None) -> RowText:
    """Return how the rows become texts, by the first of them."""
    return choose_text(
        (row[1] for row in itertools.islice(rows, _LOOKED_AT) if not isinstance(row, Unreadable)), text_column
    )


def _document(source: str, values: Values, row_text: RowText, kind: str) -> Outcome:
    text = row_text.text(values)
    if not text:
        return Unreadable(source, row_text.problem(values))
    title = values.get("title")
    return Document(text, source, kind, str(title) if title else None, notes=row_text.notes(values))
