"""RTF as Word, WordPad and LibreOffice write it: code pages, Unicode, lists, tables, notes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmbuilder.documents.readers import read_document


def text_of(tmp_path: Path, body: str | bytes, head: str = r"\ansi\ansicpg1252\uc1") -> str:
    path = tmp_path / "a.rtf"
    content = body if isinstance(body, bytes) else body.encode("latin-1")
    path.write_bytes(b"{\\rtf1" + head.encode() + b" " + content + b"}")
    return read_document(path).text


def bytes_of(text: str, encoding: str) -> str:
    return "".join(f"\\'{byte:02x}" for byte in text.encode(encoding))


@pytest.mark.parametrize(
    ("charset", "encoding", "words"),
    [
        (204, "cp1251", "Привет, мир"),
        (238, "cp1250", "Žluťoučký kůň"),
        (161, "cp1253", "Καλημέρα κόσμε"),
        (128, "cp932", "灯台の番人"),
        (134, "gbk", "灯塔的看守人"),
        (177, "cp1255", "שלום עולם"),
        (222, "cp874", "สวัสดีชาวโลก"),
    ],
)
def test_letters_are_in_the_code_page_of_their_font(tmp_path: Path, charset: int, encoding: str, words: str) -> None:
    fonts = rf"{{\fonttbl{{\f0\fcharset0 Times;}}{{\f1\fnil\fcharset{charset} Other;}}}}"
    assert text_of(tmp_path, rf"{fonts}\f1 {bytes_of(words, encoding)}\f0  na\'efve\par") == f"{words} naïve"


def test_the_code_page_of_the_file(tmp_path: Path) -> None:
    words = "Привет"
    assert text_of(tmp_path, bytes_of(words, "cp1251"), r"\ansi\ansicpg1251") == words
    assert text_of(tmp_path, words.encode("cp1251"), r"\ansi\ansicpg1251") == words
    assert text_of(tmp_path, r"caf\'8e", r"\mac") == "café"


def test_unicode_leaves_out_as_many_bytes_as_it_says(tmp_path: Path) -> None:
    assert text_of(tmp_path, r"a\u8364\'80b") == "a€b"
    assert text_of(tmp_path, r"{\uc2 a\u8364 xyb}c\u8364?d") == "a€bc€d"
    assert text_of(tmp_path, r"{\uc0 a\u8364 b}") == "a€b"
    assert text_of(tmp_path, r"\u-10179?\u-8704?") == "😀"
    assert text_of(tmp_path, r"{\upr{old}{\*\ud new \u8364?}}") == "new €"


def test_signs_and_breaks(tmp_path: Path) -> None:
    body = r"Name:\tab John\line well\_known\emdash so\~on\par \ldblquote yes\rdblquote\par co\-operate R&D \{x\}"
    assert text_of(tmp_path, body) == "Name: John\nwell\u2011known—so\u00a0on\n\n“yes”\n\ncooperate R&D {x}"


def test_headings_lists_and_tables(tmp_path: Path) -> None:
    styles = r"{\stylesheet{\s0 Normal;}{\s1\b heading 1;}}"
    table = r"\trowd\cellx1\cellx2\intbl a\cell b\cell\row\trowd\intbl c\par d\cell e\cell\row\pard"
    points = r"{\listtext\'b7\tab}one\par{\listtext\'b7\tab}two\par{\listtext 3.\tab}three\par"
    found = text_of(tmp_path, rf"{styles}\pard\s1 Title\par\pard text\par {points}{table} end\par")
    assert found == "# Title\n\ntext\n\n- one\n- two\n3. three\n\n| a | b |\n| --- | --- |\n| c d | e |\n\nend"


def test_notes_fields_and_what_is_for_programs(tmp_path: Path) -> None:
    body = (
        r"{\info{\title A title}{\author Nobody}}{\*\generator X;}{\header running}"
        r"See{\footnote\pard it is {\i long}.\par} this {\field{\*\fldinst HYPERLINK x}{\fldrslt link}}"
        r"{\pict 0102}{\object{\*\objdata ff}{\result shown}}{\*\unknown gone}{\deleted gone}.\par"
    )
    assert text_of(tmp_path, body) == "See[^1] this linkshown.\n\n[^1]: it is long."


def test_binary_data_and_missing_ends(tmp_path: Path) -> None:
    assert text_of(tmp_path, b"{\\pict\\bin5 }}{{\\}after \\par last") == "after\n\nlast"
    assert text_of(tmp_path, r"{\b bold {\i both") == "bold both"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(min_codepoint=0x21, exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp", "Co"]),
                        min_size=1, max_size=12), min_size=1, max_size=5))  # fmt: skip
def test_every_character_comes_out(tmp_path: Path, words: list[str]) -> None:
    def written(word: str) -> str:
        units = word.encode("utf-16-le")
        numbers = [int.from_bytes(units[place : place + 2], "little", signed=True) for place in range(0, len(units), 2)]
        return "".join(f"\\u{number}?" for number in numbers)

    text = text_of(tmp_path, r"\par ".join(map(written, words)))
    assert "".join(text.split()) == "".join("".join(words).split())
