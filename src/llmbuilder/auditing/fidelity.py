"""How much of a file's own text is in what was made of it: letters, words kept whole, letters that it does not have.

Layout does not count: letters and words are compared by their longest common subsequence, in order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from llmbuilder.errors import MissingDependencyError

KEPT, WHOLE, ADDED = 0.999, 0.995, 0.002
PDF_KEPT = 0.99
_LONGEST = 300_000  # letters compared at once; longer texts are compared in parts that both cut at the same share
_MARK = re.compile(r"^[\s|]*(?:\d+|[a-z]{1,2}|[ivxlc]+)\.\s", re.I | re.M)
# Commands of LaTeX, but for the functions that are written as their names.
_COMMAND = re.compile(
    r"\\(?:text(?:bf|it|rm)?(?![a-zA-Z])|(?:begin|end)\{\w+\}(?:\{[lcr]+\})?|"
    r"(?!(?:sin|cos|tan|cot|sec|csc|sinh|cosh|tanh|coth|arc\w+|log|ln|lg|exp|lim|max|min|sup|inf|det|dim|gcd|ker)(?![a-zA-Z]))"
    r"[a-zA-Z]+)"
)


@dataclass(frozen=True)
class Fidelity:
    """Letters and words of a file, and how many of them came out; `added` letters came out of nowhere."""

    letters: int
    letters_kept: int
    words: int
    words_whole: int
    added: int

    @classmethod
    def of_all(cls, items: Iterable[Fidelity]) -> Fidelity:
        """Return what several files come to."""
        found = list(items)
        return cls(
            sum(item.letters for item in found),
            sum(item.letters_kept for item in found),
            sum(item.words for item in found),
            sum(item.words_whole for item in found),
            sum(item.added for item in found),
        )

    @property
    def shares(self) -> tuple[float, float, float]:
        """The shares of letters kept, of words whole, and of letters added to those of the file."""
        letters, words = max(1, self.letters), max(1, self.words)
        return self.letters_kept / letters, self.words_whole / words, self.added / letters

    def is_good(self, kind: str) -> bool:
        """Whether a file of this kind came out whole: 0.999 of its letters, 0.995 of its words, 0.002 added."""
        kept, whole, added = self.shares
        if kind == "pdf":
            return kept >= PDF_KEPT
        return kept >= KEPT and whole >= WHOLE and (added <= ADDED or self.added <= 2)


def words_of(text: str) -> list[str]:
    """Return runs of letters and digits; marks that stand above or below a letter belong to it."""
    words, word = [], ""
    for character in text.casefold():
        if character.isalnum():
            word += character
        elif word:
            words.append(word)
            word = ""
    return [*words, word] if word else words


def compare(own: str, found: str) -> Fidelity:
    """Return how much of `own` is in `found`; LaTeX's commands and the numbers of lists are not counted."""
    common = require_rapidfuzz().distance.LCSseq.similarity
    a, b = (words_of(_MARK.sub("", _COMMAND.sub(" ", text))) for text in (own, found))
    letters, others = "".join(a), "".join(b)
    kept = added = 0
    parts = max(1, len(letters) // _LONGEST)
    for part in range(parts):
        one = letters[len(letters) * part // parts : len(letters) * (part + 1) // parts]
        other = others[len(others) * part // parts : len(others) * (part + 1) // parts]
        shared = common(one, other)
        kept += shared
        added += max(0, len(other) - shared - sum(map(str.isdigit, other)) + sum(map(str.isdigit, one)))
    return Fidelity(len(letters), kept, len(a), common(a, b), added)


def require_rapidfuzz() -> Any:
    """Return RapidFuzz. Raises MissingDependencyError if it is not installed."""
    try:
        import rapidfuzz
        import rapidfuzz.distance
    except ImportError:
        raise MissingDependencyError("rapidfuzz", "audit", "comparing what was read with the files") from None
    return rapidfuzz
