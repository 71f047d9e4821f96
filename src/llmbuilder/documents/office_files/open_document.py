"""OpenDocument texts, presentations and spreadsheets from their XML (ISO 26300), as Markdown.

Paragraphs, headings, lists with their numbers, tables, text boxes, notes, comments, formulas that lie beside them.
Text that a tracked change deleted is not in the text.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import ClassVar
from xml.etree.ElementTree import Element

from llmbuilder.documents.document import Document
from llmbuilder.documents.office_files.layout import counted, heading, item, joined, table
from llmbuilder.documents.office_files.package import Package, attribute, child, kind_of
from llmbuilder.errors import DataError, LockedError

_MOST_REPEATED = 1000  # cells or rows that repeat one; beyond that they only fill a sheet
_FORMS = {"1": "decimal", "a": "lowerLetter", "A": "upperLetter", "i": "lowerRoman", "I": "upperRoman"}
_LEFT_OUT = frozenset((
    "text:tracked-changes", "office:forms", "text:sequence-decls", "text:variable-decls", "text:user-field-decls",
    "text:index-entry-link-start", "text:note-citation", "svg:title", "svg:desc", "office:event-listeners",
    "presentation:footer-decl", "presentation:header-decl", "presentation:date-time-decl", "table:shapes",
    "text:table-of-content-source",
))  # fmt: skip


def read_open_document(path: Path, kind: str) -> Document:
    """Return the text of an .odt, .odp or .ods file. Raises DataError if it is damaged."""
    with Package(path) as package:
        if b":encryption-data" in (package.read("META-INF/manifest.xml") or b""):
            raise LockedError(f"{path}: it is encrypted: a copy without a password can be read")
        root = package.required("content.xml")
        reader = _Reader(package, root)
        body = child(root, "office:body")
        inside = next(iter(body), None) if body is not None else None
        if inside is None:
            raise DataError(f"{path}: it is damaged: it has no body")
        if kind == "odp":
            pages = [joined(reader.blocks(page)) for page in inside if kind_of(page) == "draw:page"]
            return Document("\n\n".join(page for page in pages if page), str(path), kind, reader.title())
        # The notes are known when the text has been read.
        return Document(joined(itertools.chain(reader.blocks(inside), reader.notes())), str(path), kind, reader.title())


class _Reader:
    def __init__(self, package: Package, root: Element) -> None:
        self._package = package
        self._lists = _list_forms(root)
        styles = package.xml("styles.xml")
        if styles is not None:
            self._lists = {**_list_forms(styles), **self._lists}
        self._noted: list[str] = []
        self._pending: list[str] = []
        self._counts: dict[str, list[int]] = {}

    def title(self) -> str | None:
        """Return the title that the document's metadata give it."""
        root = self._package.xml("meta.xml")
        texts = (element.text for element in root.iter() if element.tag.endswith("}title")) if root is not None else ()
        return next((" ".join(text.split()) for text in texts if text and text.strip()), None)

    def notes(self) -> Iterator[str]:
        """Yield footnotes and endnotes, in the order of their marks."""
        for number, text in enumerate(self._noted, start=1):
            yield f"[^{number}]: {text}"

    def blocks(self, parent: Iterable[Element]) -> Iterator[str]:
        """Yield the blocks of an element's children."""
        for element in parent:
            kind = kind_of(element)
            if kind in ("text:p", "text:h"):
                yield self._paragraph(element)
                yield from self._take_pending()
            elif kind == "text:list":
                yield from self._list(element, 0, None)
            elif kind == "table:table":
                yield from self._table(element)
            elif kind == "draw:object":
                yield from self._object(element)
            elif kind == "presentation:notes":
                yield from self.blocks(element)
            elif kind == "draw:page-thumbnail" or kind in _LEFT_OUT:
                continue
            elif kind == "text:note":  # outside a paragraph
                yield self._note(element)
            else:
                yield from self.blocks(element)

    def _take_pending(self) -> list[str]:
        pending, self._pending = self._pending, []
        return pending

    def _paragraph(self, element: Element) -> str:
        text = self._text(element).strip("\n")
        if kind_of(element) == "text:h":
            level = attribute(element, "text:outline-level") or "1"
            return heading(text, int(level) if level.isdigit() else 1)
        return text.strip(" ")

    def _text(self, parent: Element) -> str:
        """Return the text in an element; white space counts as in HTML, what is to stay has elements of its own."""
        return _collapsed("".join(self._pieces(parent)))

    def _pieces(self, parent: Element) -> Iterator[str]:
        yield _white_space(parent.text)
        for element in parent:
            kind = kind_of(element)
            if kind in self._INLINE:
                yield self._INLINE[kind](self, element)
            elif kind in _BLOCKS:
                self._pending += self._inside([element])
            elif kind not in _LEFT_OUT:
                yield from self._pieces(element)
            yield _white_space(element.tail)

    def _inside(self, elements: Iterable[Element]) -> list[str]:
        """Return the blocks of elements that stand in a paragraph, without what waits for its end."""
        held, self._pending = self._pending, []
        found = list(self.blocks(elements))
        self._pending = held
        return found

    def _space(self, element: Element) -> str:
        count = attribute(element, "text:c") or "1"
        return _KEPT_SPACE * min(int(count) if count.isdigit() else 1, 1000)

    def _note(self, element: Element) -> str:
        body = child(element, "text:note-body")
        number = len(self._noted)
        self._noted.append("")  # a note in this note comes after it
        self._noted[number] = joined(self._inside(body)) if body is not None else ""
        return f"[^{number + 1}]"

    def _comment(self, element: Element) -> str:
        self._pending += self._inside(one for one in element if kind_of(one) in ("text:p", "text:list"))
        return ""

    def _ruby(self, element: Element) -> str:
        base, above = (self._text(found) if (found := child(element, name)) is not None else ""
                       for name in ("text:ruby-base", "text:ruby-text"))  # fmt: skip
        return f"{base}({above})" if above else base

    _INLINE: ClassVar[dict[str, Callable[[_Reader, Element], str]]] = {
        "text:s": _space, "text:tab": lambda self, element: "\t", "text:line-break": lambda self, element: "\n",
        "text:note": _note, "office:annotation": _comment, "text:ruby": _ruby,
    }  # fmt: skip

    def _list(self, element: Element, level: int, style: str | None) -> Iterator[str]:
        style = attribute(element, "text:style-name") or style
        form, start = self._lists.get(style or "", {}).get(level, (None, 1))
        goes_on = attribute(element, "text:continue-numbering") == "true"
        number = self._counts.get(style or "", [start - 1])[0] if goes_on else start - 1
        for entry in element:
            if kind_of(entry) not in ("text:list-item", "text:list-header"):
                continue
            has_number = kind_of(entry) == "text:list-item"
            own = attribute(entry, "text:start-value")
            number = (int(own) if own and own.isdigit() else number + 1) if has_number else number
            first = True
            for part in entry:
                kind = kind_of(part)
                if kind == "text:list":
                    yield from self._list(part, level + 1, style)
                elif kind in ("text:p", "text:h"):
                    text = self._text(part).strip()
                    mark = (f"{counted(number, form)}." if form else "-") if first else " "
                    if kind == "text:h":
                        yield heading(text, level + 1)
                    else:
                        yield item(text, level, mark) if has_number else text
                    yield from self._take_pending()
                    first = first and not text
                else:
                    yield from self._inside([part])
        self._counts[style or ""] = [number]

    def _table(self, element: Element) -> Iterator[str]:
        name = attribute(element, "table:name")
        rows: list[list[str]] = []
        rich: list[str] = []
        for row in _through(element, "table:table-row"):
            cells: list[str] = []
            for cell in _through(row, "table:table-cell", "table:covered-table-cell"):
                blocks = [block for block in self._inside(cell) + self._take_pending() if block.strip()]
                if len(blocks) > 1 and any(kind_of(one) == "table:table" for one in cell.iter()):
                    rich += blocks
                    continue
                cells += [joined(blocks)] * _repeated(cell, "table:number-columns-repeated")
            while cells and not cells[-1]:
                cells.pop()
            rows += [cells] * (_repeated(row, "table:number-rows-repeated") if cells else 1)
        is_sheet = any(kind_of(one) == "table:shapes" for one in element) or self._package.path.suffix == ".ods"
        text = table(rows)
        if is_sheet and name and text:
            yield heading(name, 2)
        yield text
        yield from rich

    def _object(self, element: Element) -> Iterator[str]:
        """Yield the text of a formula or a chart that lies in a part of its own."""
        part = (attribute(element, "xlink:href") or "").removeprefix("./")
        root = self._package.xml(f"{part}/content.xml") if part else None
        if root is None:
            return
        annotation = next((one for one in root.iter() if kind_of(one) == "math:annotation"), None)
        if annotation is not None and annotation.text:
            yield f"${annotation.text}$"
        elif kind_of(root) == "math:math":
            yield "$" + "".join("".join(root.itertext()).split()) + "$"
        else:
            yield from self.blocks(root)


