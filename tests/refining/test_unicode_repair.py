"""Only lines that ftfy would change are given to it: the result is ftfy's own on any text."""

from __future__ import annotations

import re
import unicodedata

import ftfy
import pytest
from ftfy.badness import MOJIBAKE_CATEGORIES
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbuilder.refining import unicode_repair
from llmbuilder.refining.unicode_repair import repair

SENTENCES = [
    "L’été, « où » l'œuvre naît.", "Übung macht den „Meister“ – für 5 €.", "Съешь ещё этих «мягких» булок, №5.",
    "Zażółć gęślą jaźń; ČÁŠ Říp.", "Ταχίστη αλώπηξ «βαφής» ψημένη γη.", "NÃO HÁ ÂNGULO À VISTA", "Ơi, Đường ươn ở đâu",
    "日本語の「文」です。", "दुनिया के सारे लोग", "ab ①②③ ½ × 20 °C ± 3", "ԱՅՍ տեքստը", "السلام عليكم",
]  # fmt: skip
ENCODINGS = ["latin-1", "cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1257", "iso8859-2", "mac-roman", "cp437"]
BAD = "".join(
    chr(code)
    for characters in MOJIBAKE_CATEGORIES.values()
    for code in range(0x80, 0x10000)
    if re.match(f"[{characters}]", chr(code))
)
ODD = (
    "aZ .,?!\n\t\r\x00\x1b[\x7f\x85\u0301\u0308\u0323eoВГРСвЂўβÃÂœŒŠž\u2028\u200b\ufeffﬁǅ\ud83d\ude00\U0001f600क\u094d"
)


def by_ftfy(text: str) -> str:
    fixed = ftfy.fix_text(text, unescape_html=False, uncurl_quotes=False, fix_character_width=False)
    return unicodedata.normalize("NFC", fixed)


@given(st.text(st.sampled_from(BAD + ODD * 4), max_size=12))
@settings(max_examples=3000, deadline=None)
def test_signs_of_wrong_decoding_side_by_side(text: str) -> None:
    assert repair(text) == by_ftfy(text)


@given(
    st.lists(st.sampled_from(SENTENCES), max_size=4), st.sampled_from(ENCODINGS), st.integers(0, 3), st.text(max_size=9)
)
@settings(max_examples=1500, deadline=None)
def test_sentences_decoded_wrongly_among_others(parts: list[str], encoding: str, wrong: int, odd: str) -> None:
    lines = [*parts, odd]
    if wrong < len(parts):
        lines[wrong] = parts[wrong].encode().decode(encoding, "replace")
    text = "\n".join(lines)
    assert repair(text) == by_ftfy(text)


@given(st.text(max_size=40))
@settings(max_examples=500, deadline=None)
def test_any_text(text: str) -> None:
    assert repair(text) == by_ftfy(text)


def test_lines_without_signs_are_not_given_to_ftfy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unicode_repair, "_by_ftfy", lambda line: f"<{line}>")
    text = "\n".join(SENTENCES)
    assert repair(text) == text
    assert repair("plain\ncafÃ©\nplain\n") == "plain\n<cafÃ©\n>plain\n"
    assert repair("e\u0301\nplain") == "<é\n>plain"


@pytest.mark.parametrize("text", ["x!\nÃ x", "Â x", "é" * 999_998 + "!!Ã x", "e" * 999_999 + "\u0301" + "e" * 99])
def test_what_counts_at_the_beginning_of_a_line_or_piece(text: str) -> None:
    assert repair(text) == by_ftfy(text)


@given(st.lists(st.sampled_from([*SENTENCES, "cafÃ©", "e\u0301", "\n", "Ã ", "x" * 30]), max_size=30).map(" ".join))
@settings(max_examples=300, deadline=None)
def test_long_lines_in_pieces(text: str) -> None:
    def by_ftfy_in_pieces(line: str) -> str:
        return ftfy.fix_text(
            line, unescape_html=False, uncurl_quotes=False, fix_character_width=False, max_decode_length=50
        )

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(unicode_repair, "_PIECE", 50)
        patched.setattr(unicode_repair, "_by_ftfy", by_ftfy_in_pieces)
        assert repair(text) == unicodedata.normalize("NFC", by_ftfy_in_pieces(text))


def test_a_line_longer_than_ftfy_takes_at_once() -> None:
    text = "é " * 600_000 + "cafÃ© " * 3
    assert repair(text) == by_ftfy(text)
