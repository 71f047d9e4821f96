"""`DocumentReader`: sources in, documents out, in order, with a reason for everything that gave none.

A source is a file of any format, a container of files, a table of texts, a part of a large table, or an address.
"""

from __future__ import annotations

import functools
import itertools
import shutil
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from llmbuilder.config.schema import DataConfig
from llmbuilder.documents.containers import ContainerLimits, container_kind, iter_members, without_compression
from llmbuilder.documents.document import Document, Outcome, Unreadable
from llmbuilder.documents.file_types import TABLE_SUFFIXES, detect_format, is_outlook
from llmbuilder.documents.folders import readable_name
from llmbuilder.documents.json_files import read_json
from llmbuilder.documents.reader_pool import ReaderPool, ReadingLimits, require_size
from llmbuilder.documents.sources import Source, is_remote, open_filesystem
from llmbuilder.documents.tables import read_csv, read_json_lines, read_parquet
from llmbuilder.documents.text import split_records, valid_text
from llmbuilder.errors import DataError, LLMBuilderError

Outcomes = Iterator[Outcome]
_DEPTH = 3  # containers in containers
_COPIED_AT_A_TIME = 1 << 20
_LEFT_FREE = 1 << 28  # bytes of the disk that a download must leave to others


class DocumentReader:
    """Reads sources by `workers` processes (default: one for each CPU) where a format needs a parser.

    `text_column` names the column of tables, `ocr` the languages of scanned pages (None leaves them). `limits` are
    those of a file, `container_limits` those of what containers unpack to. A context manager that ends its processes
    and removes its copies.
    """

    def __init__(
        self,
        *,
        text_column: str | None = None,
        ocr: str | None = None,
        limits: ReadingLimits | None = None,
        container_limits: ContainerLimits | None = None,
        workers: int | None = None,
    ) -> None:
        self._text_column = text_column
        self._pool = ReaderPool(ocr=ocr, limits=limits, workers=workers)
        self._limits = container_limits or ContainerLimits(member_bytes=self._pool.limits.file_bytes)

    @classmethod
    def from_config(cls, data: DataConfig, *, workers: int | None = None) -> DocumentReader:
        """Return the reader that a configuration describes."""
        limits = ReadingLimits.from_config(data)
        return cls(text_column=data.text_column, ocr=data.ocr, limits=limits, workers=workers)

    def __enter__(self) -> DocumentReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes and remove what was copied."""
        self._pool.close()
        if "_scratch" in vars(self):
            shutil.rmtree(self._scratch, ignore_errors=True)

    @functools.cached_property
    def _scratch(self) -> Path:
        """A folder for one copy at a time of what has no path: members of containers, downloads."""
        return Path(tempfile.mkdtemp(prefix="llmbuilder-reading-"))

    def _fresh(self, name: str) -> Path:
        folder = self._scratch / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def read_files(self, files: Iterable[Path]) -> Iterator[tuple[Path, Outcomes]]:
        """Yield each file with what is in it, in the order given; documents are begun some files ahead."""
        waiting: deque[tuple[Path, Outcomes]] = deque()
        for file in files:
            waiting.append((file, self._file(file, str(file), str(file))))
            if len(waiting) > self._pool.depth:
                yield waiting.popleft()
        yield from waiting

    def read(self, source: Source) -> Outcomes:
        """Begin to read a source and return what is in it, in order. Nothing in a source raises an error."""
        if source.problem is not None:
            return iter([Unreadable(source.name, source.problem)])
        if is_remote(source.name):
            return _guarded(source.name, lambda: self._remote(source))
        path = Path(source.name)
        if source.end is None:
            return self._file(path, source.name, source.name)
        return _guarded(source.name, lambda: self._part(path, source))

    def _remote(self, source: Source) -> Outcomes:
        with self._downloaded(source.name) as path:
            yield from self._file(path, source.name, source.name)

    @contextmanager
    def _downloaded(self, address: str) -> Iterator[Path]:
        system, remote = open_filesystem(address)
        folder = self._fresh("download")
        path = folder / (Path(urlsplit(address).path).name or "page.html")
        try:
            with system.open(remote, "rb") as stream, open(path, "wb") as handle:
                self._copy(address, stream, handle, path)
            yield path
        except OSError as error:
            raise DataError(f"{address}: cannot be read: {error.strerror or error}") from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _copy(self, address: str, stream: BinaryIO, handle: BinaryIO, path: Path) -> None:
        """Copy a download of any length, as long as a local file of its kind might have it and the disk has room."""
        most, copied = self._limits.member_bytes, 0
        while piece := stream.read(_COPIED_AT_A_TIME):
            copied += len(piece)
            if copied - len(piece) <= most < copied and not _is_read_in_pieces(path):
                raise DataError(f"{address}: it is more than the {most:,} bytes a file may have: raise data.file_mb")
            if shutil.disk_usage(path).free < len(piece) + _LEFT_FREE:
                raise DataError(f"{address}: after {copied:,} bytes of it the disk of {path.parent} is nearly full")
            handle.write(piece)
            handle.flush()

    def _part(self, path: Path, source: Source) -> Outcomes:
        """Read a part of a large table."""
        assert source.end is not None
        if TABLE_SUFFIXES[path.suffix.lower()] == "parquet":
            groups = range(source.begin, source.end)
            return read_parquet(path, source.name, self._text_column, row_groups=groups)
        return read_json_lines(
            path, source.name, self._text_column, begin=source.begin, end=source.end,
            largest_line=self._limits.member_bytes,
        )  # fmt: skip

    def _file(self, path: Path, name: str, inner_name: str, depth: int = 0) -> Outcomes:
        """Begin to read a file; `name` says where it is, `inner_name` what it is called there."""
        try:
            return _guarded(name, self._begin(path, name, inner_name, depth), path)
        except LLMBuilderError as error:
            return iter([_valid(_unreadable(name, path, error))])

    def _begin(self, path: Path, name: str, inner_name: str, depth: int) -> Callable[[], Outcomes]:
        """Return the function that yields a file's content. Raises DataError for what is no document."""
        kind = container_kind(path)
        stem = without_compression(inner_name) if kind == "compressed" else inner_name
        is_lines = TABLE_SUFFIXES.get(Path(stem).suffix.lower()) == "jsonl"
        if is_lines and kind in (None, "compressed"):
            most = self._limits.member_bytes
            return lambda: read_json_lines(path, name, self._text_column, largest_line=most)
        if kind is not None:
            return lambda: self._container(path, kind, name, stem, depth)
        form = detect_format(path)
        if form == "parquet":
            return lambda: read_parquet(path, name, self._text_column)
        if form in ("csv", "json"):
            require_size(path, self._pool.limits)
            read = read_csv if form == "csv" else read_json
            return lambda: read(path, name, self._text_column)
        document = self._pool.begin(path)
        if form == "email" and not is_outlook(path):
            return lambda: itertools.chain(_records(document(), name), self._attachments(path, name, depth))
        return lambda: _records(document(), name)

    def _attachments(self, path: Path, name: str, depth: int) -> Outcomes:
        if depth < _DEPTH:
            yield from self._members(path, "email", name, name, depth)

    def _container(self, path: Path, kind: str, name: str, inner_name: str, depth: int) -> Outcomes:
        if depth == _DEPTH:
            yield Unreadable(name, f"it lies in {depth} containers, one in another: unpack it")
            return
        is_empty = True
        for outcome in self._members(path, kind, name, inner_name, depth):
            is_empty = False
            yield outcome
        if is_empty:
            yield Unreadable(name, "no documents in it")

    def _members(self, path: Path, kind: str, name: str, inner_name: str, depth: int) -> Outcomes:
        folder = self._fresh(f"members-{depth}")
        found: Counter[str] = Counter()
        try:
            for member in iter_members(path, kind, folder, self._limits, inner_name):
                found[member.name] += 1
                again = f" ({found[member.name]})" if found[member.name] > 1 else ""  # archives may repeat a name
                member_name = name if kind == "compressed" else f"{name}#{member.name}{again}"
                if member.path is None:
                    yield Unreadable.because(member_name, member.error or "it cannot be read")
                else:
                    yield from self._file(member.path, member_name, member.name, depth + 1)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _is_read_in_pieces(path: Path) -> bool:
    """Whether a file may have any size, as containers and some tables may."""
    return container_kind(path) is not None or detect_format(path) in ("jsonl", "parquet")


