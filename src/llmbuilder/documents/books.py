"""Books: EPUB by its spine, FictionBook by its sections; every word in order, without covers and addresses."""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from llmbuilder.documents.document import Document
from llmbuilder.documents.html_blocks import decode_page, page_text
from llmbuilder.documents.office_files.layout import heading, joined, table
from llmbuilder.documents.office_files.package import Package
from llmbuilder.errors import DataError, LockedError

_PAGES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml")


def _name(element: Element) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def read_epub(path: Path) -> Document:
    """Return the text of a book in the order of its spine. Raises DataError if it is damaged or encrypted."""
    with Package(path) as package:
        container = package.xml("META-INF/container.xml")
        named = container.iter() if container is not None else ()
        place = next((one.get("full-path") for one in named if _name(one) == "rootfile" and one.get("full-path")), None)
        book = package.xml(place)
        if place is None or book is None:
            raise DataError(f"{path}: it is damaged: it names no book")
        items = {one.get("id"): one for one in book.iter() if _name(one) == "item"}
        spine = (one.get("idref") for one in book.iter() if _name(one) == "itemref")
        order = [items[id] for id in spine if id in items]
        encrypted = _encrypted(package)
        chapters, unread = [], {}
        for entry in order:
            part = posixpath.normpath(posixpath.join(posixpath.dirname(place), unquote(entry.get("href") or "")))
            if part in encrypted:
                raise LockedError(f"{path}: it is encrypted: a copy without copy protection can be read")
            if entry.get("media-type") not in _PAGES:
                continue
            try:
                content = package.read(part)
            except DataError as error:  # the other chapters are no worse for it
                unread[part] = str(error).removeprefix(f"{path}: ")
                continue
            if content is None:
                unread[part] = "the book names this part and does not have it"
            else:
                chapters.append(page_text(decode_page(content, str(path))))
        titles = (" ".join("".join(one.itertext()).split()) for one in book.iter() if _name(one) == "title")
        title = next((title for title in titles if title), None)
    text = "\n\n".join(chapter for chapter in chapters if chapter.strip())
    if not text and unread:
        raise DataError(f"{path}: {next(iter(unread.values()))}")
    return Document(text, str(path), "epub", title, unread=unread)


def _encrypted(package: Package) -> set[str]:
    """Return the parts that are encrypted; fonts are often only disguised, which does not matter here."""
    root = package.xml("META-INF/encryption.xml")
    found = (one.get("URI") or "" for one in root.iter() if _name(one) == "CipherReference") if root is not None else ()
    return {unquote(uri).lstrip("/") for uri in found}


def read_fb2(path: Path) -> Document:
    """Return the text of a FictionBook, its notes last. Raises DataError if it is damaged."""
    try:
        content = path.read_bytes()
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                content = archive.read(archive.namelist()[0])
        root = ElementTree.fromstring(content)
    except (OSError, ElementTree.ParseError, zipfile.BadZipFile, ValueError, LookupError, IndexError) as error:
        raise DataError(f"{path}: it is damaged: {error}") from error
    titles = ("".join(one.itertext()) for one in root.iter() if _name(one) == "book-title")
    blocks = [block for body in root if _name(body) == "body" for block in _fiction(body, 1)]
    return Document(joined(blocks), str(path), "fb2", next((" ".join(t.split()) for t in titles if t.strip()), None))


def _fiction(parent: Iterable[Element], level: int) -> Iterator[str]:
    for element in parent:
        name = _name(element)
        if name in ("section", "body"):
            yield from _fiction(element, level + 1)
        elif name == "title":
            lines = ("".join(one.itertext()) for one in element if _name(one) == "p")
            yield heading(" ".join(lines), level)
        elif name == "subtitle":
            yield heading(_inside(element), level + 1)
        elif name in ("p", "text-author", "date"):
            yield _inside(element)
        elif name == "stanza":
            yield from _fiction([one for one in element if _name(one) in ("title", "subtitle")], level + 1)
            yield "\n".join(_inside(one) for one in element if _name(one) == "v")
        elif name == "table":
            yield table([[_inside(cell) for cell in row] for row in element if _name(row) == "tr"])
        elif name not in ("image", "empty-line"):
            yield from _fiction(element, level)


def _inside(element: Element) -> str:
    return " ".join("".join(element.itertext()).split())
