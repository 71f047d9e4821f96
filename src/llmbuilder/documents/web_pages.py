"""The main content of a web page as Markdown: without navigation, banners, side columns and footers.

One library finds what is main (resiliparse), another writes the page as Markdown with its tables and code (kreuzberg);
a block of the Markdown stays if its words are in the main text.
"""

from __future__ import annotations

import itertools
import re

from llmbuilder.documents.markdown import FENCE, plain_blocks

_NO_WORD = re.compile(r"[\W_]+")
_GAP = 3  # blocks between two that stay, such as a short list, stay with them
_LEAST_SHARE = 0.05  # of the page's text: with less, finding the main part has failed


def main_blocks(markdown: str, main_text: str) -> str:
    """Return the blocks of a page's Markdown that belong to its main text; all of them if hardly one does."""
    blocks = plain_blocks(markdown)
    known = _letters(main_text)
    letters = [_letters(block) for block in blocks]
    stays = [bool(text) and text in known for text in letters]
    places = [number for number, kept in enumerate(stays) if kept]
    if sum(len(letters[place]) for place in places) < _LEAST_SHARE * sum(map(len, letters)):
        return "\n\n".join(blocks)
    for before, after in itertools.pairwise(places):
        if after - before <= _GAP + 1:
            stays[before:after] = [True] * (after - before)
    return "\n\n".join(block for block, kept in zip(blocks, stays, strict=True) if kept)


def _letters(text: str) -> str:
    lines = (line for line in text.split("\n") if not FENCE.match(line.strip()))
    return _NO_WORD.sub("", "\n".join(lines)).casefold()
