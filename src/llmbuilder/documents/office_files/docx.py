"""Word documents from their XML (ECMA-376 part 1, 17), as Markdown: every letter, in order.

Paragraphs, headings, lists with their numbers, tables, text boxes, footnotes, endnotes, comments, formulas, labels of
charts and diagrams. What a revision inserted is text, what it deleted is not. Running headers and footers are notes of
the document.
"""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar
from xml.etree.ElementTree import Element

from llmbuilder.documents.document import Document
from llmbuilder.documents.html_blocks import decode_page, page_text
from llmbuilder.documents.office_files.drawings import chart_labels, chosen_version, diagram_texts
from llmbuilder.documents.office_files.formulas import to_latex
from llmbuilder.documents.office_files.layout import Item, counted, heading, item, joined, table
from llmbuilder.documents.office_files.package import Package, attribute, child, kind_of
from llmbuilder.documents.text import decode_text
from llmbuilder.errors import DataError

_SIGNS = {"w:tab": "\t", "w:ptab": "\t", "w:br": "\n", "w:cr": "\n", "w:noBreakHyphen": "\u2011", "w:softHyphen": ""}
_LEFT_OUT = frozenset(("w:del", "w:moveFrom", "w:delText", "w:instrText", "w:rPr", "w:pPr", "w:sdtPr", "w:sectPr",
                       "w:tblPr", "w:tblGrid", "w:trPr", "w:tcPr", "w:footnoteRef", "w:endnoteRef",
                       "w:fldData"))  # fmt: skip
_HEADING = re.compile(r"heading (\d)", re.I)
_SYMBOL_FONT = 0xF000  # where Word keeps the characters of fonts such as Symbol and Wingdings
# Symbol's characters that are letters or signs of Unicode, by their place in the font.
_SYMBOLS = dict(zip(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "αβχδεφγηιϕκλμνοπθρστυϖωξψζΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ", strict=True)) | {
    "\xb3": "≥", "\xa3": "≤", "\xb9": "≠", "\xb1": "±", "\xb4": "×", "\xb7": "•", "\xae": "→", "\xac": "←", "\xa5": "∞",
    "\xb0": "°", "\xb6": "∂", "\xd6": "√", "\xe5": "∑", "\xf2": "∫", "\xce": "∈", "\xbb": "≈", "\xba": "≡", "\xb8": "÷",
}  # fmt: skip
# Wingdings' characters that say something; its others are ornaments.
_WINGDINGS = {"\xfc": "✓", "\xfb": "✗", "\xfe": "☑", "\xfd": "☒", "\xa8": "☐", "o": "☐", "\xe0": "→", "\xdf": "←",
              "\xe8": "➔", "\xf0": "⇨", "\xf3": "⇔", "J": "☺", "L": "☹"}  # fmt: skip
_PAGES = (".html", ".htm", ".xhtml")


def read_docx(path: Path) -> Document:
    """Return a Word document's text. Raises DataError if it is damaged."""
    with Package(path) as package:
        return _Reader(package).document()


