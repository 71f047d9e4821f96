"""XML documents by their text: no tags, no addresses; headings, lists, tables and code as Markdown.

Nothing is fetched, no entity is expanded by the parser (those that a file declares are, once, if they are plain text),
and a damaged file is read as far as nothing of it is lost, or refused.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from pathlib import Path
from typing import Any

from llmbuilder.documents.document import Document
from llmbuilder.documents.file_types import RICH_SUFFIXES
from llmbuilder.documents.html_blocks import page_text
from llmbuilder.documents.markup_blocks import entity_text, markup_blocks, name_of
from llmbuilder.documents.office_files.layout import joined
from llmbuilder.documents.text import decode_text
from llmbuilder.errors import DataError

_TAG = re.compile(r"<!--.*?-->|<!\[CDATA\[|\]\]>|<[!?/]?[A-Za-z][^<>]*>", re.S)
_DECLARATION = re.compile(r"\s*<\?xml[^>]*\?>")
_DOCTYPE = re.compile(r"<!DOCTYPE[^\[>]*(?:\[.*?\]\s*)?>", re.S)
_OF_PAGES = re.compile(r"<(?:p|br|div|span|a|li|td|h[1-6]|font|center)\b[^<>]*>", re.I)  # HTML need not be well-formed
_SUFFIXES = frozenset(suffix for suffix, kind in RICH_SUFFIXES.items() if kind == "xml")
_BARE = re.compile(r"&(?!#?\w+;)")
_NO_SPACE = re.compile(r"[\W_]+")
_CUT, _MOST_OTHER = 10, 0.001  # letters of a damaged file, as a number and a share, that may be lost or made of tags
_LONGEST_ENTITY = 1000  # characters
# Roots of texts for readers; others may be settings and data of programs.
_TEXTS = frozenset((
    "article", "book", "chapter", "section", "part", "set", "sect1", "appendix", "preface", "refentry", "TEI",
    "TEI.2", "teiCorpus", "opml", "rss", "feed", "RDF", "topic", "concept", "task", "reference", "html", "dtbook",
    "pmc-articleset", "Workbook", "wordDocument",
))  # fmt: skip
_LEAST_WORDS = 0.2  # of the letters stand in texts of several words; settings hold less


def read_markup(path: Path) -> Document:
    """Return the text of an XML document, or of a page of HTML that goes by another name.

    Raises DataError if it is damaged, or holds no text for readers.
    """
    content = path.read_bytes()
    try:
        root = _parsed(content)
    except (ValueError, SyntaxError) as error:  # of lxml
        text = decode_text(content, str(path)).removeprefix("\ufeff")
        if path.suffix.lower() not in _SUFFIXES and _OF_PAGES.search(text) is not None:
            return Document(page_text(text), str(path), "html")
        root = _repaired(text, f"{path}: it is no well-formed XML: {str(error).splitlines()[0]}")
    declared = _declared_entities(root)

    def entity(name: str) -> str:
        return declared.get(name) or entity_text(name)

    if name_of(root) not in _TEXTS and not _has_words(root):
        raise DataError(f"{path}: it is XML for programs: hardly any text of several words in it")
    blocks = markup_blocks(root, entity, page_text)
    return Document(joined(blocks), str(path), "xml", _title(root))


def _parsed(content: bytes, *, recover: bool = False) -> Any:
    from lxml import etree

    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=True, recover=recover,
        remove_comments=True, remove_pis=True,
    )  # fmt: skip
    return etree.fromstring(content, parser)


def _repaired(text: str, problem: str) -> Any:
    """Return the tree of a text with several roots or some damage. Raises DataError where text would be lost."""
    body = _BARE.sub("&amp;", _DOCTYPE.sub("", _DECLARATION.sub("", text, count=1), count=1))
    for source in (body, f"<text>{body}</text>"):  # a wrong declaration of its encoding; several roots
        try:
            return _parsed(source.encode("utf-8", "replace"))
        except (ValueError, SyntaxError):
            continue
    root = _parsed(f"<text>{body}</text>".encode("utf-8", "replace"), recover=True)
    own = Counter(_letters(html.unescape(_TAG.sub(" ", body))))
    found = Counter(_letters("" if root is None else "".join(root.itertext())))
    if ((own - found) + (found - own)).total() > max(_CUT, _MOST_OTHER * own.total()):
        raise DataError(problem)
    return root


def _letters(text: str) -> str:
    return _NO_SPACE.sub("", text)


def _declared_entities(root: Any) -> dict[str, str]:
    """Return the entities that a file declares itself and that are short plain text."""
    declaration = root.getroottree().docinfo.internalDTD
    found = {}
    for one in declaration.iterentities() if declaration is not None else ():
        content = one.content
        if content and len(content) <= _LONGEST_ENTITY and "&" not in content and "<" not in content:
            found[one.name] = content
    return found


def _has_words(root: Any) -> bool:
    letters = words = 0
    for one in root.iter():
        for text in ((one.text if name_of(one) else None) or "", one.tail or ""):
            letters += len(text.strip())
            words += len(text.strip()) if len(text.split()) > 1 else 0
    return letters > 0 and words >= _LEAST_WORDS * letters


def _title(root: Any) -> str | None:
    for one in root.iter():
        if name_of(one) in ("article-title", "title") and (text := " ".join("".join(one.itertext()).split())):
            return text
    return None
