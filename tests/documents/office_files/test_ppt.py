"""Presentations of PowerPoint 97 to 2003: slides, notes and comments of the last version, nothing of the masters."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from llmbuilder.documents.office_files.ppt import read_ppt
from llmbuilder.errors import DataError, LockedError
from tests.documents.office_files.compound import hold_streams


def record(kind: int, content: bytes, instance: int = 0, *, holds: bool = False) -> bytes:
    return struct.pack("<HHI", (instance << 4) | (0xF if holds else 0), kind, len(content)) + content


def text(form: int, words: str) -> bytes:
    return record(3999, struct.pack("<I", form)) + record(4000, words.encode("utf-16-le"))


def place(reference: int, id: int) -> bytes:
    return record(1011, struct.pack("<IIIII", reference, 0, 0, id, 0))


def slide(*boxes: bytes, kind: int = 1006, notes: int = 0) -> bytes:
    atom = record(1007, struct.pack("<16xII", notes, 0)) if kind == 1006 else b""
    return record(kind, atom + b"".join(record(0xF00D, box, holds=True) for box in boxes), holds=True)


def presentation() -> tuple[bytes, int]:
    comment = record(
        12000, record(4026, "Ada".encode("utf-16-le")) + record(4026, "why?".encode("utf-16-le"), 1), holds=True
    )
    parts = {
        2: slide(text(0, "Click to edit Master title style"), kind=1016),
        3: slide(
            record(3998, struct.pack("<I", 0)),
            text(1, "one\rtwo\x0bthree"),
            text(4, "*"),
            record(5003, comment),
            notes=9,
        ),
        4: slide(text(2, "say this"), text(4, "Notes header"), kind=1008),
    }
    parts[1] = record(
        1000,
        record(4080, place(2, 1), 1, holds=True)
        + record(4080, place(3, 5) + text(0, "The title"), 0, holds=True)
        + record(4080, place(4, 9), 2, holds=True),
        holds=True,
    )
    stream, places = slide(text(1, "an earlier version")), {}
    for number, content in parts.items():
        places[number] = len(stream)
        stream += content
    directory = len(stream)
    stream += record(6002, struct.pack("<I4I", 1 | (4 << 20), *(places[number] for number in (1, 2, 3, 4))))
    edit = len(stream)
    return stream + record(4085, struct.pack("<IHBBIIII", 0, 0, 0, 3, 0, directory, 1, 0)), edit


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def write(stream: bytes, edit: int, token: int = 0xE391C05F) -> Path:
        streams = {"PowerPoint Document": stream, "Current User": record(4086, struct.pack("<III", 20, token, edit))}

        hold_streams(monkeypatch, streams)
        return tmp_path / "a.ppt"

    return write


def test_slides_notes_and_comments_but_no_masters(written) -> None:
    found = read_ppt(written(*presentation())).text
    assert found == "## The title\n\none\n\ntwo\nthree\n\nwhy?\n\nsay this"


def test_encrypted_and_damaged_ones_are_refused(written) -> None:
    stream, edit = presentation()
    with pytest.raises(LockedError):
        read_ppt(written(stream, edit, 0xF3D1C4DF))
    for cut in range(0, edit, 7):
        with pytest.raises(DataError):
            read_ppt(written(stream[:cut], edit))