class _Reader:
    def __init__(self, package: Package) -> None:
        self._package = package
        self._part = package.main_part("word/document.xml")
        self._relations = package.targets(self._part)
        self._styles = _Styles(self._root_of("styles"))
        self._lists = _Lists(self._root_of("numbering"))
        self._notes: dict[str, dict[str, Element]] = {
            kind: self._notes_of(f"{kind}s", f"w:{kind}") for kind in ("footnote", "endnote", "comment")
        }
        self._cited: list[tuple[str, str]] = []  # kind and id of the notes, in the order of their numbers
        self._pending: list[str] = []  # blocks that stand behind the paragraph they are anchored in
        self._unread: dict[str, str] = {}

    def document(self) -> Document:
        root = self._package.required(self._part)
        blocks = list(self._blocks(child(root, "w:body") or root))
        blocks += self._note_blocks()
        notes = {name: text for name in ("header", "footer") if (text := self._running(name))}
        path = str(self._package.path)
        return Document(joined(blocks), path, "docx", self._title(), notes=notes, unread=self._unread)

    def _root_of(self, kind: str) -> Element | None:
        parts = self._package.related(self._part, kind)
        return self._package.xml(parts[0]) if parts else None

    def _notes_of(self, kind: str, name: str) -> dict[str, Element]:
        root = self._root_of(kind)
        found = root if root is not None else ()
        # Separators have types; Word gives them the ids -1 and 0, other programs 0 and 1.
        return {
            attribute(note, "w:id") or "": note
            for note in found
            if kind_of(note) == name and attribute(note, "w:type") in (None, "normal")
        }

    def _title(self) -> str | None:
        for part in self._package.related("", "core-properties"):
            root = self._package.xml(part)
            for element in root if root is not None else ():
                if element.tag.endswith("}title") and (element.text or "").strip():
                    return " ".join((element.text or "").split())
        return None

    def _running(self, kind: str) -> str:
        """Return what headers or footers say, each text once."""
        texts = []
        for part in self._package.related(self._part, kind):
            root = self._package.xml(part)
            if root is not None:
                texts.append(joined(self._blocks(root)))
        return "\n".join(dict.fromkeys(text for text in texts if text.strip()))

    def _note_blocks(self) -> Iterator[str]:
        number = 0
        while number < len(self._cited):  # a note may cite another one
            kind, id = self._cited[number]
            number += 1
            yield Item(f"[^{number}]: " + self._inside(self._notes[kind][id]).replace("\n", "\n    "))
        for id in self._notes["comment"]:
            yield self._inside(self._notes["comment"][id])

    def _inside(self, element: Element) -> str:
        return joined(self._blocks(element))

    def _blocks(self, parent: Element) -> Iterator[str]:
        for element in parent:
            kind = kind_of(element)
            if kind == "w:p":
                yield self._paragraph(element)
                pending, self._pending = self._pending, []
                yield from pending
            elif kind == "w:tbl":
                yield from self._table(element)
            elif kind == "m:oMathPara":
                yield f"$${to_latex(element)}$$"
            elif kind == "mc:AlternateContent":
                yield from self._blocks(chosen_version(element))
            elif kind == "w:altChunk":
                yield self._chunk(element)
            elif kind not in _LEFT_OUT:
                yield from self._blocks(element)

    def _chunk(self, element: Element) -> str:
        """Return a document that another program put into this one as a part, in its own format."""
        part = self._relations.get(attribute(element, "r:id") or "") or "altChunk"
        suffix = posixpath.splitext(part)[1].lower()
        try:
            content = self._package.read(part)
            if content is None:
                raise DataError("the document names this part and does not have it")
            if suffix in _PAGES:
                return page_text(decode_page(content, part))
            if suffix == ".docx":
                with Package(self._package.path, content) as package:
                    return _Reader(package).document().text
            if suffix == ".txt":
                return decode_text(content, part)
            raise DataError(f"parts in the format {suffix!r} are not read")
        except DataError as error:
            self._unread[part] = str(error).removeprefix(f"{self._package.path}: ")
            return ""

    def _paragraph(self, paragraph: Element) -> str:
        properties = child(paragraph, "w:pPr")
        text = "".join(self._texts(paragraph))
        style = attribute(child(properties, "w:pStyle"), "w:val")
        level = self._styles.level(style, properties)
        if level:
            return heading(text, level)
        listed = self._styles.numbering(style, properties)
        mark = self._lists.mark(*listed) if listed is not None and text.strip() else None
        if mark is not None and listed is not None:
            return item(text.strip(), listed[1], mark)
        return text.strip("\n")

    def _texts(self, parent: Element) -> Iterator[str]:
        for element in parent:
            kind = kind_of(element)
            if kind == "w:t":
                yield element.text or ""
            elif kind in _SIGNS:
                yield _SIGNS[kind]
            elif kind in self._INLINE:
                yield self._INLINE[kind](self, element)
            elif kind not in _LEFT_OUT:
                yield from self._texts(element)

    def _symbol(self, element: Element) -> str:
        code, font = attribute(element, "w:char"), attribute(element, "w:font") or ""
        try:
            number = int(code or "", 16)
        except ValueError:
            return ""
        character = chr(number - _SYMBOL_FONT if _SYMBOL_FONT <= number < _SYMBOL_FONT + 256 else number)
        if font.casefold() == "symbol":
            return _SYMBOLS.get(character, character)
        if font.casefold() == "wingdings":
            return _WINGDINGS.get(character, "")
        return character if number < _SYMBOL_FONT else ""  # a picture in a font such as Webdings

    def _note_mark(self, element: Element) -> str:
        kind = kind_of(element).removeprefix("w:").removesuffix("Reference")
        id = attribute(element, "w:id") or ""
        if id not in self._notes[kind]:
            return ""
        if (kind, id) not in self._cited:
            self._cited.append((kind, id))
        return f"[^{self._cited.index((kind, id)) + 1}]"

    def _formula(self, element: Element) -> str:
        sign = "$$" if kind_of(element) == "m:oMathPara" else "$"
        latex = to_latex(element)
        return f"{sign}{latex}{sign}" if latex else ""

    def _ruby(self, element: Element) -> str:
        base, above = ("".join(self._texts(found)) if (found := child(element, name)) is not None else ""
                       for name in ("w:rubyBase", "w:rt"))  # fmt: skip
        return f"{base}({above})" if above else base

    def _alternatives(self, element: Element) -> str:
        return "".join(self._texts(chosen_version(element)))

    def _box(self, element: Element) -> str:
        """Keep the blocks of a text box for behind the paragraph."""
        held, self._pending = self._pending, []
        inside = list(self._blocks(element))
        self._pending = [*held, *inside]
        return ""

    def _chart(self, element: Element) -> str:
        part = self._relations.get(attribute(element, "r:id") or "")
        root = self._package.xml(part)
        self._pending += chart_labels(root) if root is not None else []
        return ""

    def _diagram(self, element: Element) -> str:
        root = self._package.xml(self._relations.get(attribute(element, "r:dm") or ""))
        self._pending += diagram_texts(root) if root is not None else []
        return ""

    def _check_box(self, element: Element) -> str:
        state = child(element, "w:checked")
        state = state if state is not None else child(element, "w:default")
        return "☒" if state is not None and attribute(state, "w:val") not in ("0", "false", "off") else "☐"

    def _choice(self, element: Element) -> str:
        """Return the entry that is chosen of a list in a form."""
        entries = [attribute(one, "w:val") or "" for one in element if kind_of(one) == "w:listEntry"]
        chosen = attribute(child(element, "w:result"), "w:val") or attribute(child(element, "w:default"), "w:val")
        number = int(chosen) if chosen and chosen.isdigit() else 0
        return entries[number] if number < len(entries) else ""

    _INLINE: ClassVar[dict[str, Callable[[_Reader, Element], str]]] = {
        "w:sym": _symbol, "w:footnoteReference": _note_mark, "w:endnoteReference": _note_mark, "m:oMath": _formula,
        "m:oMathPara": _formula, "w:ruby": _ruby, "mc:AlternateContent": _alternatives, "w:txbxContent": _box,
        "c:chart": _chart, "dgm:relIds": _diagram, "w:checkBox": _check_box, "w:ddList": _choice,
    }  # fmt: skip

    def _table(self, element: Element) -> Iterator[str]:
        """Yield a table; one that lays out a page, with blocks or tables in its cells, becomes those blocks."""
        rows = [
            [(cell, [block for block in self._blocks(cell) if block.strip()]) for cell in _descendants(row, "w:tc")]
            for row in _descendants(element, "w:tr")
        ]
        cells = [pair for row in rows for pair in row]
        if any(len(blocks) > 1 and _is_rich(cell) for cell, blocks in cells):
            yield from (block for _, blocks in cells for block in blocks)
            return
        yield table([
            [text for cell, blocks in row for text in (joined(blocks), *[""] * (_span(cell) - 1))] for row in rows
        ])  # fmt: skip


