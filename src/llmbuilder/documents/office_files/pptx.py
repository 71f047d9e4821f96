"""PowerPoint decks from their XML (ECMA-376 part 1, 19), as Markdown: each slide's text in order, then its notes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

from llmbuilder.documents.document import Document
from llmbuilder.documents.office_files.drawings import (
    chart_labels,
    chosen_version,
    diagram_texts,
    paragraph_text,
    text_of,
)
from llmbuilder.documents.office_files.layout import heading, item, joined, table
from llmbuilder.documents.office_files.package import Package, attribute, child, kind_of

_TITLES = ("title", "ctrTitle")
_FURNITURE = ("sldNum", "dt", "ftr", "hdr", "sldImg")  # placeholders that repeat on every slide


def read_pptx(path: Path) -> Document:
    """Return the text of a deck, slide by slide. Raises DataError if it is damaged."""
    with Package(path) as package:
        main = package.main_part("ppt/presentation.xml")
        targets = package.targets(main)
        listed = child(package.required(main), "p:sldIdLst")
        parts = [targets.get(attribute(slide, "r:id") or "") for slide in (listed if listed is not None else ())]
        slides = [joined(_Slide(package, part).blocks()) for part in parts if part is not None]
    return Document("\n\n".join(slide for slide in slides if slide), str(path), "pptx")


class _Slide:
    def __init__(self, package: Package, part: str) -> None:
        self._package = package
        self._part = part
        self._relations = package.targets(part)

    def blocks(self) -> Iterator[str]:
        root = self._package.xml(self._part)
        if root is None:
            return
        yield from self._shapes(child(root, "p:cSld", "p:spTree"))
        for part in self._package.related(self._part, "notesSlide"):
            notes = self._package.xml(part)
            yield from _Slide(self._package, part)._shapes(child(notes, "p:cSld", "p:spTree"))
        for kind in ("comments", "comment"):
            for part in self._package.related(self._part, kind):
                yield from _comments(self._package.xml(part))

    def _shapes(self, tree: Element | None) -> Iterator[str]:
        for element in tree if tree is not None else ():
            kind = kind_of(element)
            if kind == "p:sp":
                yield from self._shape(element)
            elif kind == "a:tbl":
                yield self._table(element)
            elif kind == "c:chart":
                yield from chart_labels(self._related(element, "r:id"))
            elif kind == "dgm:relIds":
                yield from diagram_texts(self._related(element, "r:dm"))
            elif kind == "mc:AlternateContent":
                yield from self._shapes(chosen_version(element))
            else:
                yield from self._shapes(element)

    def _related(self, element: Element, name: str) -> Element:
        root = self._package.xml(self._relations.get(attribute(element, name) or ""))
        return root if root is not None else Element("nothing")

    def _shape(self, shape: Element) -> Iterator[str]:
        place = child(shape, "p:nvSpPr", "p:nvPr", "p:ph")
        kind = attribute(place, "type") if place is not None else None
        if kind in _FURNITURE:
            return
        body = child(shape, "p:txBody")
        paragraphs = [one for one in (body if body is not None else ()) if kind_of(one) == "a:p"]
        if kind in _TITLES:
            yield heading(" ".join(paragraph_text(one) for one in paragraphs), 1)
            return
        has_bullets = place is not None and kind in (None, "body", "obj") and len(paragraphs) > 1
        for paragraph in paragraphs:
            properties = child(paragraph, "a:pPr")
            level = attribute(properties, "lvl") or "0"
            depth = int(level) if level.isdigit() else 0
            text = paragraph_text(paragraph)
            own = [kind_of(one) for one in properties] if properties is not None else []
            marked = "a:buChar" in own or "a:buAutoNum" in own or (has_bullets and "a:buNone" not in own) or depth
            yield item(text, depth, "-") if marked else text

    def _table(self, element: Element) -> str:
        rows = (row for row in element if kind_of(row) == "a:tr")
        return table([[text_of(cell) for cell in row if kind_of(cell) == "a:tc"] for row in rows])


def _comments(root: Element | None) -> Iterator[str]:
    for element in root.iter() if root is not None else ():
        if kind_of(element) == "p:text":
            yield element.text or ""
        elif kind_of(element) == "p188:txBody":
            yield text_of(element)
