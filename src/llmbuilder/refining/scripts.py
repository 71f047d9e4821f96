"""Scripts that put no blanks between words: which characters are theirs, and about how many of them make a word."""

from __future__ import annotations

import re

# First and last character, and how many make a word on average: two Chinese characters or kana, four letters and vowel
# signs in Thai, Lao, Tibetan, Burmese and Khmer.
WITHOUT_BLANKS = (
    (0x0E01, 0x0E3A, 4), (0x0E40, 0x0E4E, 4), (0x0E81, 0x0ECD, 4), (0x0EDC, 0x0EDF, 4), (0x0F40, 0x0FBC, 4),
    (0x1000, 0x103F, 4), (0x1050, 0x109F, 4), (0x1780, 0x17D3, 4),
    (0x3005, 0x3007, 2), (0x3041, 0x30FA, 2), (0x30FC, 0x30FF, 2), (0x31F0, 0x31FF, 2), (0x3400, 0x4DBF, 2),
    (0x4E00, 0x9FFF, 2), (0xF900, 0xFAFF, 2), (0x20000, 0x3FFFF, 2),
)  # fmt: skip


def _class_of(number: int) -> str:
    return "".join(f"{chr(first)}-{chr(last)}" for first, last, size in WITHOUT_BLANKS if size == number)


_OF_TWO, _OF_FOUR = _class_of(2), _class_of(4)
_OF_TWO_RUN, _OF_FOUR_RUN = re.compile(f"[{_OF_TWO}]+"), re.compile(f"[{_OF_FOUR}]+")
_ANY = re.compile(f"[{_OF_TWO}{_OF_FOUR}]")
_UNIT = re.compile(rf"[{_OF_TWO}{_OF_FOUR}]|[^\s\u0f0b{_OF_TWO}{_OF_FOUR}]+")
_BETWEEN = re.compile(rf"[\s{_OF_TWO}{_OF_FOUR}]")
_OF_OTHERS = 6  # characters, a blank among them
_SAMPLE = 20_000  # characters


def has_characters_without_blanks(text: str) -> bool:
    """Whether any character of a text is of a script without blanks."""
    return not text.isascii() and _ANY.search(text) is not None


def characters_a_word(text: str) -> int:
    """Return how many characters make a word: 2 or 4 where most words of a text have no blanks around them, else 1."""
    if not has_characters_without_blanks(text):
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


def end_of_piece(text: str, least: int) -> int:
    """Return the first place from `least` on where a text can be cut without cutting a word of it."""
    found = _BETWEEN.search(text, least)
    return len(text) if found is None else found.start()
