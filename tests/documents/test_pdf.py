"""PDF as others write it: right to left, downwards, rotated, in columns, with forms, damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmbuilder.documents.readers import read_document
from llmbuilder.errors import DataError
from tests.documents.samples import sentence, write_pdf


def by_hand(path: Path, content: str, unicode: dict[str, str] | None = None, page: str = "") -> Path:
    """Write a page whose letters mean what `unicode` says, as fonts' own tables do."""
    pairs = "\n".join(f"<{ord(code):02X}> <{text.encode('utf-16-be').hex()}>" for code, text in (unicode or {}).items())
    table = (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def /CMapType 2 def "
        f"1 begincodespacerange <00> <FF> endcodespacerange {len(unicode or {})} beginbfchar {pairs} endbfchar endcmap end end"
    )
    font = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica " + ("/ToUnicode 6 0 R >>" if unicode else ">>")
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R "
        f"/Resources << /Font << /F 5 0 R >> >> {page} >>",
        f"<< /Length {len(content)} >>\nstream\n{content}\nendstream",
        font,
        f"<< /Length {len(table)} >>\nstream\n{table}\nendstream",
    ]
    body, places = "%PDF-1.4\n", []
    for number, one in enumerate(objects, start=1):
        places.append(len(body))
        body += f"{number} 0 obj\n{one}\nendobj\n"
    table_at = len(body)
    body += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n" + "".join(
        f"{place:010} 00000 n \n" for place in places
    )
    body += f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{table_at}\n%%EOF\n"
    path.write_bytes(body.encode("latin-1"))
    return path


def lines_of(path: Path) -> list[str]:
    return [" ".join(line.split()) for line in read_document(path).text.split("\n") if line.strip()]


def test_hebrew_is_read_from_right_to_left(tmp_path: Path) -> None:
    words = "שומר המגדלור ספר את האוניות"
    letters = sorted(set(words) - {" "})
    codes = {letter: chr(ord("A") + number) for number, letter in enumerate(letters)}
    drawn = "".join(codes.get(letter, letter) for letter in reversed(words))  # as glyphs stand from the left
    content = f"BT /F 14 Tf 100 700 Td ({drawn}) Tj ET"
    path = by_hand(tmp_path / "a.pdf", content, {code: letter for letter, code in codes.items()})
    assert lines_of(path) == [words]


def test_ligatures_become_letters(tmp_path: Path) -> None:
    path = by_hand(tmp_path / "a.pdf", "BT /F 14 Tf 100 700 Td (the o%ce #nds it) Tj ET", {"%": "ﬃ", "#": "ﬁ"})
    assert lines_of(path) == ["the office finds it"]


def test_rotated_pages_and_columns(tmp_path: Path) -> None:
    left = " ".join(f"0 -20 Td (left column line {n} of the page) Tj" for n in range(4))
    right = left.replace("left", "right")
    content = f"BT /F 10 Tf 50 700 Td {left} ET BT /F 10 Tf 320 700 Td {right} ET"
    upright = {0: "1 0 0 1 0 0", 90: "0 1 -1 0 595 0", 180: "-1 0 0 -1 595 842", 270: "0 -1 1 0 0 842"}
    for rotation, matrix in upright.items():
        turned = f"q {matrix} cm {content} Q"
        path = by_hand(tmp_path / f"{rotation}.pdf", turned, page=f"/Rotate {rotation}")
        expected = [f"{side} column line {n} of the page" for side in ("left", "right") for n in range(4)]
        assert lines_of(path) == expected, rotation


def test_japanese_written_downwards(tmp_path: Path) -> None:
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.cidfonts import UnicodeCIDFont
    from reportlab.pdfgen import canvas

    lines = [
        "灯台の番人は嵐の前に船を数えました。",
        "それから疲れて海のそばの部屋で眠りました。",
        "朝になると風はやんでいた。",
    ]
    pdfmetrics.registerFont(UnicodeCIDFont("HeiseiMin-W3", isVertical=True))
    sheet = canvas.Canvas(str(tmp_path / "a.pdf"))
    sheet.setFont("HeiseiMin-W3", 14)
    for number, line in enumerate(lines):
        sheet.drawString(500 - 30 * number, 780, line)
    sheet.save()
    assert lines_of(tmp_path / "a.pdf") == lines


