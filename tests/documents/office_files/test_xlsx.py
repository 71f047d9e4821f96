from __future__ import annotations

from pathlib import Path

import pytest

from tests.documents.office_files.written import NAMESPACES, relations, text_of, xlsx


def row(*cells: str) -> str:
    return f"<s:row>{''.join(cells)}</s:row>"


def inline(text: str) -> str:
    return f'<s:c t="inlineStr"><s:is><s:t>{text}</s:t></s:is></s:c>'


def number(value: str, style: int = 0) -> str:
    return f'<s:c s="{style}"><s:v>{value}</s:v></s:c>'


STYLES = (
    '<s:styleSheet><s:numFmts><s:numFmt numFmtId="164" formatCode="dd/mm/yyyy\\ hh:mm"/>'
    '<s:numFmt numFmtId="165" formatCode="#,##0.00 &quot;days&quot;"/></s:numFmts><s:cellXfs><s:xf numFmtId="0"/>'
    '<s:xf numFmtId="14"/><s:xf numFmtId="164"/><s:xf numFmtId="165"/><s:xf numFmtId="20"/></s:cellXfs></s:styleSheet>'
)


@pytest.mark.parametrize(
    ("value", "style", "read"),
    [
        ("45658", 1, "2025-01-01"),
        ("45658.5", 2, "2025-01-01 12:00"),
        ("0.75", 4, "18:00"),
        ("59", 1, "1900-02-28"),
        ("61", 1, "1900-03-01"),
        ("7", 3, "7"),
        ("0.30000000000000004", 0, "0.3"),
        ("1E+2", 0, "100"),
        ("12345678901234567890", 0, "1.23456789012346e+19"),
    ],
)
def test_numbers_and_dates(tmp_path: Path, value: str, style: int, read: str) -> None:
    path = xlsx(
        tmp_path / "a.xlsx", {"S": row(inline("value"), inline("x")) + row(number(value, style))}, styles=STYLES
    )
    assert text_of(path) == f"## S\n\n| value | x |\n| --- | --- |\n| {read} |  |"


def test_sheets_strings_and_bars(tmp_path: Path) -> None:
    strings = (
        "<s:sst><s:si><s:t>a | b</s:t></s:si><s:si><s:r><s:t>R&amp;D </s:t></s:r><s:r><s:t>rich</s:t></s:r></s:si>"
        "<s:si><s:t>東京</s:t><s:rPh><s:t>トウキョウ</s:t></s:rPh></s:si></s:sst>"
    )
    shared = "".join(f'<s:c t="s"><s:v>{index}</s:v></s:c>' for index in range(3))
    truth = '<s:c t="b"><s:v>1</s:v></s:c><s:c t="str"><s:v>formula</s:v></s:c><s:c t="e"><s:v>#N/A</s:v></s:c>'
    path = xlsx(tmp_path / "a.xlsx", {"First &amp; last": row(shared) + row(truth), "Empty": "", "Second": row(inline("x"))},
                sharedStrings=strings)  # fmt: skip
    assert text_of(path) == (
        "## First & last\n\n| a \\| b | R&D rich | 東京 |\n| --- | --- | --- |\n| TRUE | formula | #N/A |\n\n## Second\n\nx"
    )


def test_cells_stand_in_their_columns(tmp_path: Path) -> None:
    cells = '<s:row r="1"><s:c r="A1"><s:v>1</s:v></s:c><s:c r="C1"><s:v>3</s:v></s:c></s:row>'
    cells += '<s:row r="3"><s:c r="B3"><s:v>2</s:v></s:c><s:c r="XFD3"><s:v>9</s:v></s:c></s:row>'
    assert text_of(xlsx(tmp_path / "a.xlsx", {"S": cells})) == (
        "## S\n\n| 1 |  | 3 |  |\n| --- | --- | --- | --- |\n|  | 2 |  | 9 |"
    )


def test_comments_and_text_boxes(tmp_path: Path) -> None:
    comments = f"<s:comments {NAMESPACES}><s:commentList><s:comment><s:text><s:t>Checked.</s:t></s:text></s:comment></s:commentList></s:comments>"
    box = f"<s:wsDr {NAMESPACES}><s:sp><a:p><a:r><a:t>In a box.</a:t></a:r></a:p></s:sp></s:wsDr>"
    path = xlsx(tmp_path / "a.xlsx", {"S": row(inline("x"))}, more={
        "xl/_rels/sheet1.xml.rels": relations(rId1="comments comments.xml", rId2="drawing drawing.xml"),
        "xl/comments.xml": comments, "xl/drawing.xml": box,
    })  # fmt: skip
    assert text_of(path) == "## S\n\nx\n\nIn a box.\n\nChecked."


def test_charts_in_the_order_in_which_they_are_drawn(tmp_path: Path) -> None:
    labels = "<c:chartSpace {}><c:chart><c:title><c:tx><c:rich><a:p><a:r><a:t>{}</a:t></a:r></a:p></c:rich></c:tx></c:title></c:chart></c:chartSpace>"
    drawn = "".join(f'<xdr:anchor><c:chart r:id="{id}"/></xdr:anchor>' for id in ("r2", "r1"))
    names = 'xmlns:xdr="http://schemas.openxmlformats.org/drawingml/2006/spreadsheetDrawing"'
    path = xlsx(tmp_path / "a.xlsx", {"Sales": row(inline("cell"))}, {
        "xl/_rels/sheet1.xml.rels": relations(d1="drawing drawings/drawing1.xml"),
        "xl/drawings/drawing1.xml": f"<xdr:wsDr {NAMESPACES} {names}>{drawn}</xdr:wsDr>",
        "xl/drawings/_rels/drawing1.xml.rels": relations(r1="chart second.xml", r2="chart first.xml"),
        "xl/drawings/first.xml": labels.format(NAMESPACES, "First"),
        "xl/drawings/second.xml": labels.format(NAMESPACES, "Second"),
    })  # fmt: skip
    assert text_of(path) == "## Sales\n\ncell\n\nFirst\n\nSecond"
