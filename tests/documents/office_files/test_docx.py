from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from llmbuilder.documents.readers import read_document
from llmbuilder.errors import DataError
from tests.documents.office_files.written import W, docx, paragraph, text_of


def run(inside: str) -> str:
    return f"<w:r>{inside}</w:r>"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("R&amp;D at AT&amp;T, p &lt; 0.05, List&lt;String&gt;", "R&D at AT&T, p < 0.05, List<String>"),
        ("https://example.org/?a=1&amp;b=2#c_d*e", "https://example.org/?a=1&b=2#c_d*e"),
        ("a * b _ c ` d \\ e [f](g) # h ~ i $5 and $6", "a * b _ c ` d \\ e [f](g) # h ~ i $5 and $6"),
        ("1. no list", "1. no list"),
    ],
)
def test_letters_that_markup_uses_stay(tmp_path: Path, written: str, read: str) -> None:
    assert text_of(docx(tmp_path / "a.docx", paragraph(written))) == read


@pytest.mark.parametrize(
    ("between", "read"),
    [
        ("<w:tab/>", "Name:\tJohn"),
        ("<w:br/>", "Name:\nJohn"),
        ("<w:cr/>", "Name:\nJohn"),
        ("<w:noBreakHyphen/>", "Name:\u2011John"),
        ("<w:softHyphen/>", "Name:John"),
        ('<w:ptab w:relativeTo="margin" w:alignment="right" w:leader="none"/>', "Name:\tJohn"),
        ('<w:sym w:font="Symbol" w:char="F061"/>', "Name:αJohn"),
        ('<w:sym w:font="Arial" w:char="00E9"/>', "Name:éJohn"),
        ('<w:sym w:font="Wingdings" w:char="F0FC"/>', "Name:✓John"),
        ('<w:sym w:font="Webdings" w:char="F04A"/>', "Name:John"),
    ],
)
def test_signs_between_words(tmp_path: Path, between: str, read: str) -> None:
    body = f"<w:p><w:r><w:t>Name:</w:t>{between}<w:t>John</w:t></w:r></w:p>"
    assert text_of(docx(tmp_path / "a.docx", body)) == read


def test_words_that_runs_cut_are_whole(tmp_path: Path) -> None:
    body = paragraph("Auto", "Gen", ": En", '<w:proofErr w:type="spellStart"/>', "abling", " models")
    assert text_of(docx(tmp_path / "a.docx", body)) == "AutoGen: Enabling models"


@pytest.mark.parametrize("ids", [(-1, 0, 1, 2), (0, 1, 2, 3), (0, 1, 17, 5)])
def test_footnotes_whatever_their_ids(tmp_path: Path, ids: tuple[int, ...]) -> None:
    separators = "".join(
        f'<w:footnote w:type="{kind}" w:id="{id}">{paragraph("---")}</w:footnote>'
        for kind, id in zip(("separator", "continuationSeparator"), ids, strict=False)
    )
    notes = "".join(
        f'<w:footnote w:id="{id}">{paragraph(run("<w:footnoteRef/>"), f" Note {number}.")}</w:footnote>'
        for number, id in enumerate(ids[2:], start=1)
    )
    marks = [run(f'<w:footnoteReference w:id="{id}"/>') for id in ids[2:]]
    body = paragraph("One", marks[0], " and two", marks[1], ".") + paragraph("The end.")
    read = text_of(docx(tmp_path / "a.docx", body, footnotes=f"<w:footnotes>{separators}{notes}</w:footnotes>"))
    assert read == "One[^1] and two[^2].\n\nThe end.\n\n[^1]:  Note 1.\n[^2]:  Note 2."


