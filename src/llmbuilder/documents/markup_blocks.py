"""Blocks of Markdown from XML of many vocabularies: articles (JATS), manuals (DocBook), editions (TEI), feeds.

Elements are known by their local names, which these vocabularies mostly share. What is not known is a block where it
stands among elements, and part of a line where it stands among words; sister elements with the same fields are a table.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from html.entities import html5
from typing import Any

from llmbuilder.documents.office_files.layout import Item, heading, item, joined, table

_UNSEEN = frozenset((
    "script", "style", "graphic", "inline-graphic", "media", "imagedata", "indexterm", "index-term", "figDesc",
    "graphic-file", "binData", "binaryData", "instrText", "delText", "fldData", "DocumentProperties", "ExcelWorkbook",
    "OfficeDocumentSettings", "Styles", "posOffset", "WorksheetOptions", "object-id", "remark", "colspec", "spanspec",
    "img", "custom-meta-group", "processing-meta",
    # what only libraries need to know of an article, an edition, a patent, a feed
    "journal-meta", "article-id", "article-categories", "pub-date", "history", "pub-history", "volume", "issue",
    "elocation-id", "fpage", "lpage", "counts", "self-uri", "article-version", "related-article", "contrib-id",
    "email", "author-notes-id", "funding-source-id", "encodingDesc", "profileDesc", "revisionDesc", "publicationStmt",
    "pubdate", "edition-id", "biblioid", "isbn", "issn", "link", "guid", "generator", "docs", "ttl", "cloud",
    "pubDate", "lastBuildDate", "webMaster", "managingEditor", "language", "updated", "published", "id",
    "dateCreated", "dateModified", "ownerName", "ownerEmail", "expansionState", "vertScrollState", "windowTop",
    "windowLeft", "windowBottom", "windowRight", "thumbnail", "enclosure", "publication-reference",
    "application-reference", "institution-id", "role", "copyright-year", "copyright-holder", "updatePeriod",
    "updateFrequency", "image", "post-id", "comments", "commentRss", "us-parties", "parties", "assignees",
    "examiners", "us-references-cited", "us-field-of-classification-search", "us-related-documents", "us-botanic",
    "figures", "us-term-of-grant", "classifications-ipcr", "classifications-cpc", "classification-national",
    "us-application-series-code",
))  # fmt: skip
_SECTIONS = frozenset((
    "sec", "section", "chapter", "part", "appendix", "preface", "sect1", "sect2", "sect3", "sect4", "sect5", "div",
    "div1", "div2", "div3", "div4", "simplesect", "refsect1", "refsect2", "refsect3", "app", "ack", "abstract",
    "glossary", "bibliography", "ref-list", "topic", "item-of-feed", "entry-of-feed", "app-group", "fn-group",
    "boxed-text",
))  # fmt: skip
_HEADINGS = frozenset(("title", "head", "heading", "h", "article-title", "invention-title", "bridgehead", "subtitle",
                       "h1", "h2", "h3", "h4", "h5", "h6"))  # fmt: skip
_LINES = frozenset(("p", "para", "simpara", "formalpara", "ab", "l", "lg", "quote", "mixed-citation", "bibl", "caption",
                    "term", "trans-title", "alt-title", "kwd", "label", "byline", "docAuthor", "docTitle", "titlePart",
                    "attrib", "subject", "speaker", "sp", "stage", "claim-text", "summary", "description", "contrib",
                    "aff", "author", "element-citation", "citation"))  # fmt: skip
_LISTS = frozenset(("list", "itemizedlist", "orderedlist", "simplelist", "ul", "ol", "procedure", "variablelist",
                    "def-list", "glosslist", "calloutlist", "listBibl"))  # fmt: skip
_ENTRIES = frozenset(("list-item", "listitem", "item", "li", "member", "step", "varlistentry", "def-item",
                      "glossentry", "callout", "bibl", "biblStruct"))  # fmt: skip
_ORDERED = frozenset(("order", "ordered", "arabic", "alpha-lower", "alpha-upper", "roman-lower", "roman-upper"))
_CODE = frozenset((
    "programlisting", "screen", "preformat", "literallayout", "eg", "egXML", "synopsis", "pre", "listing",
    "code-block",
))  # fmt: skip
_TABLES = frozenset(("table", "informaltable", "tgroup", "Table"))
_ROWS = ("tr", "row", "Row")
_SPACED = frozenset((
    "contrib", "aff", "author", "editor", "element-citation", "biblStruct", "name", "personname", "persName",
    "address",
))  # fmt: skip
_TOGETHER = frozenset(("kwd", "category", "subject", "keyword"))  # short ones after each other share a line
_CELLS = frozenset(("td", "th", "entry", "cell", "Cell"))
_NOTES = frozenset(("fn", "footnote", "note"))
_BREAKS = frozenset(("br", "lb", "break", "line-break"))
_BLOCKS = _SECTIONS | _HEADINGS | _LINES | _LISTS | _ENTRIES | _CODE | _TABLES
_INLINE = frozenset(("label", "quote", "title", "term", "bibl", "author", "subject", "note", "code", "attrib", "head",
                     "article-title", "trans-title", "caption", "description", "summary", "div"))  # fmt: skip
_HTML = re.compile(r"</(?:p|a|div|span|b|i|em|strong|li|ul|td|h\d)>|<(?:p|br|img)\b[^<>]*>", re.I)
_BREAK = "\ue000"
_SPACES = re.compile("[ \t\n\r\f\u2028]+")
_DEEPEST = 200
_WIDEST, _LONGEST_CELL = 20, 80  # columns, and characters of a cell on average, that are a table


def name_of(element: Any) -> str:
    """Return an element's local name, "" for comments, instructions and entities."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def markup_blocks(root: Any, entity: Callable[[str], str], page: Callable[[str], str]) -> list[str]:
    """Return the blocks of a tree; `entity` gives the text of an entity, `page` that of HTML in a feed."""
    if name_of(root) == "opml":
        return _outline(root)
    return [block for block in _Writer(entity, page).blocks(root, 1, 0) if block.strip()]


