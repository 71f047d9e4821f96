"""Cleaning rules: named, switchable, each reporting how often it acted.

Rules keep meaning-bearing layout: indentation, line breaks and single blank lines stay, because a corpus may
hold code and verse.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from llmbuilder.documents.document import Document
from llmbuilder.errors import ConfigError
from llmbuilder.refining.unicode_repair import repair

_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_INVISIBLE = re.compile("[\u200b\u2060\ufeff\u00ad]")
_EXOTIC_SPACES = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_BLANK_RUN = re.compile(r"\n{3,}")
# PDF readers mark a hyphen that the line break caused with U+0002; elsewhere it is a hyphen before a line break.
# The hyphen is looked for first and the letter before it then: the other way round each letter of a text is a start.
_BROKEN_WORD = re.compile(
    r"[\x02\u2010\u00ad-](?<=[^\W\d_].)(?:(?<=\x02)\s*|(?<!\x02)[ \t]*\r?\n[ \t]*)(?=[a-z\u00df-\u00ff])"
)
_DIGITS = re.compile(r"\d+")
_PAGE_NUMBER = re.compile(
    r"^\W*(?:page|p\.|seite|página|str\.)?\s*(?:\d{1,4}|[ivxlc]{1,7})(?:\s*(?:of|/|von|de)\s*\d{1,4})?\W*$", re.I
)
_PAGE_AT_END = re.compile(r"(?:\d{1,4}|[ivxlc]{1,7})\Z", re.I)
_LEADER_DOTS = 5
_EDGE_LINES = 3


def repair_unicode(text: str) -> tuple[str, int]:
    """Undo mis-decoded text ("cafÃ©") and compose characters (NFC)."""
    fixed = repair(text)
    return fixed, int(fixed != text)


def join_broken_words(text: str) -> tuple[str, int]:
    """Join words that were hyphenated at a line end."""
    return _BROKEN_WORD.subn("", text)


def remove_control_characters(text: str) -> tuple[str, int]:
    """Remove control characters (tab and line feed stay) and invisible ones."""
    unified = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n")
    without, controls = _CONTROLS.subn("", unified)
    without, invisible = (without, 0) if without.isascii() else _INVISIBLE.subn("", without)
    return without, controls + invisible


def normalize_whitespace(text: str) -> tuple[str, int]:
    """Turn typographic spaces into plain ones, drop trailing blanks, keep at most one empty line."""
    text, exotic = (text, 0) if text.isascii() else _EXOTIC_SPACES.subn(" ", text)
    text, trailing = _without_trailing_blanks(text)
    text, runs = _BLANK_RUN.subn("\n\n", text) if "\n\n\n" in text else (text, 0)
    return text.strip("\n"), exotic + trailing + runs


def _without_trailing_blanks(text: str) -> tuple[str, int]:
    lines = text.split("\n")
    stripped = [line.rstrip(" \t") for line in lines]
    count = sum([len(line) != len(plain) for line, plain in zip(lines, stripped, strict=True)])
    return ("\n".join(stripped), count) if count else (text, 0)


def remove_page_furniture(pages: list[str]) -> tuple[list[str], int]:
    """Remove running headers, footers and page numbers from the edges of pages.

    A line at a page's edge is a running one when, digits aside, it stands at the same edge of at least three
    pages and of more than half of them; pages of a single line do not count, for that is all they say.
    """
    lines = [[line for line in page.replace("\r\n", "\n").split("\n") if line.strip()] for page in pages]
    # On a page of a few lines only the outermost can be furniture.
    depths = [min(_EDGE_LINES, max(1, len(page) // 3)) for page in lines]
    full = [(page, depth) for page, depth in zip(lines, depths, strict=True) if len(page) > 1]
    running_at_top = _running_lines(page[:depth] for page, depth in full)
    running_at_bottom = _running_lines(page[-depth:] for page, depth in full)
    cleaned, removed = [], 0
    for page, depth in zip(pages, depths, strict=True):
        kept = page.replace("\r\n", "\n").split("\n")
        for top, running in ((True, running_at_top), (False, running_at_bottom)):
            for _ in range(depth):
                index = _edge_index(kept, top)
                if index is None or not (_pattern(kept[index]) in running or _is_number(kept[index], len(pages))):
                    break
                del kept[index]
                removed += 1
        cleaned.append("\n".join(kept))
    return cleaned, removed


def remove_table_of_contents(pages: list[str]) -> tuple[list[str], int]:
    """Remove the lines of tables of contents: an entry, a row of leader dots, a page number."""
    kept = [[line for line in page.split("\n") if not _is_contents_line(line)] for page in pages]
    removed = sum(page.count("\n") + 1 - len(lines) for page, lines in zip(pages, kept, strict=True))
    return ["\n".join(lines) for lines in kept], removed


def _is_contents_line(line: str) -> bool:
    number = _PAGE_AT_END.search(line.rstrip()[-8:])
    if number is None:
        return False
    before = line.rstrip()[: -len(number.group())]
    entry = before.rstrip(". \t")
    return len(entry) > 1 and before[len(entry) :].count(".") >= _LEADER_DOTS


def _running_lines(edges: Iterable[list[str]]) -> set[str]:
    pages = list(edges)
    seen = Counter(pattern for lines in pages for pattern in {_pattern(line) for line in lines})
    return {pattern for pattern, count in seen.items() if count >= 3 and count > len(pages) / 2}


def _edge_index(lines: list[str], top: bool) -> int | None:
    order = range(len(lines)) if top else range(len(lines) - 1, -1, -1)
    return next((index for index in order if lines[index].strip()), None)


def _pattern(line: str) -> str:
    return _DIGITS.sub("#", " ".join(line.split()).casefold())


def _is_number(line: str, num_pages: int) -> bool:
    return num_pages > 1 and bool(_PAGE_NUMBER.match(line.strip()))


TEXT_RULES: dict[str, Callable[[str], tuple[str, int]]] = {
    "join_broken_words": join_broken_words,
    "repair_unicode": repair_unicode,
    "remove_control_characters": remove_control_characters,
    "normalize_whitespace": normalize_whitespace,
}
PAGE_RULES: dict[str, Callable[[list[str]], tuple[list[str], int]]] = {
    "remove_page_furniture": remove_page_furniture,
    "remove_table_of_contents": remove_table_of_contents,
}
CLEANING_RULES = (*PAGE_RULES, *TEXT_RULES)


def require_known_rules(rules: Collection[str]) -> None:
    """Raise ConfigError for an unknown rule."""
    unknown = sorted(set(rules) - set(CLEANING_RULES))
    if unknown:
        raise ConfigError(f"unknown cleaning rule {unknown[0]!r}; there are {', '.join(CLEANING_RULES)}")


def clean_document(document: Document, rules: Collection[str] = CLEANING_RULES) -> tuple[Document, Counter[str]]:
    """Return the cleaned document and how often each rule acted. Raises ConfigError for an unknown rule."""
    require_known_rules(rules)
    acted: Counter[str] = Counter()
    pages, text = document.pages, document.text
    for name, page_rule in PAGE_RULES.items():
        if name in rules and pages:
            pages, acted[name] = page_rule(pages)
            text = "\n\n".join(page.strip("\n") for page in pages)
    for name, rule in TEXT_RULES.items():
        if name in rules:
            text, acted[name] = rule(text)
    return replace(document, text=text, pages=pages), +acted
