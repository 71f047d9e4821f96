"""What is known of languages besides English: their stop words, and the ranges that good web text of theirs lies in.

From the configuration of FineWeb-2 (Penedo et al. 2025, arXiv 2506.20920) in `web_filters.json`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

Range = tuple[float | None, float | None]  # least and most; None is no limit

_ENGLISH = "en"
_GOPHER = ("the", "be", "to", "of", "and", "that", "have", "with")
# Their words are not set off by blanks, or (in Korean) the stop words are endings: looked for anywhere in the text.
# Where sentences end without a mark.
WITHOUT_SENTENCE_MARKS = frozenset(("lo", "th"))
WITHOUT_BLANKS = frozenset(("bo", "dz", "ja", "km", "lo", "my", "th", "wuu", "yue", "zh"))
_INSIDE_WORDS = WITHOUT_BLANKS | {"ko"}


@dataclass(frozen=True)
class StopWords:
    """The stop words of a language, and whether they are parts of words."""

    words: frozenset[str]
    inside: bool = False

    def count(self, text: str, words: Iterable[str]) -> int:
        """Return how many of them occur in a text that has these words."""
        if self.inside:
            return sum(word in text for word in self.words)
        found: set[str] = set()
        for word in words:
            plain = word.lower().strip(".,;:!?\"'()[]«»„“”‘’…،؛؟।۔¿¡")
            found.add(plain)
            if "'" in plain or "’" in plain:  # l'eau, dell’acqua
                found.add(plain.replace("’", "'").partition("'")[0] + "'")
        return len(self.words & found)


@lru_cache(maxsize=512)
def stop_words_of(language: str | None) -> StopWords | None:
    """Return the stop words of a language by its ISO 639 code; None if none are known."""
    if language == _ENGLISH:
        return StopWords(frozenset(_GOPHER))
    known = _languages().get(language or "")
    return None if known is None else StopWords(frozenset(known["stop_words"].split()), language in _INSIDE_WORDS)


@lru_cache(maxsize=512)
def ranges_of(language: str | None) -> dict[str, Range] | None:
    """Return the ranges of quality signals for a language; None if none are known, or if they are English's own."""
    known = _languages().get(language or "")
    if known is None:
        return None
    return {
        "mean_word_length": tuple(known["mean_word_length"]),
        "alphabetic_word_share": (known["alphabetic_word_share"], None),
        "punctuated_line_share": (known["punctuated_line_share"], None),
        "duplicate_line_share": (None, known["duplicate_line_share"]),
        **{f"top_{n}_gram_share": (None, most) for n, most in enumerate(known["top_grams"], 2)},
        **{f"duplicate_{n}_gram_share": (None, most) for n, most in enumerate(known["duplicate_grams"], 5)},
    }


@lru_cache(maxsize=1)
def _languages() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(__file__).parent / "web_filters.json").read_text("utf-8"))["languages"]
    return found
