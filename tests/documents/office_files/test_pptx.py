from __future__ import annotations

from pathlib import Path

from tests.documents.office_files.written import NAMESPACES, pptx, relations, shape, text_of


def runs(*texts: str) -> str:
    return "".join(f"<a:r><a:t>{text}</a:t></a:r>" for text in texts)


def test_words_that_runs_cut_are_whole(tmp_path: Path) -> None:
    slide = shape(runs("Auto", "Gen", ": En", "abling"), kind="title") + shape(runs("R&amp;D ", "at", " AT&amp;T"))
    assert text_of(pptx(tmp_path / "a.pptx", slide)) == "# AutoGen: Enabling\n\nR&D at AT&T"


def test_tabs_and_breaks(tmp_path: Path) -> None:
    slide = shape("<a:r><a:t>Name:\tJohn</a:t></a:r><a:br/><a:r><a:t>second line</a:t></a:r>")
    assert text_of(pptx(tmp_path / "a.pptx", slide)) == "Name:\tJohn\nsecond line"


def test_notes_follow_their_slide(tmp_path: Path) -> None:
    notes = f"<p:notes {NAMESPACES}><p:cSld><p:spTree>{shape('What to say.', kind='body')}{shape('7', kind='sldNum')}"
    path = pptx(
        tmp_path / "a.pptx", shape("First"), shape("Second"),
        more={"ppt/notes1.xml": f"{notes}</p:spTree></p:cSld></p:notes>"},
        related={1: relations(rId1="notesSlide ../notes1.xml")},
    )  # fmt: skip
    assert text_of(path) == "First\n\nWhat to say.\n\nSecond"


def test_slides_are_in_the_order_of_the_deck(tmp_path: Path) -> None:
    slides = [shape(f"Slide {number}") for number in range(1, 13)]
    assert text_of(pptx(tmp_path / "a.pptx", *slides)).split("\n\n") == [f"Slide {n}" for n in range(1, 13)]


def test_what_every_slide_repeats_is_left_out(tmp_path: Path) -> None:
    slide = shape("Text") + "".join(shape("Page 3 of ACME", kind=kind) for kind in ("sldNum", "dt", "ftr"))
    assert text_of(pptx(tmp_path / "a.pptx", slide)) == "Text"


def test_lists_by_level_and_mark(tmp_path: Path) -> None:
    deep = '<a:pPr lvl="1"/><a:r><a:t>deep</a:t></a:r>'
    plain = "<a:pPr><a:buNone/></a:pPr><a:r><a:t>plain</a:t></a:r>"
    slide = shape("one", deep, "two", plain, kind="body")
    assert text_of(pptx(tmp_path / "a.pptx", slide)) == "- one\n  - deep\n- two\n\nplain"


def test_tables_charts_groups_and_pictures_that_are_not_there(tmp_path: Path) -> None:
    def cell(text: str) -> str:
        return f"<a:tc><a:txBody><a:p>{runs(text)}</a:p></a:txBody></a:tc>"

    table = f"<a:tbl><a:tr>{cell('a | b')}{cell('c')}</a:tr><a:tr>{cell('1')}{cell('2')}</a:tr></a:tbl>"
    frame = "<p:graphicFrame><a:graphic><a:graphicData>{}</a:graphicData></a:graphic></p:graphicFrame>"
    chart = (
        f"<c:chartSpace {NAMESPACES}><c:chart><c:ser><c:tx><c:v>Sales</c:v></c:tx><c:cat><c:pt><c:v>May</c:v></c:pt></c:cat>"
        "<c:val><c:pt><c:v>12</c:v></c:pt></c:val></c:ser></c:chart></c:chartSpace>"
    )
    slide = (
        '<p:pic><p:blipFill><a:blip r:embed="rId99"/></p:blipFill></p:pic>'
        + f"<p:grpSp>{shape('In a group')}<p:grpSp>{shape('deeper')}</p:grpSp></p:grpSp>"
        + frame.format(table)
        + frame.format('<c:chart r:id="rId5"/>')
        + frame.format('<c:chart r:id="rId6"/>')  # its part is missing
    )
    path = pptx(tmp_path / "a.pptx", slide, more={"ppt/charts/c.xml": chart},
                related={1: relations(rId5="chart ../charts/c.xml", rId6="chart ../charts/gone.xml")})  # fmt: skip
    assert text_of(path) == (
        "In a group\n\ndeeper\n\n| a \\| b | c |\n| --- | --- |\n| 1 | 2 |\n\n|  | Sales |\n| --- | --- |\n| May | 12 |"
    )


def test_comments_are_read(tmp_path: Path) -> None:
    comments = f"<p:cmLst {NAMESPACES}><p:cm><p:text>Shorter, please.</p:text></p:cm></p:cmLst>"
    path = pptx(tmp_path / "a.pptx", shape("Slide"), more={"ppt/comments/c1.xml": comments},
                related={1: relations(rId1="comments ../comments/c1.xml")})  # fmt: skip
    assert text_of(path) == "Slide\n\nShorter, please."
