"""The sources of a corpus, and how the work on them is cut into units."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from llmbuilder.corpus.prepared import PreparedCorpus, is_prepared
from llmbuilder.documents.sources import SPLIT_BYTES, Source, by_name, divide, local_sources, sources_of
from llmbuilder.errors import DataError

_UNIT_BYTES = 32 << 20
_UNIT_SOURCES = 4096
_UNITS = 32  # about as many are wanted of a small corpus, so that workers have something to share
_TOGETHER = 4  # sources, if there are few


def list_sources(inputs: Sequence[str | Path]) -> list[Source]:
    """Return everything the inputs (folders, files, globs, addresses) name, sorted, each file once.

    Raises DataError for an input that names nothing.
    """
    found: dict[str, Source] = {}
    for item in inputs:
        name = str(item)
        for source in _sources_of(name):
            found.setdefault(source.name, source)
    if not found:
        raise DataError("name at least one folder, file or address to read")
    ordered = sorted(found.values(), key=lambda source: by_name(source.name))
    return [part for source in ordered for part in divide(source)]


def _sources_of(name: str) -> Iterable[Source]:
    """A prepared corpus is its documents, not the files of its folder."""
    path = Path(name)
    return local_sources(PreparedCorpus(path).documents, name) if is_prepared(path) else sources_of(name)


def cut_units(sources: Sequence[Source]) -> list[list[Source]]:
    """Group sources in order; where a group ends follows from a source's name, so a new file moves few ends.

    On average a unit ends after each 2^k-th source, k chosen for some 32 units; it ends earlier when it is full.
    """
    every = max(_TOGETHER, 2 ** int(math.log2(max(1, len(sources) / _UNITS))))
    units: list[list[Source]] = [[]]
    filled = 0
    for source in sources:
        size = source.size if source.end is None else min(source.size, SPLIT_BYTES)
        if units[-1] and (filled + size > _UNIT_BYTES or len(units[-1]) == _UNIT_SOURCES):
            units.append([])
            filled = 0
        units[-1].append(source)
        filled += size
        mark = hashlib.blake2b(f"{source.name}:{source.begin}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
        if int.from_bytes(mark, "little") % every == 0:
            units.append([])
            filled = 0
    return [unit for unit in units if unit]