def _is_rich(cell: Element) -> bool:
    """Whether a cell holds more than paragraphs."""
    return any(kind_of(element) in ("w:tbl", "w:txbxContent") for element in cell.iter())


def _descendants(parent: Element, name: str) -> Iterator[Element]:
    """Yield the nearest elements of a name, through content controls and revisions, not through others of the name."""
    for element in parent:
        kind = kind_of(element)
        if kind == name:
            yield element
        elif kind not in _LEFT_OUT and kind not in ("w:p", "w:tbl"):
            yield from _descendants(element, name)


def _span(cell: Element) -> int:
    value = attribute(child(cell, "w:tcPr", "w:gridSpan"), "w:val") or "1"
    return min(int(value), 1000) if value.isdigit() else 1


class _Styles:
    """What paragraph styles say of headings and lists; one that says nothing says what it is based on does."""

    def __init__(self, root: Element | None) -> None:
        self._styles = {attribute(style, "w:styleId"): style for style in root} if root is not None else {}

    def _chain(self, id: str | None) -> Iterator[Element]:
        seen = set()
        while id in self._styles and id not in seen:
            seen.add(id)
            style = self._styles[id]
            yield style
            id = attribute(child(style, "w:basedOn"), "w:val")

    def level(self, id: str | None, properties: Element | None) -> int | None:
        """Return the level of a heading, None for what is none."""
        for style in self._chain(id):
            name = attribute(child(style, "w:name"), "w:val") or ""
            if match := _HEADING.fullmatch(name):
                return int(match[1])
            if name.casefold() == "title":
                return 1
        places = [properties, *(child(style, "w:pPr") for style in self._chain(id))]
        values = (attribute(child(place, "w:outlineLvl"), "w:val") for place in places)
        outline = next((value for value in values if value), None)
        return int(outline) + 1 if outline is not None and outline.isdigit() and int(outline) < 9 else None

    def numbering(self, id: str | None, properties: Element | None) -> tuple[str, int] | None:
        """Return the list and the level of an item, None for what is none."""
        level = None
        for place in [properties, *(child(style, "w:pPr") for style in self._chain(id))]:
            found = child(place, "w:numPr")
            if found is None:
                continue
            level = level or attribute(child(found, "w:ilvl"), "w:val")
            number = attribute(child(found, "w:numId"), "w:val")
            if number is not None:
                return None if number == "0" else (number, int(level) if level and level.isdigit() else 0)
        return None


