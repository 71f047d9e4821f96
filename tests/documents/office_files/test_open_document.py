from __future__ import annotations

from pathlib import Path

import pytest

from llmbuilder.documents.readers import read_document
from llmbuilder.errors import DataError
from tests.documents.office_files.written import OPEN_NAMESPACES, open_document, text_of


def p(inside: str) -> str:
    return f"<text:p>{inside}</text:p>"


@pytest.mark.parametrize(
    ("inside", "read"),
    [
        ("R&amp;D at AT&amp;T, p &lt; 0.05, a*b_c", "R&D at AT&T, p < 0.05, a*b_c"),
        ("<text:span>The</text:span> sentence <text:span>begins</text:span>.", "The sentence begins."),
        ("Name:<text:tab/>John", "Name:\tJohn"),
        ("one<text:line-break/>two", "one\ntwo"),
        ('a<text:s text:c="3"/>b', "a   b"),
        ("a\n      line that the file breaks", "a line that the file breaks"),
        ('<text:a xlink:href="https://example.org">a link</text:a>.', "a link."),
        ("<text:ruby><text:ruby-base>東京</text:ruby-base><text:ruby-text>とうきょう</text:ruby-text></text:ruby>",
         "東京(とうきょう)"),
        ('<text:bookmark-start text:name="x"/>marked<text:bookmark-end text:name="x"/>', "marked"),
    ],
)  # fmt: skip
def test_a_paragraph(tmp_path: Path, inside: str, read: str) -> None:
    assert text_of(open_document(tmp_path / "a.odt", p(inside))) == read


def test_cells_that_hold_spans_lists_and_repeats(tmp_path: Path) -> None:
    def cell(inside: str, more: str = "") -> str:
        return f"<table:table-cell{more}>{inside}</table:table-cell>"

    items = "<text:list><text:list-item><text:p>x</text:p></text:list-item></text:list>"
    rows = [
        cell(p("<text:span>Spanned</text:span>")) + cell(p("a | b")) + cell(items),
        cell(p("same"), ' table:number-columns-repeated="2"') + cell(p("c") + p("d")),
    ]
    body = f"<table:table>{''.join(f'<table:table-row>{row}</table:table-row>' for row in rows)}</table:table>"
    read = text_of(open_document(tmp_path / "a.odt", body))
    assert read == "| Spanned | a \\| b | - x |\n| --- | --- | --- |\n| same | same | c d |"


LISTS = (
    '<text:list-style style:name="L1"><text:list-level-style-number text:level="1" style:num-format="1"/>'
    '<text:list-level-style-number text:level="2" style:num-format="a"/></text:list-style>'
    '<text:list-style style:name="L2"><text:list-level-style-bullet text:level="1"/></text:list-style>'
)


def test_lists_headers_and_numbers(tmp_path: Path) -> None:
    deep = f"<text:list><text:list-item>{p('deep')}</text:list-item></text:list>"
    body = (
        f'<text:list text:style-name="L1"><text:list-header>{p("Header")}</text:list-header>'
        f"<text:list-item>{p('one')}{deep}</text:list-item><text:list-item>{p('two')}</text:list-item></text:list>"
        + p("Between.")
        + f'<text:list text:style-name="L1" text:continue-numbering="true"><text:list-item>{p("three")}</text:list-item>'
        f'</text:list><text:list text:style-name="L2"><text:list-item>{p("bullet")}</text:list-item></text:list>'
    )
    read = text_of(open_document(tmp_path / "a.odt", body, styles=LISTS))
    assert read == "Header\n\n1. one\n  a. deep\n2. two\n\nBetween.\n\n3. three\n- bullet"


def test_notes_comments_boxes_and_deletions(tmp_path: Path) -> None:
    note = f"<text:note><text:note-citation>1</text:note-citation><text:note-body>{p('A note.')}</text:note-body></text:note>"
    comment = f"<office:annotation>{p('Is this so?')}</office:annotation>"
    box = f"<draw:frame><draw:text-box>{p('In the box.')}</draw:text-box></draw:frame>"
    gone = f"<text:tracked-changes><text:changed-region><text:deletion>{p('GONE')}</text:deletion></text:changed-region></text:tracked-changes>"
    read = text_of(open_document(tmp_path / "a.odt", gone + p(f"Text{note}, more{comment}{box}.") + p("End.")))
    assert read == "Text[^1], more.\n\nIs this so?\n\nIn the box.\n\nEnd.\n\n[^1]: A note."


def test_headings_and_titles(tmp_path: Path) -> None:
    meta = (
        f"<office:document-meta {OPEN_NAMESPACES} xmlns:dc='http://purl.org/dc/elements/1.1/'><office:meta>"
        "<dc:title>A title</dc:title></office:meta></office:document-meta>"
    )
    path = open_document(tmp_path / "a.odt", '<text:h text:outline-level="2">Part</text:h>' + p("Text."), meta=meta)
    assert read_document(path).title == "A title"
    assert text_of(path) == "## Part\n\nText."


def test_formulas_beside_the_text(tmp_path: Path) -> None:
    math = (
        "<math xmlns='http://www.w3.org/1998/Math/MathML'><semantics><mrow><mi>E</mi></mrow>"
        "<annotation encoding='StarMath 5.0'>E = m c^2</annotation></semantics></math>"
    )
    body = p('We have <draw:frame><draw:object xlink:href="./Object 1"/></draw:frame> here.')
    path = open_document(tmp_path / "a.odt", body, **{"Object 1__content": math})
    assert text_of(path) == "We have here.\n\n$E = m c^2$"


def test_slides_with_their_notes(tmp_path: Path) -> None:
    def page(text: str, notes: str) -> str:
        frame = "<draw:frame><draw:text-box>{}</draw:text-box></draw:frame>"
        return f"<draw:page>{frame.format(p(text))}<presentation:notes><draw:page-thumbnail/>{frame.format(p(notes))}</presentation:notes></draw:page>"

    document = read_document(open_document(tmp_path / "a.odp", page("One", "Say this.") + page("Two", "")))
    assert (document.format, document.text) == ("odp", "One\n\nSay this.\n\nTwo")


def test_sheets_have_names_and_end(tmp_path: Path) -> None:
    def row(*cells: str) -> str:
        return (
            "<table:table-row>"
            + "".join(f"<table:table-cell>{p(cell)}</table:table-cell>" for cell in cells)
            + "</table:table-row>"
        )

    filler = (
        '<table:table-row table:number-rows-repeated="1048000"><table:table-cell table:number-columns-repeated="16384"/>'
        "</table:table-row>"
    )
    body = f'<table:table table:name="Prices">{row("what", "how much")}{row("tea", "3.50 €")}{filler}</table:table>'
    body += f'<table:table table:name="Empty">{filler}</table:table>'
    read = text_of(open_document(tmp_path / "a.ods", body))
    assert read == "## Prices\n\n| what | how much |\n| --- | --- |\n| tea | 3.50 € |"


def test_a_password_is_named(tmp_path: Path) -> None:
    manifest = "<manifest:manifest xmlns:manifest='m'><manifest:encryption-data/></manifest:manifest>"
    path = open_document(tmp_path / "a.odt", p("x"), **{"META-INF__manifest": manifest})
    with pytest.raises(DataError, match="it is encrypted"):
        text_of(path)