def test_endnotes_and_comments_come_last(tmp_path: Path) -> None:
    body = paragraph("Text", run('<w:endnoteReference w:id="2"/>'), run('<w:commentReference w:id="0"/>'))
    read = text_of(docx(
        tmp_path / "a.docx", body + paragraph("More."),
        endnotes=f'<w:endnotes><w:endnote w:id="2">{paragraph("An endnote.")}</w:endnote></w:endnotes>',
        comments=f'<w:comments><w:comment w:id="0" w:author="A">{paragraph("Is this so?")}</w:comment></w:comments>',
    ))  # fmt: skip
    assert read == "Text[^1]\n\nMore.\n\n[^1]: An endnote.\n\nIs this so?"


def test_revisions_are_read_as_they_stand(tmp_path: Path) -> None:
    body = paragraph(
        "It was ", "<w:del><w:r><w:delText>red</w:delText></w:r></w:del>", "<w:ins><w:r><w:t>blue</w:t></w:r></w:ins>",
        "<w:moveFrom><w:r><w:t>GONE</w:t></w:r></w:moveFrom>", "<w:moveTo><w:r><w:t>, here</w:t></w:r></w:moveTo>", ".",
    )  # fmt: skip
    assert text_of(docx(tmp_path / "a.docx", body)) == "It was blue, here."


def test_headings_by_style_by_base_and_by_outline(tmp_path: Path) -> None:
    styles = (
        '<w:styles><w:style w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style>'
        '<w:style w:styleId="Mine"><w:name w:val="Mine"/><w:basedOn w:val="Deep"/></w:style>'
        '<w:style w:styleId="Deep"><w:name w:val="Deep"/><w:pPr><w:outlineLvl w:val="2"/></w:pPr></w:style>'
        '<w:style w:styleId="Title"><w:name w:val="Title"/></w:style></w:styles>'
    )
    styled = [paragraph(name, properties=f'<w:pStyle w:val="{name}"/>') for name in ("Title", "berschrift1", "Mine")]
    body = "".join(styled) + paragraph("Own", properties='<w:outlineLvl w:val="1"/>') + paragraph("Body.")
    read = text_of(docx(tmp_path / "a.docx", body, styles=styles))
    assert read == "# Title\n\n# berschrift1\n\n### Mine\n\n## Own\n\nBody."


NUMBERING = (
    '<w:numbering><w:abstractNum w:abstractNumId="7">'
    '<w:lvl w:ilvl="0"><w:start w:val="1"/><w:numFmt w:val="decimal"/></w:lvl>'
    '<w:lvl w:ilvl="1"><w:start w:val="1"/><w:numFmt w:val="lowerRoman"/></w:lvl></w:abstractNum>'
    '<w:abstractNum w:abstractNumId="8"><w:lvl w:ilvl="0"><w:numFmt w:val="bullet"/></w:lvl></w:abstractNum>'
    '<w:num w:numId="1"><w:abstractNumId w:val="7"/></w:num><w:num w:numId="2"><w:abstractNumId w:val="8"/></w:num>'
    '<w:num w:numId="3"><w:abstractNumId w:val="7"/><w:lvlOverride w:ilvl="0"><w:startOverride w:val="5"/>'
    "</w:lvlOverride></w:num></w:numbering>"
)