def _guarded(name: str, read: Callable[[], Outcomes], path: Path | None = None) -> Outcomes:
    """Yield what a reader yields, and why it stopped if it did; whatever it raises costs this source alone."""
    try:
        for outcome in read():
            yield _valid(outcome)
    except LLMBuilderError as error:
        yield _valid(_unreadable(name, path, error))
    except Exception as error:  # noqa: BLE001 - parsers of foreign bytes can raise anything
        yield _valid(Unreadable.because(name, f"its reader failed: {type(error).__name__}: {error}"))


def _valid(outcome: Outcome) -> Outcome:
    """Return what can be written as Unicode: texts with lone surrogates and names of other encodings cannot."""
    source = readable_name(outcome.source)
    if isinstance(outcome, Unreadable):
        return Unreadable(source, valid_text(outcome.reason))
    title = valid_text(outcome.title) if outcome.title is not None else None
    pages = [valid_text(page) for page in outcome.pages] if outcome.pages is not None else None
    notes = {valid_text(k): valid_text(v) if isinstance(v, str) else v for k, v in outcome.notes.items()}
    return Document(valid_text(outcome.text), source, outcome.format, title, pages, notes)


def _unreadable(name: str, path: Path | None, error: LLMBuilderError) -> Unreadable:
    return Unreadable.because(name, str(error).removeprefix(f"{path}: "))


def _records(document: Document, name: str) -> Outcomes:
    """Yield a document under its name, and what of its file could not be read; a text of `data load` holds many."""
    texts = split_records(document.text) if document.format == "text" else [document.text]
    if len(texts) == 1:
        document.source = name
        yield document
        for part, reason in document.unread.items():
            yield Unreadable.because(f"{name}#{part}", reason)
        return
    for number, text in enumerate(texts, start=1):
        yield Document(text, f"{name}#{number}", document.format)
