"""Web archives: bodies as servers send them, and archives that end too early."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path

import pytest

from llmbuilder.documents.document import Document, Unreadable
from llmbuilder.documents.reading import DocumentReader
from llmbuilder.documents.web_archives import Page, iter_pages

PAGE = b"<html><body><p>The keeper counted the ships before the storm.</p></body></html>"


def record(body: bytes, headers: str = "", url: str = "https://example.org/", kind: str = "response") -> bytes:
    answer = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{headers}\r\n".encode() + body
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\nContent-Type: application/http; msgtype=response\r\n"
    return f"{head}Content-Length: {len(answer)}\r\n\r\n".encode() + answer + b"\r\n\r\n"


def chunked(body: bytes, size: int = 17) -> bytes:
    pieces = [body[place : place + size] for place in range(0, len(body), size)]
    return b"".join(b"%x;a=b\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def pages_of(content: bytes, largest: int = 1 << 20) -> list[Page]:
    return list(iter_pages(io.BytesIO(content), largest))


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ("", PAGE),
        ("Transfer-Encoding: chunked\r\n", chunked(PAGE)),
        ("Transfer-Encoding: chunked\r\n", PAGE),
        ("Content-Encoding: gzip\r\n", gzip.compress(PAGE, mtime=0)),
        ("Content-Encoding: deflate\r\n", zlib.compress(PAGE)),
        ("Content-Encoding: deflate\r\n", zlib.compress(PAGE)[2:-4]),
        ("Content-Encoding: gzip\r\n", PAGE),
        ("Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", chunked(gzip.compress(PAGE, mtime=0))),
    ],
)
def test_bodies_are_decoded(headers: str, body: bytes) -> None:
    assert [page.content for page in pages_of(record(body, headers))] == [PAGE]


@pytest.mark.parametrize(
    ("headers", "body", "reason"),
    [
        ("Transfer-Encoding: chunked\r\n", chunked(PAGE)[:-30], "it is cut"),
        ("Content-Encoding: gzip\r\n", gzip.compress(PAGE, mtime=0)[:-12], "it is cut"),
        ("Content-Encoding: br\r\n", b"\x0b\x02\x80\x03", "not read"),
        ("Content-Encoding: gzip\r\n", gzip.compress(b"a" * (3 << 20), mtime=0), "more than 1,048,576 bytes"),
    ],
)
def test_what_cannot_be_decoded_has_a_reason(headers: str, body: bytes, reason: str) -> None:
    (page,) = pages_of(record(body, headers))
    assert reason in (page.error or "")


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_an_archive_that_is_cut_gives_all_of_its_whole_pages(tmp_path: Path, pack) -> None:
    records = [pack(record(PAGE, url=f"https://example.org/{number}")) for number in range(6)]
    path = tmp_path / ("a.warc" if pack is bytes else "a.warc.gz")
    path.write_bytes(b"".join(records)[: -len(records[-1]) // 2])
    with DocumentReader(workers=1) as reader:
        found = [outcome for _, outcomes in reader.read_files([path]) for outcome in outcomes]
    assert [one.source[-1] for one in found if isinstance(one, Document)] == ["0", "1", "2", "3", "4"]
    assert isinstance(found[-1], Unreadable) and ("cut" in found[-1].reason or "damaged" in found[-1].reason)


def test_texts_without_an_answer_around_them() -> None:
    text = b"Some plain text."
    head = b"WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Target-URI: a\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n"
    content = record(PAGE, kind="request") + head % len(text) + text + b"\r\n\r\n"
    assert [(page.url, page.suffix, page.content) for page in pages_of(content)] == [("a", ".txt", text)]
