"""Word documents of 1997 to 2003, their streams written by hand (MS-DOC)."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from llmbuilder.documents.document import Document
from llmbuilder.documents.office_files.doc import read_doc
from llmbuilder.errors import DataError, LockedError
from tests.documents.office_files.compound import hold_streams

IN_TABLE, ROW_END, LIST, OUTLINE = b"\x16\x24\x01", b"\x17\x24\x01", b"\x0b\x46\x01\x00", b"\x40\x26\x01"
DELETED = b"\x00\x08\x01"
TEXT = 2048  # where the text begins in the stream
Run = tuple[str, int, bytes]  # text, style, properties


def units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def page(runs: Sequence[Run], width: int) -> bytes:
    """A page of properties of runs of text, each letter of which takes `width` bytes."""
    content, end = bytearray(512), 510
    borders = [TEXT, *(TEXT + width * n for n in itertools.accumulate(units(text) for text, _, _ in runs))]
    struct.pack_into(f"<{len(borders)}I", content, 0, *borders)
    for number, (_, style, properties) in enumerate(runs):
        entry = struct.pack("<H", style) + properties
        entry = bytes((len(entry) // 2 + 1,)) + entry if len(entry) % 2 else bytes((0, len(entry) // 2)) + entry
        end -= len(entry) + len(entry) % 2
        content[end : end + len(entry)] = entry
        content[4 * len(borders) + 13 * number] = end // 2
    content[511] = len(runs)
    return bytes(content)


def letters(runs: Sequence[Run], deleted: str, width: int) -> bytes:
    """A page that says of some text that a revision deleted it."""
    text = "".join(run[0] for run in runs)
    begin = text.find(deleted) if deleted else len(text)
    borders = [TEXT + width * place for place in (0, begin, begin + len(deleted), len(text))]
    content = bytearray(512)
    struct.pack_into("<4I", content, 0, *borders)
    content[17], content[500:504] = 250, bytes((len(DELETED),)) + DELETED
    content[511] = 3
    return bytes(content)


def streams(
    runs: Sequence[Run], parts: Sequence[int] = (), *, deleted: str = "", western: bool = False, flags: int = 0,
    version: int = 0xC1, marks: Sequence[int] = (), texts: Sequence[int] = (),
) -> dict[str, bytes]:  # fmt: skip
    """The streams of a document; `parts` are the lengths of its parts, `marks` and `texts` the places of footnotes."""
    text = "".join(run[0] for run in runs)
    width = 1 if western else 2
    place = (TEXT * 2) | 0x40000000 if western else TEXT
    pieces = struct.pack("<II", 0, units(text)) + struct.pack("<HIH", 0, place, 0)
    tables = {
        13: struct.pack("<III", TEXT, TEXT + width * units(text), 2), 12: struct.pack("<III", TEXT, TEXT + 1, 3),
        33: b"\x01\x02\x00ab\x02" + struct.pack("<I", len(pieces)) + pieces,
        2: struct.pack(f"<{len(marks) + 1}I", *marks, 0) + bytes(2 * len(marks)) if marks else b"",
        3: struct.pack(f"<{len(texts) + 1}I", *texts, 0) if texts else b"",
    }  # fmt: skip
    head, table = bytearray(1024), b""
    struct.pack_into("<HH", head, 0, 0xA5EC, version)
    struct.pack_into("<H", head, 10, flags | 0x0200)
    struct.pack_into("<7i", head, 0x4C, *(parts or (units(text),)), *[0] * (7 - max(1, len(parts))))
    for number, content in tables.items():
        struct.pack_into("<II", head, 0x9A + 8 * number, len(table), len(content))
        table += content
    encoded = text.encode("cp1252") if western else text.encode("utf-16-le")
    return {"WordDocument": bytes(head) + page(runs, width) + letters(runs, deleted, width) + encoded, "1Table": table}


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[dict[str, bytes]], Document]:
    def read_streams(content: dict[str, bytes]) -> Document:
        hold_streams(monkeypatch, content)
        return read_doc(tmp_path / "a.doc")

    return read_streams


def test_paragraphs_headings_lists_and_signs(read) -> None:
    runs = [
        ("Häfen\r", 1, b""), ("R&D at AT&T:\tp < 0.05, well\x1eknown, 𐌲\x0bnext\r", 0, b""), ("salt\r", 0, LIST),
        ("Section\r", 20, OUTLINE), ("after a page\x0c", 0, b""), ("the end\r", 0, b""),
    ]  # fmt: skip
    assert read(streams(runs)).text.split("\n\n") == [
        "# Häfen", "R&D at AT&T:\tp < 0.05, well\u2011known, 𐌲\nnext", "- salt", "## Section", "after a page", "the end",
    ]  # fmt: skip


def test_text_in_one_byte_a_letter(read) -> None:
    assert read(streams([("“Größe” – 5 €\r", 0, b"")], western=True)).text == "“Größe” – 5 €"


def test_what_fields_show_is_text_and_what_they_say_is_not(read) -> None:
    field = '\x13 HYPERLINK "x" \x14link\x15'
    runs = [
        (f"See {field}, page \x13 PAGEREF \x13 REF a \x14b\x15 \x147\x15.\r", 0, b""),
        ("\x13 never closed\r", 0, b""),
    ]
    assert read(streams(runs)).text == "See link, page 7.\n\n never closed"
    drawn = "\x13 EQ \\* jc2 \\* hps10 \\o\\ad(\\s\\up 9(とうきょう),東京)\x15へ行く\r"
    assert read(streams([(drawn, 0, b"")])).text == "東京(とうきょう)へ行く"


def test_what_a_revision_deleted_is_gone(read) -> None:
    assert read(streams([("It is not so.\r", 0, b"")], deleted="not ")).text == "It is so."


def test_tables(read) -> None:
    cell, end = ("one|\r", 0, IN_TABLE), ("\x07", 0, IN_TABLE + ROW_END)
    runs = [
        ("before\r", 0, b""), ("Hafen\x07", 0, IN_TABLE), ("\x07", 0, IN_TABLE), end, cell, ("two\x07", 0, IN_TABLE),
        ("3\x07", 0, IN_TABLE), end, ("after\r", 0, b""),
    ]  # fmt: skip
    assert read(streams(runs)).text == "before\n\n| Hafen |  |\n| --- | --- |\n| one\\| two | 3 |\n\nafter"


def test_footnotes_headers_and_text_boxes(read) -> None:
    main, first, second = "One\x02 and two\x02.\r", "\x02 The first.\r", "\x02 The second.\r"
    parts = [len(main), len(first + second) + 1, 7, 0, 0, 0, 8]
    runs = [(main, 0, b""), (first + second + "\r", 0, b""), ("Header\r", 0, b""), ("In box.\r", 0, b"")]
    split = [(f"{line}\r", 0, b"") for run in runs for line in run[0].split("\r")[:-1]]
    document = read(streams(split, parts, marks=(3, 12), texts=(0, len(first), len(first + second))))
    assert document.text == "One[^1] and two[^2].\n\n[^1]: The first.\n[^2]: The second.\n\nIn box."
    assert document.notes == {"header": "Header"}


def test_what_cannot_be_read_is_named(read) -> None:
    runs = [("Text\r", 0, b"")]
    with pytest.raises(LockedError, match="it is encrypted"):
        read(streams(runs, flags=0x0100))
    with pytest.raises(DataError, match="older than Word 97"):
        read(streams(runs, version=0x68))
    for cut in (b"", streams(runs)["WordDocument"][:200]):
        with pytest.raises(DataError, match="it is damaged"):
            read(streams(runs) | {"WordDocument": cut})
