"""One source to rows: its documents, or the reason there are none."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from llmbuilder.corpus.store import Row
from llmbuilder.documents.containers import ContainerLimits, container_kind, iter_members, open_decompressed
from llmbuilder.documents.document import Document
from llmbuilder.documents.extraction import guess_text_column
from llmbuilder.documents.reader_pool import ExtractionPool
from llmbuilder.documents.sources import Source, is_remote, open_filesystem
from llmbuilder.errors import DataError

_DEPTH = 3  # containers in containers
_LINES = (".jsonl", ".ndjson")
_METADATA_CHARACTERS = 2000
_HTML_HEAD = 1 << 16
_LICENCE = re.compile(
    r"""<(?:link|a)\b(?=[^>]*\brel\s*=\s*["']?[^"'>]*\blicense\b)[^>]*\bhref\s*=\s*["']?([^"'\s>]+)""", re.I
)
_ROBOTS = re.compile(
    r"""<meta\b(?=[^>]*\bname\s*=\s*["']?robots\b)[^>]*\bcontent\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>]+))""", re.I
)
_RECORD = re.compile(r"\n\x1e\n")


class SourceReader:
    """Reads sources with a pool of worker processes; `folder` takes one copy at a time of what has no path."""

    def __init__(self, pool: ExtractionPool, folder: Path, *, text_column: str | None, limits: ContainerLimits) -> None:
        self._pool = pool
        self._folder = folder
        self._text_column = text_column
        self._limits = limits

    def rows(self, source: Source) -> Iterator[Row]:
        """Yield a row for each document of a source and for each thing in it that could not be read."""
        try:
            with self._local(source) as path:
                if source.end is not None and path.suffix.lower() == ".parquet":
                    yield from self._parquet(path, source.name, range(source.begin, source.end))
                elif source.end is not None:
                    yield from self._line_range(path, source)
                else:
                    yield from self._file(path, source.name, source.name, 0)
        except DataError as error:
            yield _failed(source.name, str(error).removeprefix(f"{source.name}: "))

    @contextmanager
    def _local(self, source: Source) -> Iterator[Path]:
        if not is_remote(source.name):
            yield Path(source.name)
            return
        system, remote = open_filesystem(source.name)
        folder = self._fresh("download")
        path = folder / (Path(urlsplit(source.name).path).name or "page.html")
        try:
            with system.open(remote, "rb") as stream, open(path, "wb") as handle:
                shutil.copyfileobj(stream, handle, 1 << 20)
            yield path
        except OSError as error:
            raise DataError(f"{source.name}: cannot be read: {error.strerror or error}") from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _fresh(self, name: str) -> Path:
        folder = self._folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def _file(self, path: Path, name: str, inner_name: str, depth: int) -> Iterator[Row]:
        """Read a file; `name` says where it is, `inner_name` what it is called there."""
        if path.suffix.lower() == ".parquet":
            yield from self._parquet(path, name, None)
            return
        kind = container_kind(path)
        stem = Path(inner_name).with_suffix("").name if kind == "compressed" else inner_name
        if Path(stem).suffix.lower() in _LINES and kind in (None, "compressed"):
            yield from self._lines(path, name)
        elif kind is None:
            yield from self._document(path, name)
        elif depth == _DEPTH:
            yield _failed(name, f"it lies in {depth} containers, one in another: unpack it")
        else:
            yield from self._container(path, kind, name, depth)

    def _container(self, path: Path, kind: str, name: str, depth: int) -> Iterator[Row]:
        folder = self._fresh(f"members-{depth}")
        found = False
        try:
            for member in iter_members(path, kind, folder, self._limits):
                found = True
                member_name = name if kind == "compressed" else f"{name}#{member.name}"
                if member.path is None:
                    yield _failed(member_name, member.error or "it cannot be read")
                else:
                    yield from self._file(member.path, member_name, member.name, depth + 1)
        except DataError as error:
            yield _failed(name, str(error).removeprefix(f"{path}: "))
            return
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if not found:
            yield _failed(name, "no documents in it")

    def _document(self, path: Path, name: str) -> Iterator[Row]:
        ((_, outcome),) = self._pool.extract([path])
        if isinstance(outcome, DataError):
            yield _failed(name, str(outcome).removeprefix(f"{path}: "))
            return
        metadata = _html_notes(path) if outcome[0].format == "html" else {}
        for document in outcome:
            own = name + document.source.removeprefix(str(path))
            yield from _split(document, own, metadata)

    def _lines(self, path: Path, name: str) -> Iterator[Row]:
        with _reading(name), open_decompressed(path) as handle:
            yield from self._json_rows(handle, name, None)

    def _line_range(self, path: Path, source: Source) -> Iterator[Row]:
        """Read the lines that begin in the source's range of bytes."""
        assert source.end is not None
        with _reading(source.name), open(path, "rb") as handle:
            if source.begin:
                handle.seek(source.begin - 1)
                self._skip_line(handle)
            yield from self._json_rows(handle, f"{source.name}@{source.begin}", source.end)

    def _skip_line(self, handle: IO[bytes]) -> None:
        while (piece := handle.readline(1 << 20)) and not piece.endswith(b"\n"):
            pass

    def _json_rows(self, handle: IO[bytes], name: str, end: int | None) -> Iterator[Row]:
        column = self._text_column
        number, found = 0, False
        while end is None or handle.tell() < end:
            line = handle.readline(self._limits.member_bytes)
            if not line:
                break
            number += 1
            if len(line) == self._limits.member_bytes and not line.endswith(b"\n"):
                self._skip_line(handle)
                yield _failed(f"{name}#{number}", f"the line is longer than {self._limits.member_bytes:,} bytes")
                continue
            if not line.strip():
                continue
            found = True
            try:
                values = json.loads(line)
            except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
                yield _failed(f"{name}#{number}", f"the line is not JSON: {str(error).splitlines()[0]}")
                continue
            if not isinstance(values, dict):
                yield _failed(f"{name}#{number}", "the line is not a JSON object")
                continue
            column = column or guess_text_column([values])
            yield _record(values, column, f"{name}#{number}", "jsonl")
        if not found and end is None:
            yield _failed(name, "no rows in it")

    def _parquet(self, path: Path, name: str, row_groups: range | None) -> Iterator[Row]:
        import pyarrow
        import pyarrow.parquet as parquet

        begin = row_groups.start if row_groups else 0
        prefix = f"{name}@{begin}" if begin else name
        try:
            file = parquet.ParquetFile(path)
            groups = list(row_groups) if row_groups is not None else None
            number = 0
            column = self._text_column
            for batch in file.iter_batches(512, row_groups=groups):
                rows = batch.to_pylist()
                column = column or guess_text_column(rows)
                for values in rows:
                    number += 1
                    yield _record(values, column, f"{prefix}#{number}", "parquet")
            if not number:
                yield _failed(name, "no rows in it")
        except (OSError, pyarrow.ArrowException) as error:
            raise DataError(f"{name}: cannot be read as Parquet: {str(error).splitlines()[0]}") from error


@contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError) as error:
        raise DataError(f"{name}: it is damaged: {error}") from error


def _failed(name: str, reason: str) -> Row:
    return {"source": name, "error": " ".join(reason.split())}


def _split(document: Document, name: str, metadata: dict[str, str]) -> Iterator[Row]:
    """A text that `data load` wrote holds many documents."""
    texts = _RECORD.split(document.text) if document.format == "text" else [document.text]
    for number, text in enumerate(texts, start=1):
        yield {
            "source": name if len(texts) == 1 else f"{name}#{number}",
            "format": document.format,
            "title": document.title,
            "text": None if document.pages else text,
            "pages": document.pages,
            "metadata": _as_metadata(metadata),
        }


def _record(values: dict[str, Any], column: str, name: str, kind: str) -> Row:
    text = values.get(column)
    if not isinstance(text, str):
        return _failed(name, f"no text in column {column!r}")
    title = values.get("title")
    others = {key: value for key, value in values.items() if key != column and _is_note(value)}
    return {
        "source": name,
        "format": kind,
        "title": str(title) if title else None,
        "text": text,
        "metadata": _as_metadata(others),
    }


def _is_note(value: object) -> bool:
    return isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= 200)


def _as_metadata(values: dict[str, Any]) -> str | None:
    text = json.dumps(values, ensure_ascii=False, sort_keys=True) if values else None
    return text if text is None or len(text) <= _METADATA_CHARACTERS else None


def _html_notes(path: Path) -> dict[str, str]:
    """Return what a page says of its licence and of robots."""
    with open(path, "rb") as handle:
        head = handle.read(_HTML_HEAD).decode("utf-8", "replace")
    licence, robots = _LICENCE.search(head), _ROBOTS.search(head)
    notes = {"license": licence.group(1) if licence else None}
    notes["robots"] = next((value for value in robots.groups() if value), None) if robots else None
    return {name: value for name, value in notes.items() if value}
