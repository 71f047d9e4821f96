"""The main content of a web page as Markdown: without navigation, banners, side columns and footers.

One library finds what is main (resiliparse), another writes the page as Markdown with its tables and code (kreuzberg);
a block of the Markdown stays if its words are in the main text.
"""

from __future__ import annotations

import itertools
import re

_FENCE = re.compile(r"^(```|~~~)")
_LINK = re.compile(r"!?\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?:[^()\s]|\([^()]*\))*(?:\s+\"[^\"]*\")?\)")
_ESCAPE = re.compile(r"\\([\\`*_{}\[\]()#+\-.!|<>~$])")
_PADDING, _RULE = re.compile(" {2,}"), re.compile("-{3,}")
_NO_WORD = re.compile(r"[\W_]+")
_GAP = 3  # blocks between two that stay, such as a short list, stay with them
_LEAST_SHARE = 0.05  # of the page's text: with less, finding the main part has failed


def main_blocks(markdown: str, main_text: str) -> str:
    """Return the blocks of a page's Markdown that belong to its main text; all of them if hardly one does."""
    blocks = _blocks(markdown)
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


def _blocks(markdown: str) -> list[str]:
    """Cut Markdown at empty lines outside code; links and escapes outside code become plain text."""
    blocks: list[str] = []
    lines: list[str] = []
    fence = None

    def finish() -> None:
        if any(line.strip() for line in lines):
            blocks.append("\n".join(lines).strip("\n"))
        lines.clear()

    for line in markdown.split("\n"):
        mark = _FENCE.match(line.strip())
        if mark and fence is None:
            fence = mark.group()
            lines.append(line)
        elif mark and mark.group() == fence:
            fence = None
            lines.append(line)
        elif fence is None and not line.strip():
            finish()
        else:
            lines.append(line if fence is not None else _plain(line))
    finish()
    return blocks


def _plain(line: str) -> str:
    if line.startswith("|"):  # columns need not be aligned
        line = _PADDING.sub(" ", _RULE.sub("---", line))
    return _ESCAPE.sub(r"\1", _LINK.sub(r"\1", line))


def _letters(text: str) -> str:
    lines = (line for line in text.split("\n") if not _FENCE.match(line.strip()))
    return _NO_WORD.sub("", "\n".join(lines)).casefold()