class _Lists:
    """Counts the items of numbered lists."""

    def __init__(self, root: Element | None) -> None:
        elements = list(root) if root is not None else []
        abstract = {attribute(e, "w:abstractNumId"): e for e in elements if kind_of(e) == "w:abstractNum"}
        self._forms: dict[str, dict[int, tuple[str | None, int]]] = {}
        self._shared: dict[str, str] = {}  # lists of one kind go on counting
        for element in (e for e in elements if kind_of(e) == "w:num"):
            number, base = attribute(element, "w:numId"), attribute(child(element, "w:abstractNumId"), "w:val")
            if number is None:
                continue
            overrides = [e for e in element if kind_of(e) == "w:lvlOverride"]
            levels = [e for e in abstract.get(base, ()) if kind_of(e) == "w:lvl"]
            self._forms[number] = {int(attribute(e, "w:ilvl") or 0): _form(e) for e in levels}
            for override in overrides:
                at = int(attribute(override, "w:ilvl") or 0)
                start = attribute(child(override, "w:startOverride"), "w:val")
                own = child(override, "w:lvl")
                form, begin = _form(own) if own is not None else self._forms[number].get(at, ("decimal", 1))
                self._forms[number][at] = (form, int(start) if start and start.isdigit() else begin)
            restarts = any(child(e, "w:startOverride") is not None for e in overrides)
            self._shared[number] = number if restarts or base is None else f"of {base}"
        self._counts: dict[str, dict[int, int]] = defaultdict(dict)

    def mark(self, number: str, level: int) -> str | None:
        """Return what stands before the next item of a list, None if nothing does."""
        form, start = self._forms.get(number, {}).get(level, ("bullet", 1))
        if form == "none":
            return None
        counts = self._counts[self._shared.get(number, number)]
        counts[level] = counts.get(level, start - 1) + 1
        for deeper in [one for one in counts if one > level]:
            del counts[deeper]
        return "-" if form == "bullet" else f"{counted(counts[level], form)}."


def _form(level: Element) -> tuple[str | None, int]:
    start = attribute(child(level, "w:start"), "w:val")
    form = attribute(child(level, "w:numFmt"), "w:val")
    return form, int(start) if start and start.isdigit() else 1