def test_what_a_form_holds_is_text(tmp_path: Path) -> None:
    from reportlab.pdfgen import canvas

    sheet = canvas.Canvas(str(tmp_path / "a.pdf"))
    sheet.drawString(72, 700, "Name of the keeper:")
    sheet.acroForm.textfield(name="keeper", value="Ada Berg", x=200, y=690)
    sheet.save()
    assert "Ada Berg" in read_document(tmp_path / "a.pdf").text


def test_words_divided_at_a_line_end(tmp_path: Path) -> None:
    content = (
        "BT /F 12 Tf 72 700 Td (The keeper spoke of mainte-) Tj 0 -15 Td (nance and of the well-) Tj "
        "0 -15 Td (known tower. It is well-known.) Tj ET"
    )
    found = " ".join(lines_of(by_hand(tmp_path / "a.pdf", content)))
    assert "maintenance" in found and found.count("well-known") == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content.replace(b"/Title (Lighthouse records)", b"/Title (Lighthouse rec" + b"\xff" * 6),
        lambda content: content.replace(b"/Info ", b"/Info 99 0 R /X "),
        lambda content: content[: content.rindex(b"startxref")] + b"startxref\n1\n%%EOF\n",
        lambda content: content[: content.rindex(b"xref\n")],
    ],
    ids=["title", "metadata", "place of the table", "no table"],
)
def test_damage_beside_the_pages_costs_nothing(tmp_path: Path, damage: object) -> None:
    write_pdf(tmp_path / "a.pdf")
    whole = read_document(tmp_path / "a.pdf").text
    (tmp_path / "b.pdf").write_bytes(damage((tmp_path / "a.pdf").read_bytes()))  # type: ignore[operator]
    assert read_document(tmp_path / "b.pdf").text == whole and sentence("north0") in whole


def test_a_file_that_is_cut_is_refused_or_read(tmp_path: Path) -> None:
    write_pdf(tmp_path / "a.pdf")
    content = (tmp_path / "a.pdf").read_bytes()
    (tmp_path / "b.pdf").write_bytes(content[:300])
    with pytest.raises(DataError, match=r"b\.pdf"):
        read_document(tmp_path / "b.pdf")


@pytest.mark.parametrize("shown", [0, 90, 180, 270])
@pytest.mark.parametrize("is_written_so", [False, True])
def test_pages_that_are_shown_turned(tmp_path: Path, shown: int, is_written_so: bool) -> None:
    turns = {0: "1 0 0 1 0 0", 90: "0 1 -1 0 595 0", 180: "-1 0 0 -1 595 842", 270: "0 -1 1 0 0 842"}
    turn = turns[shown if is_written_so else 0]
    lines = ["First line of the page", "second line of it", "third line of it", "the last one"]
    written = " 0 -15 Td ".join(f"({line}) Tj" for line in lines)
    path = by_hand(tmp_path / "a.pdf", f"q {turn} cm BT /F 12 Tf 72 500 Td {written} ET Q", page=f"/Rotate {shown}")
    assert lines_of(path) == lines


def test_a_damaged_page_is_named(tmp_path: Path) -> None:
    path = by_hand(tmp_path / "a.pdf", "BT /F 12 Tf 72 700 Td (The page.) Tj ET")
    content = path.read_bytes().replace(b"/Kids [3 0 R] /Count 1", b"/Kids [3 0 R 9 0 R] /Count 2")
    path.write_bytes(content)
    document = read_document(path)
    assert (document.text.strip(), document.unread) == ("The page.", {"page 2": "it is damaged"})
