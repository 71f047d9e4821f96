"""Random documents with every character and odd structures come out whole, in order, in every format."""

from __future__ import annotations

import html
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmbuilder.documents.html_blocks import page_text
from llmbuilder.documents.readers import read_document
from tests.documents.office_files.written import docx, open_document, paragraph, pptx, shape

# What XML can hold and is neither white space nor a mark of our own Markdown.
CHARACTERS = st.characters(
    min_codepoint=0x21,
    exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp", "Cn", "Co"],
    exclude_characters="|\\`\ufffe\uffff",
)
WORDS = st.lists(st.text(CHARACTERS, min_size=1, max_size=8), min_size=1, max_size=6)
PARAGRAPHS = st.lists(WORDS, min_size=1, max_size=6)
_SHARED = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def runs_of(words: list[str]) -> list[str]:
    """The same text cut into runs at other places than between words."""
    text = " ".join(words)
    third = max(1, len(text) // 3)
    return [escape(part) for part in (text[:third], text[third : 2 * third], text[2 * third :]) if part]


def squeezed(text: str) -> str:
    return "".join(text.split())


@_SHARED
@given(PARAGRAPHS)
def test_word(tmp_path: Path, paragraphs: list[list[str]]) -> None:
    body = "".join(
        paragraph(*[f'<w:r><w:t xml:space="preserve">{run}</w:t></w:r>' for run in runs_of(words)])
        for words in paragraphs
    )
    table = f"<w:tbl><w:tr><w:tc>{body}</w:tc></w:tr></w:tbl>"
    control = f"<w:sdt><w:sdtContent>{body}</w:sdtContent></w:sdt>"
    found = read_document(docx(tmp_path / "a.docx", body + control + table)).text
    expected = "".join(squeezed(" ".join(words)) for words in paragraphs)
    assert squeezed(found) == 3 * expected


@_SHARED
@given(PARAGRAPHS)
def test_powerpoint(tmp_path: Path, paragraphs: list[list[str]]) -> None:
    shapes = [shape("".join(f"<a:r><a:t>{run}</a:t></a:r>" for run in runs_of(words))) for words in paragraphs]
    found = read_document(pptx(tmp_path / "a.pptx", "".join(shapes), f"<p:grpSp>{''.join(shapes)}</p:grpSp>")).text
    assert squeezed(found) == 2 * "".join(squeezed(" ".join(words)) for words in paragraphs)


@_SHARED
@given(PARAGRAPHS)
def test_open_document(tmp_path: Path, paragraphs: list[list[str]]) -> None:
    spans = ["".join(f"<text:span>{run}</text:span>" for run in runs_of(words)) for words in paragraphs]
    body = "".join(f"<text:p>{one}</text:p>" for one in spans)
    section = f"<text:section>{body}</text:section>"
    frame = f"<text:p><draw:frame><draw:text-box>{body}</draw:text-box></draw:frame></text:p>"
    found = read_document(open_document(tmp_path / "a.odt", body + section + frame)).text
    assert squeezed(found) == 3 * "".join(squeezed(" ".join(words)) for words in paragraphs)


@settings(max_examples=100)
@given(PARAGRAPHS)
def test_html(paragraphs: list[list[str]]) -> None:
    body = "".join(f"<p>{html.escape(' '.join(words))}</p>" for words in paragraphs)
    page = f"<html><body>{body}<div><span>{body}</span></div><table><tr><td>{body}</table></body></html>"
    assert squeezed(page_text(page)) == 3 * "".join(squeezed(" ".join(words)) for words in paragraphs)


@pytest.mark.parametrize("text", ["a&b<c>d\"e'f", "±×÷≠≈ €£¥", "😀👩‍👩‍👧", "עברית العربية", "ﬁ ﬂ", "é ä"])
def test_words_that_readers_have_lost(tmp_path: Path, text: str) -> None:
    assert read_document(docx(tmp_path / "a.docx", paragraph(escape(text)))).text == text
    assert read_document(open_document(tmp_path / "a.odt", f"<text:p>{escape(text)}</text:p>")).text == text
    assert read_document(pptx(tmp_path / "a.pptx", shape(escape(text)))).text == text
    assert page_text(f"<p>{html.escape(text)}</p>") == text
