"""The sources of a corpus, and how the work on them is cut into units."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from pathlib import Path

from llmbuilder.corpus.prepared import PreparedCorpus
from llmbuilder.documents.folders import LeaveOut, by_name, is_prepared
from llmbuilder.documents.sources import SPLIT_BYTES, Found, Source, divide, is_remote, local_sources, sources_of
from llmbuilder.errors import DataError

_UNIT_BYTES = 32 << 20
_UNIT_SOURCES = 4096
_UNITS = 32  # about as many are wanted of a small corpus, so that workers have something to share
_TOGETHER = 4  # sources, if there are few


def list_sources(inputs: Sequence[str | Path], leave_out: LeaveOut = lambda path: False) -> Found:
    """Return everything the inputs (folders, files, globs, addresses) name, sorted, each file once.

    `leave_out` says which files and folders in them are none. Raises DataError for an input that names nothing.
    """
    found: dict[str, Source] = {}
    hidden = 0
    for item in inputs:
        listed = _sources_of(str(item), leave_out)
        hidden += listed.hidden
        for source in listed.sources:
            found.setdefault(source.name if is_remote(source.name) else os.path.abspath(source.name), source)
    if not found:
        raise DataError("name at least one folder, file or address to read")
    ordered = sorted(found.values(), key=lambda source: by_name(source.name))
    return Found([part for source in ordered for part in divide(source)], hidden)


def _sources_of(name: str, leave_out: LeaveOut) -> Found:
    """A prepared corpus is its documents, not the files of its folder."""
    path = Path(name)
    return (
        Found(local_sources(PreparedCorpus(path).documents, name)) if is_prepared(path) else sources_of(name, leave_out)
    )


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
