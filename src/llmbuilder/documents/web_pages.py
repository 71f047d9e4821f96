"""The main content of a web page as Markdown: without navigation, banners, side columns and footers.

One library finds what is main (resiliparse), another writes the page as Markdown with its tables and code (kreuzberg);
a block of the Markdown stays if its words are in the main text.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from llmbuilder.documents.document import Document
from llmbuilder.documents.markdown import FENCE, plain_blocks
from llmbuilder.errors import DataError

_NO_WORD = re.compile(r"[\W_]+")
_GAP = 3  # blocks between two that stay, such as a short list, stay with them
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
    import kreuzberg
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding
    from resiliparse.parse.html import HTMLTree

    content = path.read_bytes()
    tree = HTMLTree.parse(bytes_to_str(content, detect_encoding(content) or "utf-8"))
    if tree.body is None:
        raise DataError(f"{path}: no text in it")
    main = extract_plain_text(tree, main_content=True, alt_texts=False, noscript=False)
    config = kreuzberg.ExtractionConfig(use_cache=False, enable_quality_processing=False, output_format="markdown")
    try:
        # The body alone: of a whole page the head is written into the text.
        result = kreuzberg.extract_bytes_sync(tree.body.html.encode("utf-8"), "text/html", config=config)
    except (kreuzberg.KreuzbergError, ValueError, RuntimeError) as error:
        raise DataError(f"{path}: cannot be read as html: {str(error).splitlines()[0]}") from error
    title = " ".join((tree.title or "").split()) or None
    notes = _notes(content[:_HTML_HEAD].decode("utf-8", "replace"))
    return Document(main_blocks(result.content, main), str(path), "html", title, notes=notes)


def _notes(head: str) -> dict[str, str]:
    """Return what a page says of its licence and of robots."""
    licence, robots = _LICENCE.search(head), _ROBOTS.search(head)
    notes = {"license": licence.group(1) if licence else None}
    notes["robots"] = next((value for value in robots.groups() if value), None) if robots else None
    return {name: value for name, value in notes.items() if value}


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
