"""PDF, page by page, through PDFium: letters in the order in which they are read, right to left and downwards too.

What a form's fields hold is text like any other. Pages that are pictures, and files that PDFium cannot open, are left
to the second reader.
"""

from __future__ import annotations

import math
import re
import unicodedata
from itertools import groupby
from pathlib import Path
from typing import Any

from llmbuilder.documents.document import Document
from llmbuilder.documents.kreuzberg_reader import can_read_scans, read_by_kreuzberg, scanned_pages
from llmbuilder.errors import DataError, LockedError

_LIGATURES = {ligature: unicodedata.normalize("NFKC", ligature) for ligature in map(chr, range(0xFB00, 0xFB07))}
_LIGATURES_IN = re.compile(f"[{''.join(_LIGATURES)}]")
_HYPHEN = "\ufffe"  # what PDFium puts where a line ends within a word
_DIVIDED = re.compile(rf"(\w+){_HYPHEN}\n?(\w*)")
_EAST_ASIAN = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_MOSTLY = 0.5  # of a page's characters
_LOOKED_AT, _TURNED = 200, math.pi / 4  # characters, radians


def read_pdf(path: Path, ocr: str | None = None) -> Document:
    """Return the text of a PDF; `ocr` names the languages in which scanned pages are read, None leaves them.

    Raises DataError if it is damaged or encrypted.
    """
    try:
        pages, title = _pages(path)
    except LockedError:
        raise
    except DataError as error:
        try:
            return read_by_kreuzberg(path, "pdf", ocr)
        except DataError:
            raise error from None
    if ocr is not None and can_read_scans() and scanned_pages([page or "" for page in pages]):
        return read_by_kreuzberg(path, "pdf", ocr)
    unread = {f"page {number}": "it is damaged" for number, page in enumerate(pages, start=1) if page is None}
    read = _whole_words([page or "" for page in pages])
    return Document("\n\n".join(read), str(path), "pdf", title, read, unread=unread)


def _pages(path: Path) -> tuple[list[str | None], str | None]:
    import pypdfium2

    try:
        with pypdfium2.PdfDocument(path) as document:
            if document.get_formtype():
                document.init_forms()
            pages = [_page(document, number) for number in range(len(document))]
            title = " ".join(document.get_metadata_value("Title").split()) or None
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).casefold() or "security" in str(error).casefold():
            raise LockedError(f"{path}: it is encrypted: a copy without a password can be read") from error
        raise DataError(f"{path}: cannot be read as pdf: {error}") from error
    return pages, title


def _page(document: Any, number: int) -> str | None:
    """Return the text of a page, None for one that is damaged."""
    import pypdfium2

    try:
        page = document[number]
        if document.formenv is not None:
            page.flatten()
            page.close()
            page = document[number]
        text_page = page.get_textpage()
        if page.get_rotation() and not _is_turned(text_page):
            page.set_rotation(0)  # the lines of a page shown turned that is not written so
            text_page = page.get_textpage()
        text = text_page.get_text_range()
    except pypdfium2.PdfiumError:
        return None
    if len(_EAST_ASIAN.findall(text)) > _MOSTLY * len(text):
        text = _in_columns(text, text_page)
    text = _LIGATURES_IN.sub(lambda match: _LIGATURES[match.group()], text)
    return text.replace("\r\n", "\n").replace("\0", "")


def _is_turned(text_page: Any) -> bool:
    """Whether most of a page's letters are turned, by some of them."""
    from pypdfium2 import raw

    count = text_page.count_chars()
    angles = [raw.FPDFText_GetCharAngle(text_page, place) for place in range(0, count, max(1, count // _LOOKED_AT))]
    return sum(_TURNED < angle < math.tau - _TURNED for angle in angles) > _MOSTLY * len(angles)


def _whole_words(pages: list[str]) -> list[str]:
    """Return pages with the words that a line end divides; a hyphen stays where they are written so elsewhere."""
    text = "\n".join(pages)

    def whole(match: re.Match[str]) -> str:
        left, right = match.groups()
        has_hyphen = not right[:1].islower() or (f"{left}-{right}" in text and f"{left}{right}" not in text)
        return f"{left}-{right}" if has_hyphen else f"{left}{right}"

    return [_DIVIDED.sub(whole, page).replace(_HYPHEN, "-") for page in pages]


def _in_columns(text: str, text_page: Any) -> str:
    """Return a page on which lines run from top to bottom with those lines from right to left."""
    lines: list[tuple[str, float | None]] = []  # with the place of a vertical one
    begin = 0
    for line in text.split("\r\n"):
        lines.append((line, _column(text_page, begin, line)))
        begin += len(line) + 2
    ordered: list[str] = []
    for is_vertical, run in groupby(lines, key=lambda one: one[1] is not None):
        found = list(run)
        ordered += [line for line, _ in (sorted(found, key=lambda one: -(one[1] or 0)) if is_vertical else found)]
    return "\r\n".join(ordered)


def _column(text_page: Any, begin: int, line: str) -> float | None:
    """Return where a vertical line stands from the left, None for one that is not vertical."""
    import pypdfium2

    visible = [place for place, character in enumerate(line) if not character.isspace()]
    if len(visible) < 2:
        return None
    try:
        first, last = (text_page.get_charbox(begin + place) for place in (visible[0], visible[-1]))
    except pypdfium2.PdfiumError:
        return None
    across, down = abs(last[0] - first[0]), first[1] - last[1]
    return float(first[0]) if down > across else None
