"""Passages: pieces of documents that know where they come from, and how they are put before a prompt."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from llmbuilder.errors import GenerationError

PASSAGE_SIZE = 700  # characters: a paragraph or two
# Where a text is best cut, and from which share of a passage on: the best place that is there is taken.
_CUTS = (
    (re.compile(r"\n[ \t]*\n\s*"), 3),
    (re.compile(r"[.!?…][\"')\]»”]*\s+|[。！？]"), 2),
    (re.compile(r"\n"), 2),
    (re.compile(r"\s+"), 2),
)


@dataclass(frozen=True)
class Passage:
    """A piece of a document; it begins in this `line` of the document's text, counted from 1."""

    text: str
    source: str = ""
    line: int = 1

    @property
    def place(self) -> str:
        """Where it stands, for people."""
        return f"{self.source}, line {self.line:,}"


def cut_passages(text: str, source: str = "", size: int = PASSAGE_SIZE) -> Iterator[Passage]:
    """Yield a text in passages of at most `size` characters, cut between paragraphs or sentences where it can be."""
    begin, line = 0, 1
    while begin < len(text):
        end = _find_cut(text, begin, size)
        piece = text[begin:end]
        if kept := piece.strip():
            leading = len(piece) - len(piece.lstrip())
            yield Passage(kept, source, line + piece.count("\n", 0, leading))
        line += piece.count("\n")
        begin = end


def _find_cut(text: str, begin: int, size: int) -> int:
    last = begin + max(1, size)
    if last >= len(text):
        return len(text)
    for pattern, share in _CUTS:
        ends = [found.end() for found in pattern.finditer(text, begin + size // share, last)]
        if ends and ends[-1] > begin:
            return ends[-1]
    return last


def join_passages(passages: Sequence[Passage], prompt: str) -> str:
    """Return a prompt behind passages; the first of them, the one that fits it best, stands nearest to it."""
    return "\n\n".join([*(passage.text for passage in reversed(passages)), prompt])


def fit_passages(passages: Sequence[Passage], prompt: str, fits: Callable[[str], bool]) -> list[Passage]:
    """Return as many of the first passages as can stand before a prompt; `fits` says of a whole text whether it may.

    Raises GenerationError if not even one of them can.
    """
    if not passages:
        return []
    for count in range(len(passages), 0, -1):
        if fits(join_passages(passages[:count], prompt)):
            return list(passages[:count])
    raise GenerationError(
        "the model sees too little text for a passage beside the prompt and its answer: shorten the prompt, or ask for "
        "fewer new tokens (generation.max_new_tokens)"
    )
