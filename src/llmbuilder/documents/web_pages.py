"""The main content of a web page as Markdown: without navigation, banners, side columns and footers.

One library finds what is main (trafilatura, the best of those that can be installed on a public set of marked pages);
the page as Markdown, with all its headings, lists, tables and code, is our own (`html_blocks`). A block of it stays if
its words are in the main text.
"""

from __future__ import annotations

import copy
import itertools
import re
from pathlib import Path
from typing import Any

from llmbuilder.documents.document import Document
from llmbuilder.documents.html_blocks import decode_page, html_blocks, page_text, parsed_page
from llmbuilder.documents.markdown import FENCE
from llmbuilder.documents.office_files.layout import joined

_NO_WORD = re.compile(r"[\W_]+")
_GAP = 1  # a block between two that stay, such as a formula, stays with them
_SURE = 20  # letters of a block, no heading, that is not in the main text by chance
_SHORT, _MOST_LINKS = 500, 0.3  # letters of a page that is taken whole, and the share of them in links
_FRAMES = ("nav", "header", "footer", "aside")
_LEAST_SHARE = 0.05  # of the page's text: with less, finding the main part has failed

_HTML_HEAD = 1 << 16
_LICENCE = re.compile(
    r"""<(?:link|a)\b(?=[^>]*\brel\s*=\s*["']?[^"'>]*\blicense\b)[^>]*\bhref\s*=\s*["']?([^"'\s>]+)""", re.I
)
_ROBOTS = re.compile(
    r"""<meta\b(?=[^>]*\bname\s*=\s*["']?robots\b)[^>]*\bcontent\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>]+))""", re.I
)


def read_page(path: Path) -> Document:
    """Return the main content of a web page, with what it says of its licence. Raises DataError if it holds no text."""
    content = path.read_bytes()
    text = decode_page(content, str(path))
    notes = _notes(content[:_HTML_HEAD].decode("utf-8", "replace"))
    root = parsed_page(text)
    if root is None:  # nothing in it, or nested without end
        return Document(page_text(text), str(path), "html", notes=notes)
    title = " ".join((root.findtext(".//title") or "").split()) or None
    blocks = html_blocks(root)
    if _is_plain(root, blocks):
        return Document(joined(blocks), str(path), "html", title, notes=notes)
    from trafilatura import extract

    main = extract(copy.deepcopy(root), include_comments=False, fast=True) or ""
    return Document(main_blocks(blocks, main), str(path), "html", title, notes=notes)


def _is_plain(root: Any, blocks: list[str]) -> bool:
    """Whether a page is short and has no parts that frame others: what is main in a few lines, length cannot tell."""
    if next(root.iter(*_FRAMES), None) is not None:
        return False
    links = sum(len(_letters(one.text_content())) for one in root.iter("a"))
    letters = sum(len(_letters(block)) for block in blocks)
    return letters <= _SHORT and links <= _MOST_LINKS * letters


def _notes(head: str) -> dict[str, str]:
    """Return what a page says of its licence and of robots."""
    licence, robots = _LICENCE.search(head), _ROBOTS.search(head)
    notes = {"license": licence.group(1) if licence else None}
    notes["robots"] = next((value for value in robots.groups() if value), None) if robots else None
    return {name: value for name, value in notes.items() if value}


def main_blocks(blocks: list[str], main_text: str) -> str:
    """Return the blocks of a page that belong to its main text; all of them if hardly one does."""
    known = _letters(main_text)
    letters = [_letters(block) for block in blocks]
    stays = [bool(text) and text in known for text in letters]
    sure = [
        number
        for number, kept in enumerate(stays)
        if kept and (len(letters[number]) >= _SURE or blocks[number].startswith("#"))
    ]
    if sure:  # the words of a menu, such as "More", stand in most texts
        stays = [kept and sure[0] <= number <= sure[-1] for number, kept in enumerate(stays)]
    places = [number for number, kept in enumerate(stays) if kept]
    if sum(len(letters[place]) for place in places) < _LEAST_SHARE * sum(map(len, letters)):
        return joined(blocks)
    for before, after in itertools.pairwise(places):
        if after - before <= _GAP + 1:
            stays[before:after] = [True] * (after - before)
    return joined([block for block, kept in zip(blocks, stays, strict=True) if kept])


def _letters(text: str) -> str:
    lines = (line for line in text.split("\n") if not FENCE.match(line.strip()))
    return _NO_WORD.sub("", "\n".join(lines)).casefold()
