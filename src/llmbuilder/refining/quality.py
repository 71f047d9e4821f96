"""Numbers that tell prose from noise, after the published heuristics for web text.

Gopher: Rae et al. 2021, "Scaling Language Models" (arXiv 2112.11446), table A1. C4: Raffel et al. 2020 (arXiv
1910.10683), section 2.2. FineWeb: Penedo et al. 2024 (arXiv 2406.17557), section 3.6. Code: Chen et al. 2021
(arXiv 2107.03374), section 3.1. `filtering` compares the numbers with thresholds.

Words and lines are those of the text's prose, without marks and code (`markup`). In scripts without blanks the unit is
the character, and as many of them as make a word on average count as one (`scripts`).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import cached_property

import numpy as np

from llmbuilder.refining.language_rules import stop_words_of
from llmbuilder.refining.markup import prose_of
from llmbuilder.refining.scripts import characters_a_word, units

_BULLETS = ("•", "‣", "▪", "●", "◦", "⁃", "∙", "*", "-", "–")
_ELLIPSES = ("...", "…")
# Full stops of all scripts that have one, and what may close a quotation or begin a list.
_STOPS = "。！？।॥؟۔։።။។៕།༎"
_LINE_ENDS = (".", "!", "?", '"', "'", "”", "’", "…", "」", "』", "»", ":", "：", *_STOPS)
_SENTENCE_END = re.compile(rf"[.!?][\"'”’)\]»]*(?=\s|\Z)|[{_STOPS}]+")
_ETHIOPIC_SPACE = "\u1361"
_SHORT_LINE = 30  # characters (FineWeb)
_LOOKED_AT = 2_000_000  # characters; of a longer text three pieces are judged
_PIECES = 3


class TextQuality:
    """Quality signals of one text, each computed when first asked for; shares lie between 0 and 1.

    `language` is its ISO 639 code, which says what its stop words are. Of a text of over two million characters three
    pieces are looked at, from its beginning, middle and end, and counts are estimated from theirs.
    """

    def __init__(self, text: str, language: str | None = None) -> None:
        self.characters = len(text)
        self.language = language
        if len(text) <= _LOOKED_AT:
            self.text, self._scale = text, 1.0
        else:
            size = _LOOKED_AT // _PIECES
            begins = (number * (len(text) - size) // (_PIECES - 1) for number in range(_PIECES))
            self.text = "\n".join(text[begin : begin + size] for begin in begins)
            self._scale = len(text) / len(self.text)

    @cached_property
    def _prose_and_fenced(self) -> tuple[str, float]:
        return prose_of(self.text)

    @property
    def prose(self) -> str:
        """The text without marks and without code between fences."""
        return self._prose_and_fenced[0]

    @property
    def fenced_share(self) -> float:
        """Characters between fences, which are code."""
        return self._prose_and_fenced[1]

    @cached_property
    def characters_a_word(self) -> int:
        """How many characters make a word; more than one in scripts without blanks."""
        return characters_a_word(self.prose)

    @cached_property
    def _words(self) -> list[str]:
        if self.characters_a_word > 1:
            return units(self.prose)
        return self.prose.replace(_ETHIOPIC_SPACE, " ").split() if _ETHIOPIC_SPACE in self.prose else self.prose.split()

    @cached_property
    def _lines(self) -> list[str]:
        return [stripped for line in self.prose.split("\n") if (stripped := line.strip())]

    @cached_property
    def words(self) -> int:
        return round(len(self._words) / self.characters_a_word * self._scale)

    @cached_property
    def _word_lengths(self) -> np.ndarray:
        return np.fromiter(map(len, self._words), dtype=np.int64, count=len(self._words))

    @cached_property
    def mean_word_length(self) -> float:
        return float(self._word_lengths.mean()) * self.characters_a_word if self._words else 0.0

    @cached_property
    def symbol_share(self) -> float:
        """Hash signs or ellipses, whichever are more, for each word (Gopher)."""
        return max(self.prose.count("#"), sum(map(self.prose.count, _ELLIPSES))) * self._scale / max(1, self.words)

    @cached_property
    def alphabetic_word_share(self) -> float:
        """Words with at least one letter (Gopher)."""
        # Nearly all begin or end with one; asking for that first is five times as fast.
        found = sum([word[0].isalpha() or word[-1].isalpha() or any(map(_is_letter, word)) for word in self._words])
        return found / max(1, len(self._words))

    @cached_property
    def stop_words(self) -> int:
        """How many stop words of the language occur: of Gopher's eight in English, of FineWeb-2's in others."""
        known = stop_words_of(self.language)
        return 0 if known is None else known.count(self.prose, self._words)

    @cached_property
    def alphanumeric_share(self) -> float:
        """Characters that are letters or digits (code)."""
        return sum(map(str.isalnum, self.text)) / max(1, len(self.text))

    @cached_property
    def bullet_line_share(self) -> float:
        lines = [stripped for line in self.text.split("\n") if (stripped := line.strip())]
        return sum(line.startswith(_BULLETS) for line in lines) / max(1, len(lines))

    @cached_property
    def ellipsis_line_share(self) -> float:
        return sum(line.endswith(_ELLIPSES) for line in self._lines) / max(1, len(self._lines))

    @cached_property
    def punctuated_line_share(self) -> float:
        """Lines that end in punctuation (FineWeb)."""
        return sum([line.endswith(_LINE_ENDS) for line in self._lines]) / max(1, len(self._lines))

    @cached_property
    def short_line_share(self) -> float:
        """Lines of at most 30 characters (FineWeb), fewer in scripts without blanks."""
        most = _SHORT_LINE // self.characters_a_word
        return sum([len(line) <= most for line in self._lines]) / max(1, len(self._lines))

    @cached_property
    def mean_line_length(self) -> float:
        return len(self.text) / (self.text.count("\n") + 1)

    @cached_property
    def longest_line(self) -> int:
        return max(map(len, self.text.split("\n")))

    @cached_property
    def sentences(self) -> int:
        """Sentence ends, counted as terminal punctuation at the end of a word (C4)."""
        return round(len(_SENTENCE_END.findall(self.prose)) * self._scale)

    @cached_property
    def curly_brackets(self) -> int:
        return self.prose.count("{")

    @cached_property
    def lorem_ipsum(self) -> int:
        return self.prose.lower().count("lorem ipsum")

    @cached_property
    def duplicate_line_share(self) -> float:
        """Lines that repeat an earlier one (Gopher)."""
        return _repeated(self._lines)[0]

    @cached_property
    def duplicate_line_character_share(self) -> float:
        return _repeated(self._lines)[1]

    @cached_property
    def _paragraphs(self) -> list[str]:
        return [stripped for paragraph in self.prose.split("\n\n") if (stripped := paragraph.strip())]

    @cached_property
    def duplicate_paragraph_share(self) -> float:
        return _repeated(self._paragraphs)[0]

    @cached_property
    def duplicate_paragraph_character_share(self) -> float:
        return _repeated(self._paragraphs)[1]

    @cached_property
    def _ngrams(self) -> dict[int, tuple[np.ndarray, np.ndarray] | None]:
        """By length: the number of the n-gram at each place, and how often each occurs; None if none repeats."""
        codes: dict[str, int] = {}
        numbers = np.fromiter((codes.setdefault(word, len(codes)) for word in self._words), np.int64, len(self._words))
        return {1: (numbers, np.bincount(numbers)) if len(numbers) else None}

    def _grams(self, length: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the n-grams of a length, numbered from pairs of shorter ones: equal numbers are equal words."""
        if length not in self._ngrams:
            half = self._grams(-(-length // 2))
            self._ngrams[length] = None if half is None else _paired(*half, length // 2, len(self._words) - length + 1)
        return self._ngrams[length]

    def top_ngram_share(self, length: int) -> float:
        """Share of the words' characters in the most frequent n-gram of `length` words (Gopher)."""
        length *= self.characters_a_word
        grams = self._grams(length)
        if grams is None:
            return 0.0
        numbers, counts = grams
        return self._covered(np.flatnonzero(numbers == counts.argmax()), length)

    def duplicate_ngram_share(self, length: int) -> float:
        """Share of the words' characters in n-grams of `length` words that occur twice or more, counted once each."""
        length *= self.characters_a_word
        grams = self._grams(length)
        if grams is None:
            return 0.0
        numbers, counts = grams
        return self._covered(np.flatnonzero(counts[numbers] > 1), length)

    def _covered(self, starts: np.ndarray, length: int) -> float:
        edges = np.zeros(len(self._words) + 1, np.int64)
        edges[starts] += 1
        edges[starts + length] -= 1
        inside = np.cumsum(edges[:-1]) > 0
        return float(self._word_lengths[inside].sum() / max(1, self._word_lengths.sum()))


def _is_letter(character: str) -> bool:
    return character.isalpha() or unicodedata.category(character)[0] == "M"


def _paired(
    numbers: np.ndarray, counts: np.ndarray, distance: int, places: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the numbers and counts of what two n-grams at a distance make; None where nothing occurs twice."""
    if places < 2:
        return None
    keys = numbers[:places] * len(counts) + numbers[distance : distance + places]
    _, found, often = np.unique(keys, return_inverse=True, return_counts=True)
    return (found.reshape(-1), often) if often.max() > 1 else None


def _repeated(parts: list[str]) -> tuple[float, float]:
    """Return the share of parts, and of their characters, that repeat an earlier part."""
    counts = Counter(parts)
    again = len(parts) - len(counts)
    characters = sum((count - 1) * len(part) for part, count in counts.items() if count > 1)
    return again / max(1, len(parts)), characters / max(1, sum(map(len, parts)))
