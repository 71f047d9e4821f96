"""Web archives (WARC, ISO 28500): what servers answered, decoded as browsers do (RFC 9110, 9112)."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

_SUFFIXES = {"text/html": ".html", "application/xhtml+xml": ".html", "application/pdf": ".pdf", "text/plain": ".txt"}
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,8})[ \t]*(?:;[^\r\n]*)?\r?\n")
_END_OF_HEADERS = re.compile(rb"\r?\n\r?\n")
_LONGEST_LINE = 1 << 16
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Page:
    """A page's address, what kind of file it is, its content, or why there is none."""

    url: str
    suffix: str
    content: bytes
    error: str | None = None


def iter_pages(stream: IO[bytes], largest: int) -> Iterator[Page]:
    """Yield the pages of an archive that are HTML, PDF or text, and `largest` bytes at most.

    Raises ValueError where the archive is damaged, whatever its stream raises where it is cut.
    """
    while line := stream.readline(_LONGEST_LINE):
        if not line.strip():
            continue
        if not line.startswith(b"WARC/"):
            raise ValueError("a record in it does not begin with WARC/")
        headers = _headers(iter(lambda: stream.readline(_LONGEST_LINE), b""))
        length = int(headers.get("content-length", ""))
        url = headers.get("warc-target-uri", headers.get("warc-record-id", "")).strip("<>")
        if headers.get("warc-type") not in ("response", "resource", "conversion") or length < 0:
            _skip(stream, length)
        elif length > largest:
            _skip(stream, length)
            yield Page(url, "", b"", f"it is more than {largest:,} bytes")
        else:
            content = stream.read(length)
            page = _page(url, headers, content, largest)
            if page is not None:
                is_cut = len(content) < length
                yield Page(url, page.suffix, b"", "it is cut: the archive ends within it") if is_cut else page


def _headers(lines: Iterator[bytes]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        if not line.strip():
            break
        name, _, value = line.decode("utf-8", "replace").partition(":")
        headers[name.strip().lower()] = value.strip()
    return headers


def _skip(stream: IO[bytes], length: int) -> None:
    while length > 0 and (block := stream.read(min(length, _BLOCK))):
        length -= len(block)


def _page(url: str, headers: dict[str, str], content: bytes, largest: int) -> Page | None:
    """Return the page that a record is, None if it is none: an error, a picture."""
    if not headers.get("content-type", "").startswith("application/http"):
        suffix = _suffix(headers)
        return Page(url, suffix, content) if suffix and headers["warc-type"] != "response" else None
    end = _END_OF_HEADERS.search(content)
    lines = content[: end.start()].splitlines() if end is not None else content.splitlines()
    status = lines[0].split()[1:2] if lines else []
    http = _headers(iter(lines[1:]))
    suffix = _suffix(http)
    if status != [b"200"] or suffix is None:
        return None
    body, error = _decoded(content[end.end() :] if end is not None else b"", http, largest)
    return Page(url, suffix, body, error)


def _suffix(headers: dict[str, str]) -> str | None:
    return _SUFFIXES.get(headers.get("content-type", "").split(";")[0].strip().lower())


def _decoded(body: bytes, headers: dict[str, str], largest: int) -> tuple[bytes, str | None]:
    """Return a body without chunks and compression, or why it cannot be read.

    Some crawlers decode bodies and keep the headers that say how they were sent, so that the body decides.
    """
    if "chunked" in headers.get("transfer-encoding", "").lower() and _CHUNK.match(body):
        chunks = _chunks(body)
        if chunks is None:
            return b"", "it is cut: what the server sent ends within it"
        body = chunks
    coding = headers.get("content-encoding", "").strip().lower()
    is_text = body[:200].lstrip().startswith((b"<", b"%PDF"))
    if not coding or coding == "identity" or is_text:
        return body, None
    for bits in {"gzip": (31,), "x-gzip": (31,), "deflate": (15, -15)}.get(coding, ()):
        unpacking = zlib.decompressobj(wbits=bits)
        try:
            unpacked = unpacking.decompress(body, largest)
        except zlib.error:
            continue
        if unpacking.unconsumed_tail:
            return b"", f"it unpacks to more than {largest:,} bytes"
        return (unpacked, None) if unpacking.eof else (b"", "it is cut: its compressed data ends too early")
    return b"", f"it is damaged, or packed in a way that is not read ({coding})"


def _chunks(body: bytes) -> bytes | None:
    """Return the content of chunks, None if the last one is missing."""
    pieces: list[bytes] = []
    place = 0
    while match := _CHUNK.match(body, place):
        size = int(match[1], 16)
        if not size:
            return b"".join(pieces)
        pieces.append(body[match.end() : match.end() + size])
        place = match.end() + size
        place += 2 if body.startswith(b"\r\n", place) else 0
    return None
