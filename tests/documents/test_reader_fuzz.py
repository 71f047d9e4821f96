"""Damaged files of every format give documents, or a reason; never a traceback, never a hang."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmbuilder.documents.document import Document, Unreadable
from llmbuilder.documents.reading import DocumentReader
from tests.documents.samples import sentence, write_all


def _write_tables(folder: Path) -> None:
    import pyarrow
    import pyarrow.parquet as parquet

    rows = "".join(json.dumps({"text": sentence(str(number))}) + "\n" for number in range(5)).encode()
    for suffix, pack in ((".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)):
        (folder / f"rows.jsonl{suffix}").write_bytes(pack(rows))
    with pyarrow.CompressedOutputStream(str(folder / "rows.jsonl.zst"), "zstd") as stream:
        stream.write(rows)
    parquet.write_table(pyarrow.table({"text": [sentence(str(n)) for n in range(5)]}), folder / "rows.parquet")


def _write_containers(folder: Path) -> None:
    words = sentence("member").encode()
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", words)
        archive.writestr("b.html", b"<p>" + words)
    for suffix, mode in ((".tar", "w"), (".tgz", "w:gz")):
        with tarfile.open(folder / f"a{suffix}", mode) as archive:  # type: ignore[call-overload]
            entry = tarfile.TarInfo("a.txt")
            entry.size = len(words)
            archive.addfile(entry, io.BytesIO(words))
    message = EmailMessage()
    message["Subject"], message["From"] = "Records", "ada@example.org"
    message.set_content(sentence("mail"))
    message.add_attachment(words, maintype="text", subtype="plain", filename="a.txt")
    (folder / "a.eml").write_bytes(message.as_bytes())
    (folder / "a.mbox").write_bytes(b"From ada Thu Jan  1 00:00:00 1970\n" + message.as_bytes() + b"\n")
    page = f"<html><body><p>{sentence('warc')}</p></body></html>".encode()
    response = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s" % (len(page), page)
    head = b"WARC/1.0\r\nWARC-Type: response\r\nContent-Type: application/http; msgtype=response\r\nWARC-Target-URI: https://example.org/\r\nContent-Length: %d\r\n\r\n"
    (folder / "a.warc").write_bytes((head % len(response) + response + b"\r\n\r\n") * 2)


def _write_others(folder: Path) -> None:
    import xlsxwriter

    book = xlsxwriter.Workbook(str(folder / "a.xlsx"))
    book.add_worksheet().write_column(0, 0, [sentence("xlsx"), 5, True])
    book.close()
    (folder / "a.fb2").write_text(
        f"<FictionBook><body><section><p>{sentence('fb2')}</p></section></body></FictionBook>"
    )
    (folder / "a.xml").write_text(f"<article><sec><title>T</title><p>{sentence('xml')} &amp; so</p></sec></article>")
    cells = [{"cell_type": "markdown", "source": [sentence("notebook")]}, {"cell_type": "code", "source": "a = 1"}]
    (folder / "a.ipynb").write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}))
    (folder / "latin.txt").write_bytes("Größe, déjà vu, señor\n".encode("latin-1") * 9)


class Files(dict[str, bytes]):
    """Files by their names; a failure shows the name alone."""

    def __repr__(self) -> str:
        return "the files"


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("valid")
    write_all(folder)
    for write in (_write_tables, _write_containers, _write_others):
        write(folder)
    return Files((path.name, path.read_bytes()) for path in sorted(folder.iterdir()))


@pytest.fixture(scope="module")
def reader() -> Iterator[DocumentReader]:
    with DocumentReader(workers=1) as reader:
        yield reader


EXAMPLES = 800
PLACES = st.floats(0, 1, exclude_max=True)
DAMAGE = st.lists(
    st.one_of(
        st.tuples(st.just("set"), PLACES, st.integers(0, 255)),
        st.tuples(st.just("flip"), PLACES, st.integers(0, 7)),
        st.tuples(st.just("cut"), PLACES, st.just(0)),
        st.tuples(st.just("remove"), PLACES, st.integers(1, 40)),
        st.tuples(st.just("repeat"), PLACES, st.integers(1, 40)),
        st.tuples(st.just("append"), st.just(0.0), st.integers(0, 255)),
    ),
    min_size=1,
    max_size=6,
)


def damaged(content: bytes, damage: list[tuple[str, float, int]]) -> bytes:
    for kind, where, value in damage:
        place = int(where * len(content))
        if kind == "cut":
            content = content[:place]
        elif kind == "remove":
            content = content[:place] + content[place + value :]
        elif kind == "repeat":
            content = content[:place] + content[place : place + value] + content[place:]
        elif kind == "append":
            content += bytes([value]) * 20
        elif content:
            byte = value if kind == "set" else content[place] ^ (1 << value)
            content = content[:place] + bytes([byte]) + content[place + 1 :]
    return content


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), damage=DAMAGE)
def test_damaged_files_give_documents_or_reasons(
    tmp_path: Path,
    valid: Files,
    reader: DocumentReader,
    data: st.DataObject,
    damage: list[tuple[str, float, int]],
) -> None:
    name = data.draw(st.sampled_from(sorted(valid)))
    path = tmp_path / name
    path.write_bytes(damaged(valid[name], damage))
    ((_, outcomes),) = reader.read_files([path])
    found = list(outcomes)
    assert found
    for outcome in found:
        assert outcome.source.startswith(str(path))
        if isinstance(outcome, Unreadable):
            assert outcome.reason.strip() and "its reader failed" not in outcome.reason, outcome.reason
            assert "\n" not in outcome.reason
        else:
            assert isinstance(outcome, Document)
            outcome.text.encode("utf-8")
