"""Archives, compressed files, mailboxes and web archives: members are read, hostile ones contained and named."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import mailbox
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from llmbuilder.documents.containers import ContainerLimits, container_kind
from llmbuilder.documents.document import Unreadable
from llmbuilder.documents.reader_pool import ReadingLimits
from llmbuilder.documents.reading import DocumentReader
from llmbuilder.documents.sources import Source
from tests.corpus.folders import paragraph
from tests.documents.samples import write_docx, write_pdf


def read(path: Path, **limits: Any) -> dict[str, str]:
    """Return the text of every document in a file by its source, or "! reason"; both relative to the file."""
    most = limits.get("member_bytes", 1 << 30)
    limited = {"limits": ReadingLimits(file_bytes=most), "container_limits": ContainerLimits(**limits)}
    with DocumentReader(workers=1, **limited) as reader:  # type: ignore[arg-type]
        outcomes = list(reader.read(Source(str(path), str(path.parent), path.stat().st_size, "1")))
    return {
        outcome.source.removeprefix(str(path)): f"! {outcome.reason}"
        if isinstance(outcome, Unreadable)
        else outcome.text
        for outcome in outcomes
    }


def zip_of(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_members_of_a_zip_archive_are_documents(tmp_path: Path) -> None:
    write_pdf(tmp_path / "a.pdf")
    write_docx(tmp_path / "b.docx")
    inner = zip_of(tmp_path / "inner.zip", {"deep.txt": b"Deep inside."})
    members = {
        "reports/a.pdf": (tmp_path / "a.pdf").read_bytes(),
        "b.docx": (tmp_path / "b.docx").read_bytes(),
        "notes/c.txt": b"Plain notes.",
        "rows.jsonl": b'{"text": "First row."}\n{"text": "Second row."}\n',
        "inner.zip": inner.read_bytes(),
        ".hidden": b"not this",
        "__MACOSX/c.txt": b"nor this",
        "picture.png": b"\x89PNG\r\n\x1a\n...",
    }
    found = read(zip_of(tmp_path / "all.zip", members))
    assert "lighthouse keeper" in found.pop("#reports/a.pdf")
    assert "lighthouse keeper" in found.pop("#b.docx")
    assert found == {
        "#notes/c.txt": "Plain notes.",
        "#rows.jsonl#1": "First row.",
        "#rows.jsonl#2": "Second row.",
        "#inner.zip#deep.txt": "Deep inside.",
        "#picture.png": "! it is a PNG picture, not a document",
    }


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar_archives_in_every_compression(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "all.bin"  # the name says nothing
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name in ("a.txt", "b/c.md"):
            member = tarfile.TarInfo(name)
            member.size = len(name)
            archive.addfile(member, io.BytesIO(name.encode()))
        link = tarfile.TarInfo("link.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert read(path) == {
        "#a.txt": "a.txt",
        "#b/c.md": "b/c.md",
        "#link.txt": "! it is a link or a device, not a file",
    }


def test_compressed_files_are_what_is_in_them(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"text": f"Row {n}.", "title": f"T{n}", "stars": n}) + "\n" for n in range(3)).encode()
    for name, content in {
        "rows.jsonl.gz": gzip.compress(lines),
        "rows.jsonl.bz2": bz2.compress(lines),
        "rows.jsonl.xz": lzma.compress(lines),
        "rows.jsonl.zst": pyarrow.compress(lines, "zstd", asbytes=True),
    }.items():
        (tmp_path / name).write_bytes(content)
        assert read(tmp_path / name) == {"#1": "Row 0.", "#2": "Row 1.", "#3": "Row 2."}, name
    (tmp_path / "page.html.gz").write_bytes(gzip.compress(b"<html><body><p>A page.</p></body></html>"))
    assert "A page." in read(tmp_path / "page.html.gz")[""]


def test_a_bad_line_costs_itself(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(
        b'{"text": "One."}\n{"text": \n[1]\n{"text": 5}\n\n{"text": "Lone \\ud800 surrogate."}\n\xff\xfe\n'
    )
    found = read(path)
    assert found["#1"] == "One."
    assert found["#2"].startswith("! the line is not JSON")
    assert found["#3"] == "! the line is not a JSON object"
    assert found["#4"] == "! no text in column 'text' (--text-column names another)"
    assert found["#6"] == "Lone \ufffd surrogate."
    assert found["#7"].startswith("! the line is not JSON")
    assert "the line is longer than 12 bytes" in read(path, member_bytes=12)["#1"]


def test_a_sentence_that_begins_with_from_is_no_message(tmp_path: Path) -> None:
    envelope = "From jane@example.org Thu Jan  1 00:00:00 1970"
    letters = [
        f"{envelope}\nSubject: Letter {n}\n\nDear all,\n\nFrom here on it is {n}.\n\n>From me.\n\n" for n in (1, 2)
    ]
    (tmp_path / "letters").write_text("".join(letters))
    found = read(tmp_path / "letters")
    assert list(found) == ["#1.eml", "#2.eml"]
    assert all(f"From here on it is {n}." in text for n, text in enumerate(found.values(), start=1))


def test_compressed_members_keep_their_format_and_repeated_names_are_numbered(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("rows.csv.gz", gzip.compress(b"id,text\n1,one row\n"))
        archive.writestr("a.txt", "the same name")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.txt", "the same name")
    assert read(tmp_path / "a.zip") == {
        "#rows.csv.gz#1": "one row", "#a.txt": "the same name", "#a.txt (2)": "the same name",
    }  # fmt: skip
    (tmp_path / "rows.jsonl").write_bytes(gzip.compress(b'{"text": "without a telling name"}\n'))
    assert read(tmp_path / "rows.jsonl") == {"#1": "without a telling name"}


def test_mailboxes_are_their_messages(tmp_path: Path) -> None:
    box = mailbox.mbox(tmp_path / "in.mbox")
    for number in range(3):
        message = mailbox.mboxMessage()
        message["Subject"], message["From"] = f"Letter {number}", "jane@example.org"
        message.set_payload(f"Dear reader, this is letter {number}.\n")
        box.add(message)
    box.close()
    found = read(tmp_path / "in.mbox")
    assert len(found) == 3
    assert all(f"this is letter {n}" in text for n, text in enumerate(found.values()))


def test_web_archives_are_their_pages(tmp_path: Path) -> None:
    page = f"<html><head><title>T</title></head><body><p>{paragraph('warc')}</p></body></html>".encode()

    def record(url: str, status: str, kind: str, body: bytes) -> bytes:
        http = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        head = (
            f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: {url}\r\nWARC-Date: 2026-01-01T00:00:00Z\r\n"
            f"WARC-Record-ID: <urn:uuid:{abs(hash(url))}>\r\nContent-Type: application/http; msgtype=response\r\n"
            f"Content-Length: {len(http)}\r\n\r\n"
        )
        return head.encode() + http + b"\r\n\r\n"

    content = (
        record("https://example.org/a", "200 OK", "text/html; charset=utf-8", page)
        + record("https://example.org/b", "404 Not Found", "text/html", page)
        + record("https://example.org/c.png", "200 OK", "image/png", b"\x89PNG")
    )
    for name, raw in {"crawl.warc": content, "crawl.warc.gz": gzip.compress(content)}.items():
        (tmp_path / name).write_bytes(raw)
        found = read(tmp_path / name)
        assert list(found) == ["#https://example.org/a"]
        assert paragraph("warc")[:40] in found["#https://example.org/a"]


def test_names_that_lead_out_of_the_folder_lead_nowhere(tmp_path: Path) -> None:
    outside = "../../../../../../../../tmp/llmbuilder-escaped.txt"
    found = read(zip_of(tmp_path / "evil.zip", {outside: b"Escaped.", "/etc/llmbuilder.txt": b"Absolute."}))
    assert set(found.values()) == {"Escaped.", "Absolute."}
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        member = tarfile.TarInfo(outside)
        member.size = 8
        archive.addfile(member, io.BytesIO(b"Escaped."))
    assert list(read(tmp_path / "evil.tar").values()) == ["Escaped."]
    assert not Path("/tmp/llmbuilder-escaped.txt").exists()
    assert not list((tmp_path / "scratch").rglob("*.txt"))


def test_bombs_are_contained_and_what_came_before_them_stays(tmp_path: Path) -> None:
    zeros = b"0" * (3 << 20)
    found = read(zip_of(tmp_path / "big.zip", {"a.txt": b"Before.", "bomb.txt": zeros, "z.txt": b"After."}),
                 member_bytes=1 << 20)  # fmt: skip
    assert found == {"#a.txt": "Before.", "#bomb.txt": "! it unpacks to more than 1,048,576 bytes", "#z.txt": "After."}
    many = {f"{n}.txt": b"0" * (30 << 20) for n in range(10)}  # 300 MB in 300 kB
    found = read(zip_of(tmp_path / "many.zip", many))
    assert "it unpacks to more than 268,435,456 bytes (100 times its size)" in found[""]
    assert 5 <= len(found) < 10
    nested = zip_of(tmp_path / "0.zip", {"a.txt": b"Deep."})
    for level in range(1, 6):
        nested = zip_of(tmp_path / f"{level}.zip", {"inner.zip": nested.read_bytes()})
    assert any("it lies in 3 containers, one in another" in text for text in read(nested).values())
    members = {f"{n}.txt": b"x" for n in range(30)}
    assert "more than 20 members" in read(zip_of(tmp_path / "crowd.zip", members), members=20)[""]


def test_damaged_and_encrypted_archives_are_named(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "cut.zip", {"a.txt": paragraph("cut").encode()})
    path.write_bytes(path.read_bytes()[:-40])
    assert read(path)[""].startswith("! it is damaged")
    (tmp_path / "cut.tar.gz").write_bytes(gzip.compress(b"x" * 2000)[:-10])
    assert "damaged" in read(tmp_path / "cut.tar.gz")[""]
    path = zip_of(tmp_path / "locked.zip", {"a.txt": b"secret"}, zipfile.ZIP_STORED)
    raw = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = raw.index(signature) + offset
        raw[at : at + 2] = struct.pack("<H", 1)
    path.write_bytes(raw)
    assert read(path) == {"#a.txt": "! it is encrypted: a copy without a password can be read"}


def test_documents_that_are_zip_archives_stay_documents(tmp_path: Path) -> None:
    write_docx(tmp_path / "a.docx")
    (tmp_path / "a.docx").rename(tmp_path / "letter.bin")
    assert container_kind(tmp_path / "letter.bin") is None
    assert "lighthouse keeper" in read(tmp_path / "letter.bin")[""]


def test_corpus_files_are_taken_apart(tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("One.\n\x1e\nTwo.\n\x1e\nThree.\n")
    assert [text.strip() for text in read(tmp_path / "corpus.txt").values()] == ["One.", "Two.", "Three."]
    import pyarrow.parquet as parquet

    table = pyarrow.table({"content": ["Alpha.", "Beta."], "license": ["by", "by-sa"], "year": [1999, 2000]})
    parquet.write_table(table, tmp_path / "rows.parquet")
    assert read(tmp_path / "rows.parquet") == {"#1": "Alpha.", "#2": "Beta."}
    (tmp_path / "torn.parquet").write_bytes((tmp_path / "rows.parquet").read_bytes()[:-20])
    assert read(tmp_path / "torn.parquet")[""].startswith("! cannot be read as Parquet")


def test_programs_that_unpack_themselves_and_tars_of_old(tmp_path: Path) -> None:
    packed = zip_of(tmp_path / "a.zip", {"in.txt": b"Inside."}).read_bytes()
    for name in ("self.exe", "script.zip"):
        (tmp_path / name).write_bytes(b"MZ" + bytes(range(256)) + packed)
        assert read(tmp_path / name) == {"#in.txt": "Inside."}
    header = bytearray(512)
    header[0:7], header[100:107], header[124:135] = b"old.txt", b"0000644", b"00000000007"
    header[148:156] = b" " * 8
    header[148:154] = b"%06o" % sum(header)
    archive = bytes(header) + b"Inside.".ljust(512, b"\0") + bytes(1024)
    for name, content in {"old.tar": archive, "old.tar.gz": gzip.compress(archive)}.items():
        (tmp_path / name).write_bytes(content)
        assert read(tmp_path / name) == {"#old.txt": "Inside."}


def test_padding_behind_compressed_data_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"One. ") + gzip.compress(b"Two.") + bytes(700))
    assert read(path) == {"": "One. Two."}
    path.write_bytes(gzip.compress(b"One. ") + b"something else")
    assert "behind its compressed data" in read(path)[""]