def entry(text: str, number: int, level: int = 0) -> str:
    return paragraph(text, properties=f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="{number}"/></w:numPr>')


def test_lists_count_as_word_does(tmp_path: Path) -> None:
    body = "".join([
        entry("one", 1), entry("deep", 1, 1), entry("deeper on", 1, 1), entry("two", 1), paragraph("Between."),
        entry("three", 1), entry("deep again", 1, 1), entry("bullet", 2), entry("five", 3), entry("none", 0),
    ])  # fmt: skip
    read = text_of(docx(tmp_path / "a.docx", body, numbering=NUMBERING))
    assert read == (
        "1. one\n  i. deep\n  ii. deeper on\n2. two\n\nBetween.\n\n3. three\n  i. deep again\n- bullet\n5. five\n\nnone"
    )


def cell(inside: str, properties: str = "") -> str:
    return f"<w:tc>{f'<w:tcPr>{properties}</w:tcPr>' if properties else ''}{inside}</w:tc>"


def grid(*rows: list[str]) -> str:
    return "<w:tbl>" + "".join("<w:tr>" + "".join(row) + "</w:tr>" for row in rows) + "</w:tbl>"


def test_tables_with_bars_lines_and_spans(tmp_path: Path) -> None:
    body = grid(
        [cell(paragraph("a | b")), cell(paragraph("first") + paragraph("second")), cell(paragraph("c"))],
        [cell(paragraph("wide"), '<w:gridSpan w:val="2"/>'), cell(paragraph("d"))],
        [cell(paragraph("x")), cell(paragraph("")), cell(paragraph("y"))],
    )
    read = text_of(docx(tmp_path / "a.docx", paragraph("Before.") + body + paragraph("After.")))
    assert read == (
        "Before.\n\n| a \\| b | first second | c |\n| --- | --- | --- |\n| wide |  | d |\n| x |  | y |\n\nAfter."
    )


def test_tables_in_tables_lose_nothing(tmp_path: Path) -> None:
    inner = grid([cell(paragraph("in 1")), cell(paragraph("in 2"))])
    body = grid([cell(paragraph("left")), cell(paragraph("above") + inner + paragraph("below"))])
    read = text_of(docx(tmp_path / "a.docx", body))
    words = ["left", "above", "in 1", "in 2", "below"]
    assert [read.index(word) for word in words] == sorted(read.index(word) for word in words)


def box(text: str) -> str:
    return f"<w:txbxContent>{paragraph(text)}</w:txbxContent>"


def test_text_boxes_once_behind_their_paragraph(tmp_path: Path) -> None:
    both = (
        f'<w:r><mc:AlternateContent><mc:Choice Requires="wps"><w:drawing><wps:txbx>{box("In the box.")}</wps:txbx>'
        f"</w:drawing></mc:Choice><mc:Fallback><w:pict><v:shape><v:textbox>{box('In the box.')}</v:textbox></v:shape>"
        "</w:pict></mc:Fallback></mc:AlternateContent></w:r>"
    )
    old = f"<w:r><w:pict><v:shape><v:textbox>{box('Old box.')}</v:textbox></v:shape></w:pict></w:r>"
    body = paragraph("Beside ", both, "it.") + paragraph("Next.", old)
    assert text_of(docx(tmp_path / "a.docx", body)) == "Beside it.\n\nIn the box.\n\nNext.\n\nOld box."


def test_content_controls_fields_and_links_are_looked_into(tmp_path: Path) -> None:
    body = (
        f"<w:sdt><w:sdtPr><w:alias w:val='x'/></w:sdtPr><w:sdtContent>{paragraph('Controlled.')}</w:sdtContent></w:sdt>"
        + paragraph("See ", "<w:hyperlink><w:r><w:t>this page</w:t></w:r></w:hyperlink>",
                    '<w:r><w:fldChar w:fldCharType="begin"/><w:instrText> PAGEREF x \\h </w:instrText></w:r>',
                    "<w:fldSimple w:instr='DATE'><w:r><w:t>, today</w:t></w:r></w:fldSimple>",
                    "<w:smartTag><w:r><w:t>, Berlin</w:t></w:r></w:smartTag>", ".")
    )  # fmt: skip
    assert text_of(docx(tmp_path / "a.docx", body)) == "Controlled.\n\nSee this page, today, Berlin."


def formula(inside: str) -> str:
    return f"<m:oMath>{inside}</m:oMath>"


def m(text: str) -> str:
    return f"<m:r><m:t>{text}</m:t></m:r>"


@pytest.mark.parametrize(
    ("inside", "latex"),
    [
        (f"<m:f><m:num>{m('a')}</m:num><m:den>{m('b')}</m:den></m:f>", r"\frac{a}{b}"),
        (f"<m:sSup><m:e>{m('x')}</m:e><m:sup>{m('2')}</m:sup></m:sSup>", "x^{2}"),
        (f"<m:sSubSup><m:e>{m('x')}</m:e><m:sub>{m('i')}</m:sub><m:sup>{m('2')}</m:sup></m:sSubSup>", "x_{i}^{2}"),
        (f"<m:rad><m:deg>{m('3')}</m:deg><m:e>{m('x')}</m:e></m:rad>", r"\sqrt[3]{x}"),
        (f"<m:nary><m:naryPr><m:chr m:val='∑'/></m:naryPr><m:sub>{m('i=1')}</m:sub><m:sup>{m('n')}</m:sup>"
         f"<m:e>{m('i')}</m:e></m:nary>", r"\sum_{i=1}^{n} i"),
        (f"<m:d><m:e>{m('a')}</m:e><m:e>{m('b')}</m:e></m:d>", r"\left( a | b\right)"),
        (f"<m:func><m:fName>{m('sin')}</m:fName><m:e>{m('x')}</m:e></m:func>", r"\sin x"),
        (f"<m:acc><m:accPr><m:chr m:val='\u20d7'/></m:accPr><m:e>{m('v')}</m:e></m:acc>", r"\vec{v}"),
        (f"<m:m><m:mr><m:e>{m('1')}</m:e><m:e>{m('0')}</m:e></m:mr><m:mr><m:e>{m('0')}</m:e><m:e>{m('1')}</m:e></m:mr>"
         "</m:m>", r"\begin{matrix} 1 & 0 \\ 0 & 1 \end{matrix}"),
        (f"<m:limLow><m:e>{m('lim')}</m:e><m:lim>{m('n→∞')}</m:lim></m:limLow>", r"\lim_{n→∞}"),
        (m("50% &amp; {x}_1"), r"50\% \& \{x\}\_1"),
        ("<m:r><m:rPr><m:nor/></m:rPr><m:t>if </m:t></m:r>", r"\text{if }"),
    ],
)  # fmt: skip
def test_formulas_become_latex(tmp_path: Path, inside: str, latex: str) -> None:
    body = paragraph("We have ", formula(inside), " here.")
    assert text_of(docx(tmp_path / "a.docx", body)) == f"We have ${latex}$ here."


def test_a_formula_of_its_own_line(tmp_path: Path) -> None:
    body = paragraph(f"<m:oMathPara>{formula(m('a=b'))}</m:oMathPara>")
    assert text_of(docx(tmp_path / "a.docx", body)) == "$$a=b$$"


def test_charts_and_diagrams_have_words(tmp_path: Path) -> None:
    def points(*values: str) -> str:
        return "".join(f"<c:pt><c:v>{value}</c:v></c:pt>" for value in values)

    chart = (
        "<c:chartSpace><c:chart><c:title><c:tx><c:rich><a:p><a:r><a:t>Ducks</a:t></a:r></a:p></c:rich></c:tx></c:title>"
        f"<c:ser><c:tx>{points('Wild')}</c:tx><c:cat>{points('2024', '2025')}</c:cat><c:val>{points('3', '4')}</c:val>"
        "</c:ser></c:chart></c:chartSpace>"
    )
    diagram = "<dgm:dataModel><dgm:pt><dgm:t><a:p><a:r><a:t>Step one</a:t></a:r></a:p></dgm:t></dgm:pt></dgm:dataModel>"
    body = paragraph("See", '<w:r><w:drawing><c:chart r:id="c1"/></w:drawing></w:r>') + paragraph(
        '<w:r><w:drawing><dgm:relIds r:dm="d1"/></w:drawing></w:r>'
    )
    path = docx(
        tmp_path / "a.docx", body, {"c1": "chart chart.xml", "d1": "diagramData data.xml"}, chart=chart, data=diagram
    )
    assert text_of(path) == "See\n\nDucks\n\n|  | Wild |\n| --- | --- |\n| 2024 | 3 |\n| 2025 | 4 |\n\n- Step one"


def test_headers_and_footers_are_notes(tmp_path: Path) -> None:
    path = docx(tmp_path / "a.docx", paragraph("Body."), header=f"<w:hdr>{paragraph('ACME Ltd')}</w:hdr>",
                footer=f"<w:ftr>{paragraph('Page of many')}</w:ftr>")  # fmt: skip
    document = read_document(path)
    assert document.text == "Body."
    assert document.notes == {"header": "ACME Ltd", "footer": "Page of many"}


def test_the_other_set_of_namespaces(tmp_path: Path) -> None:
    path = docx(tmp_path / "a.docx", paragraph("Strictly."))
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name).decode() for name in file.namelist()}
    strict = "http://purl.oclc.org/ooxml/"
    changed = {
        name: text.replace(W, f"{strict}wordprocessingml/main").replace(
            "http://schemas.openxmlformats.org/officeDocument/2006/", f"{strict}officeDocument/"
        )
        for name, text in parts.items()
    }
    with zipfile.ZipFile(path, "w") as file:
        for name, text in changed.items():
            file.writestr(name, text)
    assert text_of(path) == "Strictly."


