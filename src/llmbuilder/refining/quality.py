"""Numbers that tell prose from noise, after the published heuristics for web text.

Gopher: Rae et al. 2021, "Scaling Language Models" (arXiv 2112.11446), table A1. C4: Raffel et al. 2020 (arXiv
1910.10683), section 2.2. FineWeb: Penedo et al. 2024 (arXiv 2406.17557), section 3.6. Code: Chen et al. 2021
(arXiv 2107.03374), section 3.1. `filtering` compares the numbers with thresholds.
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property

import numpy as np

STOP_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))  # Gopher's
_BULLETS = ("•", "‣", "▪", "●", "◦", "⁃", "∙", "*", "-", "–")
_ELLIPSES = ("...", "…")
_LINE_ENDS = (".", "!", "?", '"', "'", "”", "’", "…", "。", "！", "？", "।", "؟", "」", ":")
_SENTENCE_ENDS = ".!?。！？।؟"
_SHORT_LINE = 30  # characters (FineWeb)


class TextQuality:
    """Quality signals of one text, each computed when first asked for; shares lie between 0 and 1."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.characters = len(text)

    @cached_property
    def _words(self) -> list[str]:
        return self.text.split()

    @cached_property
    def _lines(self) -> list[str]:
        return [stripped for line in self.text.split("\n") if (stripped := line.strip())]

    @cached_property
    def words(self) -> int:
        return len(self._words)

    @cached_property
    def _word_lengths(self) -> np.ndarray:
        return np.fromiter(map(len, self._words), dtype=np.int64, count=self.words)

    @cached_property
    def mean_word_length(self) -> float:
        return float(self._word_lengths.mean()) if self.words else 0.0

    @cached_property
    def symbol_share(self) -> float:
        """Hash signs or ellipses, whichever are more, for each word (Gopher)."""
        return max(self.text.count("#"), sum(map(self.text.count, _ELLIPSES))) / max(1, self.words)

    @cached_property
    def alphabetic_word_share(self) -> float:
        """Words with at least one letter (Gopher)."""
        return sum(any(map(str.isalpha, word)) for word in self._words) / max(1, self.words)

    @cached_property
    def stop_words(self) -> int:
        """How many of Gopher's eight English stop words occur."""
        return len(STOP_WORDS.intersection(word.lower().strip(".,;:!?\"'()") for word in self._words))

    @cached_property
    def alphanumeric_share(self) -> float:
        """Characters that are letters or digits (code)."""
        return sum(map(str.isalnum, self.text)) / max(1, self.characters)

    @cached_property
    def bullet_line_share(self) -> float:
        return sum(line.startswith(_BULLETS) for line in self._lines) / max(1, len(self._lines))

    @cached_property
    def ellipsis_line_share(self) -> float:
        return sum(line.endswith(_ELLIPSES) for line in self._lines) / max(1, len(self._lines))

    @cached_property
    def punctuated_line_share(self) -> float:
        """Lines that end in punctuation (FineWeb)."""
        return sum(line.endswith(_LINE_ENDS) for line in self._lines) / max(1, len(self._lines))

    @cached_property
    def short_line_share(self) -> float:
        """Lines of at most 30 characters (FineWeb)."""
        return sum(len(line) <= _SHORT_LINE for line in self._lines) / max(1, len(self._lines))

    @cached_property
    def mean_line_length(self) -> float:
        return self.characters / max(1, self.text.count("\n") + 1)

    @cached_property
    def longest_line(self) -> int:
        return max(map(len, self.text.split("\n")))

    @cached_property
    def sentences(self) -> int:
        """Sentence ends, counted as runs of terminal punctuation at the end of a word (C4)."""
        return sum(word.rstrip("\"'”’)]»").endswith(tuple(_SENTENCE_ENDS)) for word in self._words)

    @cached_property
    def curly_brackets(self) -> int:
        return self.text.count("{")

    @cached_property
    def lorem_ipsum(self) -> int:
        return self.text.lower().count("lorem ipsum")

    @cached_property
    def duplicate_line_share(self) -> float:
        """Lines that repeat an earlier one (Gopher)."""
        return _repeated(self._lines)[0]

    @cached_property
    def duplicate_line_character_share(self) -> float:
        return _repeated(self._lines)[1]

    @cached_property
    def _paragraphs(self) -> list[str]:
        return [stripped for paragraph in self.text.split("\n\n") if (stripped := paragraph.strip())]

    @cached_property
    def duplicate_paragraph_share(self) -> float:
        return _repeated(self._paragraphs)[0]

    @cached_property
    def duplicate_paragraph_character_share(self) -> float:
        return _repeated(self._paragraphs)[1]

    @cached_property
    def _ngrams(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """For n from 1 on: the number of the n-gram at each word, and how often each occurs.

        Grams are numbered from those one word shorter, so equal numbers are equal words, without hashing. It ends
        where no n-gram repeats, for then no longer one does.
        """
        codes: dict[str, int] = {}
        single = np.fromiter((codes.setdefault(word, len(codes)) for word in self._words), np.int64, self.words)
        found = {1: (single, np.bincount(single) if self.words else np.zeros(0, np.int64))}
        for length in range(2, 11):
            shorter = found[length - 1][0]
            if len(shorter) < 2:
                break
            keys = shorter[:-1] * len(codes) + single[length - 1 :]
            _, numbers, counts = np.unique(keys, return_inverse=True, return_counts=True)
            if counts.max() < 2:
                break
            found[length] = (numbers.reshape(-1), counts)
        return found

    def top_ngram_share(self, length: int) -> float:
        """Share of the words' characters in the most frequent n-gram of `length` words (Gopher)."""
        if length not in self._ngrams:
            return 0.0
        numbers, counts = self._ngrams[length]
        starts = np.flatnonzero(numbers == counts.argmax())
        return self._covered(starts, length)

    def duplicate_ngram_share(self, length: int) -> float:
        """Share of the words' characters in n-grams of `length` words that occur twice or more, counted once each."""
        if length not in self._ngrams:
            return 0.0
        numbers, counts = self._ngrams[length]
        return self._covered(np.flatnonzero(counts[numbers] > 1), length)

    def _covered(self, starts: np.ndarray, length: int) -> float:
        inside = np.zeros(self.words, dtype=bool)
        for offset in range(length):
            inside[starts + offset] = True
        return float(self._word_lengths[inside].sum() / max(1, self._word_lengths.sum()))


def _repeated(parts: list[str]) -> tuple[float, float]:
    """Return the share of parts, and of their characters, that repeat an earlier part."""
    counts = Counter(parts)
    again = len(parts) - len(counts)
    characters = sum((count - 1) * len(part) for part, count in counts.items() if count > 1)
    return again / max(1, len(parts)), characters / max(1, sum(map(len, parts)))
