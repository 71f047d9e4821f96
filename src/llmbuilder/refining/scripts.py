"""Scripts that put no blanks between words: which characters are theirs, and about how many of them make a word."""

from __future__ import annotations

import re

# Chinese characters and kana: a word has two on average. Thai, Lao, Tibetan, Burmese, Khmer: four, with vowel signs.
_OF_TWO = "\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_OF_FOUR = "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ecd\u0edc-\u0edf\u0f40-\u0fbc\u1000-\u103f\u1050-\u109f\u1780-\u17d3"
_OF_TWO_RUN, _OF_FOUR_RUN = re.compile(f"[{_OF_TWO}]+"), re.compile(f"[{_OF_FOUR}]+")
_ANY = re.compile(f"[{_OF_TWO}{_OF_FOUR}]")
_UNIT = re.compile(rf"[{_OF_TWO}{_OF_FOUR}]|[^\s\u0f0b{_OF_TWO}{_OF_FOUR}]+")
_OF_OTHERS = 6  # characters, a blank among them
_SAMPLE = 20_000  # characters


def characters_a_word(text: str) -> int:
    """Return how many characters make a word: 2 or 4 where most words of a text have no blanks around them, else 1."""
    if text.isascii():
        return 1
    if not _ANY.search(text):
        return 1
    middle = len(text) // 2
    sample = text[max(0, middle - _SAMPLE // 2) : middle + _SAMPLE // 2]
    of_two, of_four = (sum(map(len, run.findall(sample))) for run in (_OF_TWO_RUN, _OF_FOUR_RUN))
    others = len(sample) - of_two - of_four
    if of_two / 2 + of_four / 4 < others / _OF_OTHERS:
        return 1
    return 2 if of_two > of_four else 4


def units(text: str) -> list[str]:
    """Return the single characters of scripts without blanks, and between them the words of others, in order."""
    return _UNIT.findall(text)