_BLOCKS = frozenset((
    "draw:frame", "draw:g", "draw:custom-shape", "draw:rect", "draw:text-box", "table:table", "text:list", "text:p",
    "text:h", "draw:object", "draw:line", "draw:ellipse", "draw:connector",
))  # fmt: skip
_KEPT_SPACE = "\ue000"  # a space that was written as such, until the others are collapsed


_BLANKS = str.maketrans("\t\n\r", "   ")


def _white_space(text: str | None) -> str:
    return (text or "").translate(_BLANKS)


def _collapsed(text: str) -> str:
    while "  " in text:
        text = text.replace("  ", " ")
    return text.replace(_KEPT_SPACE, " ")


def _through(parent: Element, *names: str) -> Iterator[Element]:
    """Yield the elements of these names, through groups of rows and columns, not through other tables."""
    for element in parent:
        kind = kind_of(element)
        if kind in names:
            yield element
        elif kind in ("table:table-row-group", "table:table-header-rows", "table:table-rows", "table:table-columns",
                      "table:table-column-group", "text:soft-page-break"):  # fmt: skip
            yield from _through(element, *names)


def _repeated(element: Element, name: str) -> int:
    value = attribute(element, name) or "1"
    count = int(value) if value.isdigit() else 1
    return count if count <= _MOST_REPEATED else 1


def _list_forms(root: Element) -> dict[str, dict[int, tuple[str | None, int]]]:
    """Return each list style's numbering by level: its form (None for bullets) and its first number."""
    forms: dict[str, dict[int, tuple[str | None, int]]] = {}
    for style in root.iter():
        if kind_of(style) != "text:list-style":
            continue
        levels: dict[int, tuple[str | None, int]] = {}
        for level in style:
            at = int(attribute(level, "text:level") or 1) - 1
            if kind_of(level) == "text:list-level-style-number":
                sign = attribute(level, "style:num-format") or ""
                start = attribute(level, "text:start-value") or "1"
                levels[at] = (_FORMS.get(sign), int(start) if start.isdigit() else 1)
        forms[attribute(style, "style:name") or ""] = levels
    return forms