def _outline(root: Any) -> list[str]:
    """Return an outline (OPML 2.0): the texts are attributes."""
    blocks = [heading("".join(one.itertext()), 1) for one in root.iter() if name_of(one) == "title"]

    def entries(parent: Any, level: int) -> Iterator[str]:
        for one in parent:
            if name_of(one) != "outline":
                continue
            text = one.get("text") or one.get("title") or ""
            note = one.get("_note") or ""
            yield item(
                _collapsed(re.sub("<[^>]+>", " ", text)) + (f"\n{note.strip()}" if note.strip() else ""), level, "-"
            )
            yield from entries(one, level + 1)

    for body in (one for one in root if name_of(one) == "body"):
        blocks += entries(body, 0)
    return blocks


def _collapsed(text: str) -> str:
    return _SPACES.sub(" ", text).strip()


def _lines(pieces: list[str]) -> str:
    return "\n".join(map(_collapsed, "".join(pieces).split(_BREAK))).strip("\n")


def _is_mixed(element: Any) -> bool:
    """Whether words stand between the elements of an element."""
    return bool((element.text or "").strip()) or any((one.tail or "").strip() for one in element)


def _labelled(label: str, block: str) -> Iterator[str]:
    """Yield a block behind its number; a table's stands above it."""
    marks = re.match(r"(?:#+ )?", block)
    cut = marks.end() if marks is not None else 0
    if block and "\n" not in block:
        yield f"{block[:cut]}{label} {block[cut:]}"
    else:
        yield label
        yield block


