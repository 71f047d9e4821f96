from __future__ import annotations

import struct
from pathlib import Path

import pytest

from llmbuilder.documents.file_types import detect_format
from llmbuilder.documents.readers import read_document
from llmbuilder.errors import DataError
from tests.documents.office_files.written import text_of

DATE, PLAIN = 1, 0  # the formats of cells


def record(kind: int, content: bytes) -> bytes:
    return struct.pack("<HH", kind, len(content)) + content


def string(text: str, size: str) -> bytes:
    return struct.pack(f"<{size}B", len(text), 1) + text.encode("utf-16-le")


def label(row: int, column: int, text: str) -> bytes:
    return record(0x204, struct.pack("<HHH", row, column, PLAIN) + string(text, "H"))


def number(row: int, column: int, value: float, form: int = PLAIN) -> bytes:
    return record(0x203, struct.pack("<HHHd", row, column, form, value))


def truth(row: int, column: int, value: int, *, is_error: bool = False) -> bytes:
    return record(0x205, struct.pack("<HHHBB", row, column, PLAIN, value, is_error))


def workbook(path: Path, cells: bytes, name: str = "Häfen", *, since_1904: bool = False) -> Path:
    """The stream of a BIFF8 workbook with one sheet, as it is without the container around it."""
    begin = record(0x809, struct.pack("<HHHHII", 0x600, 5, 0, 0, 0, 0)) + record(0x22, struct.pack("<H", since_1904))
    forms = b"".join(record(0xE0, struct.pack("<HHHBBBB", 0, form, 0, 0, 0, 0, 0xFC) + bytes(10)) for form in (0, 14))
    place = len(begin) + len(forms) + len(record(0x85, bytes(6) + string(name, "B"))) + 4
    sheet = record(0x85, struct.pack("<IBB", place, 0, 0) + string(name, "B"))
    inside = record(0x809, struct.pack("<HHHHII", 0x600, 0x10, 0, 0, 0, 0)) + cells + record(0x0A, b"")
    path.write_bytes(begin + forms + sheet + record(0x0A, b"") + inside)
    return path


def test_every_kind_of_cell(tmp_path: Path) -> None:
    cells = [
        label(0, 0, "Hafen"), label(0, 1, "a|b & <c>"), number(1, 0, 0.1 + 0.2), number(1, 1, 36526, DATE),
        truth(2, 0, 1), truth(2, 1, 7, is_error=True), number(3, 0, 1234567890123450), number(3, 1, 36526.75, DATE),
    ]  # fmt: skip
    assert text_of(workbook(tmp_path / "a.xls", b"".join(cells))) == (
        "## Häfen\n\n| Hafen | a\\|b & <c> |\n| --- | --- |\n| 0.3 | 2000-01-01 |\n| TRUE | #DIV/0! |\n"
        "| 1234567890123450 | 2000-01-01 18:00 |"
    )


def test_days_since_1904(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xls", number(0, 0, 1000, DATE), since_1904=True)
    assert text_of(path) == "## Häfen\n\n1906-09-27"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("<html><body><table><tr><td>a</td></tr></table></body></html>", "html"),
        ('<?xml version="1.0"?><Workbook><Worksheet><Table><Row><Cell>a</Cell></Row></Table></Worksheet></Workbook>', "xml"),
        ("port\tships\nKiel\t3\n", "csv"),
    ],
)  # fmt: skip
def test_what_is_only_called_an_office_file(tmp_path: Path, content: str, kind: str) -> None:
    for name, expected in (("a.xls", kind), ("a.doc", "text" if kind == "csv" else kind)):
        (tmp_path / name).write_text(content)
        assert detect_format(tmp_path / name) == expected


def test_what_is_damaged_is_named(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xls", label(0, 0, "Hafen"))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=r"a\.xls: cannot be read as xls: it is damaged"):
        read_document(path)
