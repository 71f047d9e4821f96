"""What there is to read, in order: files of a folder, parts of large tables, what addresses name."""

from __future__ import annotations

import glob
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmbuilder.documents.folders import LeaveOut, Listing, list_folder
from llmbuilder.errors import DataError, MissingDependencyError

SPLIT_BYTES = 64 << 20  # JSON Lines files are read in ranges of this size, Parquet files in row groups
_REMOTE = ("s3://", "hf://", "gs://", "http://", "https://", "file://")
_DIVIDED = (".jsonl", ".ndjson", ".parquet")


@dataclass(frozen=True)
class Source:
    """A file, or a part of a large one: bytes of JSON Lines, row groups of Parquet.

    `stamp` changes when the content may have; `collection` is the INPUT it came from. `problem` says why something
    that was found is no document at all.
    """

    name: str
    collection: str
    size: int
    stamp: str
    begin: int = 0
    end: int | None = None
    problem: str | None = None

    def key(self, settings: str) -> str:
        """Return what names the result of reading this source with these settings."""
        parts = (self.name, self.collection, self.size, self.stamp, self.begin, self.end, self.problem, settings)
        return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def is_remote(name: str) -> bool:
    """Whether a name is an address rather than a path."""
    return name.startswith(_REMOTE)


@dataclass
class Found:
    """Sources, and how many hidden files and folders were passed over."""

    sources: Iterable[Source]
    hidden: int = 0


def sources_of(name: str, leave_out: LeaveOut = lambda path: False) -> Found:
    """Return the files that a folder, a file, a glob or an address names. Raises DataError if it names nothing."""
    if is_remote(name):
        return Found(_list_remote(name))
    path = Path(name)
    if path.exists():
        return _of_listings([list_folder(path, leave_out)], name)
    matches = [Path(match) for match in sorted(glob.glob(name, recursive=True))]
    if not any(map(Path.exists, matches)):
        raise DataError(f"no such file or folder: {name}")
    listings = [list_folder(match, leave_out, may_be_empty=True) for match in matches]
    return _of_listings(listings, name)


def _of_listings(listings: Sequence[Listing], name: str) -> Found:
    files = (file for listing in listings for file in listing.files)
    problems = (
        Source(item.source, name, 0, "", problem=item.reason) for listing in listings for item in listing.left_out
    )
    return Found(itertools.chain(local_sources(files, name), problems), sum(listing.hidden for listing in listings))


def local_sources(files: Iterable[Path], collection: str) -> Iterator[Source]:
    """Yield these files as sources of a collection; one that cannot be looked at with the problem."""
    for file in files:
        try:
            status = file.stat()
        except OSError as error:
            yield Source(str(file), collection, 0, "", problem=f"cannot be read: {error.strerror or error}")
        else:
            yield Source(str(file), collection, status.st_size, str(status.st_mtime_ns))


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


def divide(source: Source) -> list[Source]:
    """Return the parts in which a large table is read; the source itself if it is none."""
    suffix = Path(source.name).suffix.lower()
    if source.size < 2 * SPLIT_BYTES or is_remote(source.name) or suffix not in _DIVIDED:
        return [source]
    cuts = _row_group_cuts(source) if suffix == ".parquet" else [*range(0, source.size, SPLIT_BYTES), source.size]
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
        if filled >= SPLIT_BYTES:
            cuts.append(number)
            filled = 0
        filled += metadata.row_group(number).total_byte_size
    return [*cuts, metadata.num_row_groups]