class _Writer:
    def __init__(self, entity: Callable[[str], str], page: Callable[[str], str]) -> None:
        self._entity = entity
        self._page = page
        self._notes: list[str] = []

    def blocks(self, parent: Any, level: int, depth: int) -> Iterator[str]:
        """Yield the blocks in an element; `level` is that of its headings."""
        if depth > _DEEPEST:
            yield _collapsed(" ".join(parent.itertext()))
            return
        is_line = _is_mixed(parent) or name_of(parent) in _LINES
        if not is_line and (records := self._records(parent)) is not None:
            yield records
            return
        line = [parent.text or ""]
        label = ""
        for element in parent:
            name = name_of(element)
            if name in _UNSEEN or (name == "xref" and name_of(parent) == "contrib"):
                line.append(element.tail or "")
                continue
            if name in _TOGETHER and not is_line and len(element) == 0:
                previous = element.getprevious()
                line.append(", " if previous is not None and name_of(previous) == name else _BREAK)
                line.append((element.text or "").strip())
                continue
            if name == "label" and not is_line:  # the number of a section, a table, an entry
                label = _collapsed("".join(self._inline(element, depth + 1)))
            elif name in _NOTES and is_line:
                self._keep_note(element, depth)
            elif name and self._is_block(element, name, is_line):
                yield from self._finished(line)
                line = []
                inside = self._block(element, name, level, depth + 1)
                if label:
                    first = next((block for block in inside if block.strip()), "")
                    yield from _labelled(label, first)
                    label = ""
                yield from inside
            else:
                line += self._inline(element, depth + 1)
                line.append(" " if name_of(parent) in _SPACED or not is_line else "")
            line.append(element.tail or "")
        line += [" ", label] if label else []
        yield from self._finished(line)

    def _keep_note(self, element: Any, depth: int) -> None:
        """Hold a note back until the line that it belongs to is finished."""
        held, self._notes = self._notes, []
        note = joined(self.blocks(element, 1, depth + 1))
        self._notes = [*held, note]

    def _finished(self, line: list[str]) -> Iterator[str]:
        yield _lines(line)
        notes, self._notes = self._notes, []
        yield from notes

    @staticmethod
    def _is_block(element: Any, name: str, in_line: bool) -> bool:
        if name == "alternatives" and any(name_of(one) in _TABLES for one in element):
            return True
        if name in ("math", "disp-formula", "alternatives", "name", "string-name", "personname", "persName"):
            return False
        if in_line and name in _INLINE:
            return any(name_of(one) in _BLOCKS - _INLINE for one in element.iterdescendants())
        if name in _BLOCKS or not in_line:
            return True
        return any(name_of(one) in _BLOCKS - _INLINE for one in element.iterdescendants())

    def _block(self, element: Any, name: str, level: int, depth: int) -> Iterator[str]:
        if name in _HEADINGS and name_of(element.getparent()) not in ("caption", "element-citation", "mixed-citation"):
            text = joined(self.blocks(element, level, depth))
            yield heading(text, int(name[1]) if name[1:].isdigit() else level + (name == "subtitle"))
        elif name in _SECTIONS:
            yield from self.blocks(element, level + 1, depth)
        elif name in _LISTS and any(name_of(one) in _ENTRIES for one in element):
            yield from self._list(element, level, depth)
        elif name in _CODE or (name == "code" and not _is_mixed(element.getparent())):
            text = "".join(element.itertext()).strip("\n")
            yield f"```\n{text}\n```" if text.strip() else ""
        elif name in _TABLES:
            yield from self._table(element, level, depth)
        elif name in ("item", "entry") and name_of(element.getparent()) in ("channel", "feed", "RDF"):
            yield from self.blocks(element, level + 1, depth)
        elif self._is_page(element):
            yield self._page(element.text or "")
        else:
            yield from self.blocks(element, level, depth)

    @staticmethod
    def _is_page(element: Any) -> bool:
        """Whether an element holds HTML as text, as those of feeds do."""
        return len(element) == 0 and _HTML.search(element.text or "") is not None

    def _inline(self, element: Any, depth: int) -> list[str]:
        name = name_of(element)
        if not name:
            text = element.text or ""
            return [self._entity(text.strip("&;"))] if text.startswith("&") and text.endswith(";") else []
        if name in _UNSEEN:
            return []
        if name in _BREAKS:
            return [_BREAK]
        if name == "math":
            return [_formula(element)]
        if name == "tex-math":
            return [_tex(element.text or "")]
        if name == "alternatives":
            formulas = [one for one in element if name_of(one) in ("tex-math", "math")]
            chosen = formulas[:1] or list(element)[:1]
            return [piece for one in chosen for piece in self._inline(one, depth + 1)]
        if name in _NOTES:
            self._keep_note(element, depth)
            return []
        if depth > _DEEPEST:
            return [" ".join(element.itertext())]
        pieces = [element.text or ""]
        between = " " if name in _SPACED and not _is_mixed(element) else ""
        for one in element:
            pieces += [*self._inline(one, depth + 1), one.tail or between]
        return pieces

    def _list(self, element: Any, level: int, depth: int) -> Iterator[str]:
        kind = element.get("list-type") or element.get("type") or element.get("rend") or ""
        is_ordered = name_of(element) in ("orderedlist", "ol", "procedure") or kind in _ORDERED
        number, term = 0, ""
        for one in element:
            name = name_of(one)
            if name == "label":  # a glossary in TEI
                term = _lines(self._inline(one, depth))
            elif name in _ENTRIES:
                number += 1
                blocks = [block for block in self.blocks(one, level, depth + 1) if block.strip()]
                blocks, term = ([f"{term}: {blocks[0]}", *blocks[1:]] if term and blocks else blocks), ""
                if blocks:
                    yield item(joined([Item(blocks[0]), *blocks[1:]]), 0, f"{number}." if is_ordered else "-")
            elif name and name not in _UNSEEN:
                yield from self._block(one, name, level, depth + 1)

    def _table(self, element: Any, level: int, depth: int) -> Iterator[str]:
        rows: list[list[str]] = []
        for one in element:
            name = name_of(one)
            if name in ("title", "caption", "head"):
                yield joined(self.blocks(one, level, depth + 1))
            elif name in ("info", "label", "textobject"):
                yield from self.blocks(one, level, depth + 1)
            elif name == "tgroup":
                yield from self._table(one, level, depth + 1)
            elif name in ("thead", "tbody", "tfoot"):
                rows += [self._row(row, level, depth) for row in one if name_of(row) in _ROWS]
            elif name in _ROWS:
                rows.append(self._row(one, level, depth))
        yield table(rows)

    def _row(self, row: Any, level: int, depth: int) -> list[str]:
        cells: list[str] = []
        for one in row:
            if name_of(one) in _CELLS:
                span = one.get("colspan") or one.get("cols") or "1"
                blocks = [block for block in self.blocks(one, level, depth + 2) if block.strip()]
                cells += [" ".join(blocks), *[""] * (min(int(span), 100) - 1 if span.isdigit() and int(span) else 0)]
        return cells

    def _records(self, parent: Any) -> str | None:
        """Return sister elements that have the same fields as a table, None if they are none."""
        rows = [one for one in parent if name_of(one)]
        names = {name_of(one) for one in rows}
        if len(rows) < 2 or len(names) > 1 or names & (_BLOCKS | _UNSEEN | _CELLS | {*_ROWS, "name", "contrib"}):
            return None
        fields = Counter(name_of(field) for row in rows for field in row)
        if not fields or "" in fields or set(fields) & _BLOCKS - {"title", "author", "description", "label"}:
            return None
        if len(fields) > _WIDEST or any(_is_mixed(row) or len(field) for row in rows for field in row):
            return None
        if any(Counter(map(name_of, row)).most_common(1)[0][1] > 1 for row in rows if len(row)):
            return None
        texts = [{name_of(field): _collapsed("".join(field.itertext())) for field in row} for row in rows]
        if sum(len(text) for row in texts for text in row.values()) > _LONGEST_CELL * sum(map(len, texts)):
            return None
        return table([list(fields), *([row.get(name, "") for name in fields] for row in texts)])


