"""What there is to read, in order, and how the work is cut into units."""

from __future__ import annotations

import glob
import hashlib
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmbuilder.corpus.prepared import PreparedCorpus, is_prepared
from llmbuilder.data.loader import list_documents
from llmbuilder.errors import DataError, MissingDependencyError

_SPLIT_BYTES = 64 << 20  # JSON Lines files are read in ranges of this size, Parquet files in row groups
_UNIT_BYTES = 32 << 20
_UNIT_SOURCES = 4096
_UNITS = 32  # about as many are wanted of a small corpus, so that workers have something to share
_TOGETHER = 4  # sources, if there are few
_REMOTE = ("s3://", "hf://", "gs://", "http://", "https://", "file://")
_LINES = (".jsonl", ".ndjson")


@dataclass(frozen=True)
class Source:
    """A file, or a part of a large one: bytes of JSON Lines, row groups of Parquet.

    `stamp` changes when the content may have; `collection` is the INPUT it came from.
    """

    name: str
    collection: str
    size: int
    stamp: str
    begin: int = 0
    end: int | None = None

    def key(self, settings: str) -> str:
        """Return what names the result of reading this source with these settings."""
        parts = (self.name, self.collection, self.size, self.stamp, self.begin, self.end, settings)
        return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def is_remote(name: str) -> bool:
    """Whether a name is an address rather than a path."""
    return name.startswith(_REMOTE)


def list_sources(inputs: Sequence[str | Path]) -> list[Source]:
    """Return everything the inputs (folders, files, globs, addresses) name, sorted, each file once.

    Raises DataError for an input that names nothing.
    """
    found: dict[str, Source] = {}
    for item in inputs:
        name = str(item)
        for source in _list_remote(name) if is_remote(name) else _list_local(name):
            found.setdefault(source.name, source)
    if not found:
        raise DataError("name at least one folder, file or address to read")
    ordered = sorted(found.values(), key=lambda source: source.name.encode("utf-8", "surrogatepass"))
    return [part for source in ordered for part in _divide(source)]


def _list_local(name: str) -> Iterable[Source]:
    path = Path(name)
    if is_prepared(path):
        files = PreparedCorpus(path).documents
    elif path.exists():
        files = list_documents(path)
    else:
        files = sorted(Path(found) for found in glob.glob(name, recursive=True) if Path(found).is_file())
    if not files:
        raise DataError(f"no such file or folder: {name}")
    for file in files:
        try:
            status = file.stat()
        except OSError as error:
            raise DataError(f"{file}: cannot be read: {error.strerror or error}") from error
        yield Source(str(file), name, status.st_size, str(status.st_mtime_ns))


def _list_remote(address: str) -> Iterable[Source]:
    system, path = open_filesystem(address)
    scheme = address.split("://")[0]
    try:
        if any(character in path for character in "*?["):
            entries = system.glob(path, detail=True)
        elif scheme in ("http", "https") or system.isfile(path):
            entries = {path: system.info(path)}
        else:
            entries = system.find(path, detail=True)
    except (OSError, ValueError) as error:
        raise DataError(f"{address}: cannot be listed: {error}") from error
    files = {name: entry for name, entry in entries.items() if entry.get("type", "file") == "file"}
    if not files:
        raise DataError(f"no such file or folder: {address}")
    for name, entry in files.items():
        full = name if "://" in name else f"{scheme}://{name}"
        stamp = next(
            (str(entry[key]) for key in ("ETag", "etag", "blob_id", "mtime", "LastModified") if key in entry), ""
        )
        yield Source(full, address, int(entry.get("size") or 0), stamp)


def open_filesystem(address: str) -> tuple[Any, str]:
    """Return fsspec's file system for an address and the path in it."""
    extra = {"s3": ("s3fs", "s3"), "hf": ("huggingface_hub", "hub"), "gs": ("gcsfs", "gcs")}
    scheme = address.split("://")[0]
    try:
        import fsspec

        return fsspec.core.url_to_fs(address)
    except (ImportError, ValueError):
        raise MissingDependencyError(
            *extra.get(scheme, ("fsspec", "corpus")), f"reading {scheme}:// addresses"
        ) from None


def _divide(source: Source) -> list[Source]:
    suffix = Path(source.name).suffix.lower()
    if source.size < 2 * _SPLIT_BYTES or is_remote(source.name) or suffix not in (*_LINES, ".parquet"):
        return [source]
    cuts = _row_group_cuts(source) if suffix == ".parquet" else [*range(0, source.size, _SPLIT_BYTES), source.size]
    shared = (source.name, source.collection, source.size, source.stamp)
    return [Source(*shared, begin, end) for begin, end in itertools.pairwise(cuts)]


def _row_group_cuts(source: Source) -> list[int]:
    """Return the row groups at which parts of about the wanted size begin, and the number of all."""
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        metadata = parquet.read_metadata(source.name)
    except (OSError, pyarrow.ArrowException):
        return [0, 1]  # reading it will say what is wrong
    cuts, filled = [0], 0
    for number in range(metadata.num_row_groups):
        if filled >= _SPLIT_BYTES:
            cuts.append(number)
            filled = 0
        filled += metadata.row_group(number).total_byte_size
    return [*cuts, metadata.num_row_groups]


def cut_units(sources: Sequence[Source]) -> list[list[Source]]:
    """Group sources in order; where a group ends follows from a source's name, so a new file moves few ends.

    On average a unit ends after each 2^k-th source, k chosen for some 32 units; it ends earlier when it is full.
    """
    every = max(_TOGETHER, 2 ** int(math.log2(max(1, len(sources) / _UNITS))))
    units: list[list[Source]] = [[]]
    filled = 0
    for source in sources:
        size = source.size if source.end is None else min(source.size, _SPLIT_BYTES)
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
