"""The words in charts and diagrams, which Word, PowerPoint and Excel keep in parts of their own."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from llmbuilder.documents.office_files.formulas import to_latex
from llmbuilder.documents.office_files.layout import Item, item, table
from llmbuilder.documents.office_files.package import child, kind_of

_SHOWN = frozenset(("w:t", "a:t", "m:t", "c:chart", "dgm:relIds"))


def chosen_version(alternatives: Element) -> Element:
    """Return the version of a thing that is read: the new one, unless only the old one holds text."""
    choices = [one for one in alternatives if kind_of(one) in ("mc:Choice", "mc:Fallback")]
    with_text = (one for one in choices if any(kind_of(e) in _SHOWN for e in one.iter()))
    return next(with_text, choices[0] if choices else alternatives)


def text_of(parent: Element) -> str:
    """Return the text of DrawingML's paragraphs, a line for each that is not empty."""
    lines = (paragraph_text(one) for one in parent.iter() if kind_of(one) == "a:p")
    return "\n".join(line for line in lines if line.strip())


def paragraph_text(paragraph: Element) -> str:
    """Return the text of one of DrawingML's paragraphs."""
    return "".join(_pieces(paragraph)).strip("\n")


def _pieces(parent: Element) -> Iterator[str]:
    for element in parent:
        kind = kind_of(element)
        if kind == "a:t":
            yield element.text or ""
        elif kind == "a:br":
            yield "\n"
        elif kind == "a:tab":
            yield "\t"
        elif kind in ("m:oMath", "m:oMathPara"):
            yield f"${to_latex(element)}$"
        elif kind not in ("a:pPr", "a:rPr", "a:endParaRPr"):
            yield from _pieces(element)


def chart_labels(root: Element) -> list[str]:
    """Return a chart's titles, and its series and categories as a table of its numbers."""
    blocks = [text for element in root.iter() if kind_of(element) == "c:title" and (text := text_of(element))]
    columns: list[list[str]] = []
    for series in (element for element in root.iter() if kind_of(element) == "c:ser"):
        name = " ".join(_points(child(series, "c:tx")))
        labels, values = (_points(child(series, one)) for one in ("c:cat", "c:val"))
        labels, values = labels or _points(child(series, "c:xVal")), values or _points(child(series, "c:yVal"))
        if labels and (not columns or columns[0][1:] != labels):
            columns.append(["", *labels])
        columns.append([name, *values])
    rows = max((len(column) for column in columns), default=0)
    grid = [[column[row] if row < len(column) else "" for column in columns] for row in range(rows)]
    return [block for block in (*blocks, table(grid)) if block]


def _points(parent: Element | None) -> list[str]:
    found = parent.iter() if parent is not None else ()
    return [element.text or "" for element in found if kind_of(element) == "c:v"]


def diagram_texts(root: Element) -> list[Item]:
    """Return the texts of a diagram's shapes, as items of a list."""
    points = (element for element in root.iter() if kind_of(element) == "dgm:pt")
    return [item(text, 0, "-") for point in points if (text := text_of(point))]
