"""Parts of an extracted file: what came of one large source is refined on all cores, not on one."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as parquet

from llmbuilder.corpus.store import part_sizes

SLICE_BYTES = 4 << 20
LARGEST_CORPUS = 1 << 30  # bytes of sources; beyond it there are units enough for every core, and files enough


@dataclass(frozen=True)
class Slice:
    """Rows of an extracted file that are refined together: what names each part, its first row and its rows."""

    path: Path
    keys: list[str]
    places: list[tuple[int, int]]


def cut_slices(path: Path, size: int | None) -> list[Slice]:
    """Return an extracted file as slices of about `size` bytes, or as one (None).

    It is cut between row groups, so where follows from the content alone. The rows of one source that lie in several
    slices are a part of its own in each.
    """
    cuts = _cuts(path, size) if size is not None else []
    slices = [Slice(path, [], [])]
    first = 0
    for key, rows in part_sizes(path):
        edges = [first, *(cut for cut in cuts if first < cut < first + rows), first + rows]
        for begin, end in itertools.pairwise(edges):
            if begin in cuts and slices[-1].keys:
                slices.append(Slice(path, [], []))
            slices[-1].keys.append(key if end - begin == rows else f"{key}@{begin - first}+{end - begin}")
            slices[-1].places.append((begin, end - begin))
        first += rows
    return slices


def _cuts(path: Path, size: int) -> Collection[int]:
    """Return the rows at which slices begin, all but the first."""
    metadata = parquet.read_metadata(path)
    cuts = []
    row, filled = 0, 0
    for number in range(metadata.num_row_groups):
        if filled >= size:
            cuts.append(row)
            filled = 0
        filled += metadata.row_group(number).total_byte_size
        row += metadata.row_group(number).num_rows
    return cuts
