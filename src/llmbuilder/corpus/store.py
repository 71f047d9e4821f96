"""Stage results on disk: Parquet files that know which parts they hold, named by them.

A part is what came of one source under certain settings. A unit whose list of sources changed takes the parts it
already had from earlier files, so only new sources are worked on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow
import pyarrow.parquet as parquet

from llmbuilder.files import atomic_path

Row = dict[str, Any]
_BATCH_BYTES = 4 << 20
_BATCH_ROWS = 1000


class Part(NamedTuple):
    """Where the rows of a part stand."""

    path: str
    first: int
    rows: int


class Store:
    """A folder of stage results with one schema."""

    def __init__(self, folder: Path, schema: pyarrow.Schema) -> None:
        self.folder = folder
        self.schema = schema

    def path(self, keys: Sequence[str]) -> Path:
        """Return where the file with exactly these parts stands, whether or not it is there yet."""
        return self.folder / f"{hashlib.sha256(' '.join(keys).encode()).hexdigest()[:32]}.parquet"

    def parts(self) -> dict[str, Part]:
        """Return the parts of all finished files by key."""
        found: dict[str, Part] = {}
        for path in sorted(self.folder.glob("*.parquet")):
            first = 0
            for key, rows in part_sizes(path):
                found[key] = Part(str(path), first, rows)
                first += rows
        return found

    def write(
        self,
        path: Path,
        keys: Sequence[str],
        earlier: dict[str, Part],
        produce: Callable[[int], Iterable[Row]],
        complete: Callable[[list[Row]], None] = lambda rows: None,
    ) -> None:
        """Write the file of these parts, taking earlier ones as they are.

        `produce` yields the rows of the part of that number; `complete` adds to rows what is computed for many at once.
        """
        sizes: list[tuple[str, int]] = []
        with (
            atomic_path(path) as temporary,
            parquet.ParquetWriter(temporary, self.schema, compression="zstd") as writer,
        ):
            for begin, end, known in _runs(keys, earlier):
                if known is not None:
                    for table in read_slice(known, self.schema):
                        writer.write_table(table)
                    sizes += [(keys[number], earlier[keys[number]].rows) for number in range(begin, end)]
                    continue
                counter: list[int] = []
                for batch in batches(_counted(map(produce, range(begin, end)), counter)):
                    complete(batch)
                    writer.write_table(as_table(batch, self.schema))
                sizes += [(keys[begin + number], count) for number, count in enumerate(counter)]
            writer.add_key_value_metadata({"parts": json.dumps(sizes)})


def _runs(keys: Sequence[str], earlier: dict[str, Part]) -> Iterator[tuple[int, int, Part | None]]:
    """Yield ranges of parts that stand one after the other in one earlier file, or have to be produced."""
    begin = 0
    while begin < len(keys):
        first = earlier.get(keys[begin])
        end = begin + 1
        if first is None:
            while end < len(keys) and keys[end] not in earlier:
                end += 1
            yield begin, end, None
        else:
            rows = first.rows
            while end < len(keys) and earlier.get(keys[end], ("",))[:2] == (first.path, first.first + rows):
                rows += earlier[keys[end]].rows
                end += 1
            yield begin, end, Part(first.path, first.first, rows)
        begin = end


def _counted(groups: Iterable[Iterable[Row]], counter: list[int]) -> Iterator[Row]:
    for group in groups:
        counter.append(0)
        for row in group:
            counter[-1] += 1
            yield row


def batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Yield rows together until they make a row group of a few megabytes."""
    batch: list[Row] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row.get("text") or "") + sum(map(len, row.get("pages") or ()))
        if size >= _BATCH_BYTES or len(batch) >= _BATCH_ROWS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def as_table(rows: list[Row], schema: pyarrow.Schema) -> pyarrow.Table:
    """Return rows as a table; what is no valid Unicode (lone surrogates) is replaced."""
    try:
        return pyarrow.Table.from_pylist(rows, schema)
    except UnicodeEncodeError:
        return pyarrow.Table.from_pylist([{name: _valid(value) for name, value in row.items()} for row in rows], schema)


def _valid(value: Any) -> Any:
    if isinstance(value, list):
        return [_valid(item) for item in value]
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else value


def part_sizes(path: Path | str) -> list[tuple[str, int]]:
    """Return the keys and numbers of rows of a finished file's parts."""
    metadata = parquet.read_metadata(path).metadata or {}
    return [(key, rows) for key, rows in json.loads(metadata.get(b"parts", b"[]"))]


def read_slice(part: Part, schema: pyarrow.Schema | None = None) -> Iterator[pyarrow.Table]:
    """Yield a part's rows, a row group at a time."""
    with parquet.ParquetFile(part.path) as file:
        first, last, begin = part.first, part.first + part.rows, 0
        for number in range(file.num_row_groups):
            rows = file.metadata.row_group(number).num_rows
            low, high = max(first - begin, 0), min(last - begin, rows)
            if low < high:
                yield file.read_row_group(number, columns=schema.names if schema else None).slice(low, high - low)
            begin += rows


def parts_of(unit: dict[str, Any]) -> dict[str, Part]:
    """Return the parts that a unit's description says are there already."""
    return {key: Part(*values) for key, values in unit["earlier"].items()}