def _tex(text: str) -> str:
    """Return a formula in TeX without the document that publishers wrap it in."""
    inside = re.search(r"\\begin\{document\}(.*)\\end\{document\}", text, re.S)
    formula = _collapsed(inside[1] if inside else text).strip("$ ")
    return f"${formula}$" if formula else ""


def _formula(element: Any) -> str:
    for one in element.iter():
        if (
            name_of(one) == "annotation"
            and "tex" in (one.get("encoding") or "").casefold()
            and (one.text or "").strip()
        ):
            return f"${one.text.strip()}$"
    texts = (one.text or "" for one in element.iter() if name_of(one) not in ("annotation", "annotation-xml", ""))
    return _collapsed(" ".join(text.strip() for text in texts if text.strip()))


def entity_text(name: str) -> str:
    """Return the text of an entity that HTML or ISO 8879 knows ("nbsp", "agr"), or its name as it is written."""
    return html5.get(f"{name};") or _GREEK.get(name, f"&{name};")


_LATIN = ("a", "b", "g", "d", "e", "z", "ee", "th", "i", "k", "l", "m", "n", "x", "o", "p", "r", "sf", "s", "t", "u",
          "ph", "kh", "ps", "oh")  # fmt: skip
_GREEK: dict[str, str] = {}
for _name, _letter in zip(_LATIN, "αβγδεζηθικλμνξοπρςστυφχψω", strict=True):
    _GREEK |= {f"{_name}gr": _letter, f"{_name.upper()}gr": _letter.upper(), f"{_name.capitalize()}gr": _letter.upper()}