def test_ruby_readings_stand_in_brackets(tmp_path: Path) -> None:
    ruby = "<w:r><w:ruby><w:rt><w:r><w:t>とうきょう</w:t></w:r></w:rt><w:rubyBase><w:r><w:t>東京</w:t></w:r></w:rubyBase></w:ruby></w:r>"
    assert text_of(docx(tmp_path / "a.docx", paragraph(ruby))) == "東京(とうきょう)"


def test_what_is_damaged_is_named(tmp_path: Path) -> None:
    path = docx(tmp_path / "a.docx", paragraph("Text"))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"a\.docx: cannot be read as docx: it is damaged"):
        text_of(path)


def test_what_is_chosen_in_a_form(tmp_path: Path) -> None:
    def field(data: str) -> str:
        begin = f'<w:r><w:fldChar w:fldCharType="begin"><w:ffData>{data}</w:ffData></w:fldChar></w:r>'
        return f'{begin}<w:r><w:instrText>FORM</w:instrText></w:r><w:r><w:fldChar w:fldCharType="end"/></w:r>'

    box = '<w:checkBox><w:default w:val="0"/>{}</w:checkBox>'
    entries = '<w:listEntry w:val="Rome"/><w:listEntry w:val="Paris"/>'
    path = docx(tmp_path / "a.docx", paragraph(
        field(box.format("<w:checked/>")), "yes ", field(box.format("")), "no ",
        field(f'<w:ddList><w:result w:val="1"/>{entries}</w:ddList>'), " or ", field(f"<w:ddList>{entries}</w:ddList>"),
    ))  # fmt: skip
    assert text_of(path) == "☒yes ☐no Paris or Rome"


def test_documents_put_into_a_document(tmp_path: Path) -> None:
    inner = docx(tmp_path / "inner.docx", paragraph("From a document."))
    chunks = {"rId1": "aFChunk a.html", "rId2": "aFChunk b.docx", "rId3": "aFChunk c.mht", "rId4": "aFChunk d.txt"}
    body = paragraph("Before.") + "".join(f'<w:altChunk r:id="{id}"/>' for id in chunks) + paragraph("After.")
    path = docx(tmp_path / "a.docx", body, chunks)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("word/a.html", "<p>From a <b>page</b>.</p>")
        file.writestr("word/b.docx", inner.read_bytes())
        file.writestr("word/d.txt", "From a text.")
    document = read_document(path)
    assert document.text.split("\n\n") == ["Before.", "From a page.", "From a document.", "From a text.", "After."]
    assert document.unread == {"word/c.mht": "the document names this part and does not have it"}
