"""Excel workbooks from their XML (ECMA-376 part 1, 18), as Markdown: each sheet under its name, dates as dates."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

from llmbuilder.documents.document import Document
from llmbuilder.documents.office_files.drawings import chart_labels, text_of
from llmbuilder.documents.office_files.layout import heading, joined, table
from llmbuilder.documents.office_files.package import Package, attribute, child, kind_of

_MOST_GAP = 200  # empty rows or columns between two cells that are worth keeping
_DATE_FORMATS = frozenset((*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)))  # built in, 18.8.30
SINCE_1904 = datetime.datetime(1904, 1, 1)
_NOT_IN_FORMAT = re.compile(r'"[^"]*"|\\.|\[[^\]]*\]|_.|\*.')


def read_xlsx(path: Path) -> Document:
    """Return the text of a workbook, hidden sheets included. Raises DataError if it is damaged."""
    with Package(path) as package:
        main = package.main_part("xl/workbook.xml")
        root = package.required(main)
        book = _Book(package, main, root)
        targets = package.targets(main)
        listed = child(root, "s:sheets")
        blocks: list[str] = []
        for sheet in listed if listed is not None else ():
            found = list(book.sheet(targets.get(attribute(sheet, "r:id") or "", "")))
            if any(found):
                blocks += [heading(attribute(sheet, "name") or "", 2), *found]
    return Document(joined(blocks), str(path), "xlsx")


class _Book:
    def __init__(self, package: Package, main: str, root: Element) -> None:
        self._package = package
        self._strings = [_rich_text(one) for part in package.related(main, "sharedStrings") for one in self._root(part)]
        self._dates = _date_styles([self._root(part) for part in package.related(main, "styles")])
        properties = child(root, "s:workbookPr")
        self._begin = SINCE_1904 if attribute(properties, "date1904") in ("1", "true") else None

    def _root(self, part: str) -> Element:
        root = self._package.xml(part)
        return root if root is not None else Element("nothing")

    def sheet(self, part: str) -> Iterator[str]:
        """Yield the cells of a sheet as a table, then what is drawn on it and its comments."""
        root = self._root(part)
        rows: list[list[str]] = []
        data = child(root, "s:sheetData")
        for number, row in enumerate(data if data is not None else (), start=1):
            place = attribute(row, "r")
            missing = (int(place) if place and place.isdigit() else number) - len(rows) - 1
            rows += [[]] * max(0, min(missing, _MOST_GAP))
            rows.append(self._row(row))
        yield table(rows)
        for drawing in self._package.related(part, "drawing"):
            targets = self._package.targets(drawing)
            for anchor in self._root(drawing):
                yield text_of(anchor)
                for chart in (one for one in anchor.iter() if kind_of(one) == "c:chart"):
                    yield from chart_labels(self._root(targets.get(attribute(chart, "r:id") or "", "")))
        for kind in ("comments", "threadedComment"):
            for comments in self._package.related(part, kind):
                for comment in self._root(comments).iter():
                    if kind_of(comment) == "s:comment":
                        yield _rich_text(comment)

    def _row(self, row: Element) -> list[str]:
        cells: list[str] = []
        for cell in row:
            column = _column(attribute(cell, "r"))
            missing = (column if column is not None else len(cells)) - len(cells)
            cells += [""] * max(0, min(missing, _MOST_GAP))
            cells.append(self._cell(cell))
        return cells

    def _cell(self, cell: Element) -> str:
        kind, value = attribute(cell, "t"), child(cell, "s:v")
        if kind == "inlineStr":
            return _rich_text(child(cell, "s:is"))
        text = (value.text or "") if value is not None else ""
        if kind == "s":
            return self._strings[int(text)] if text.isdigit() and int(text) < len(self._strings) else ""
        if kind == "b":
            return {"1": "TRUE", "0": "FALSE"}.get(text, text)
        if kind in ("str", "e", "d"):
            return text
        style = attribute(cell, "s") or ""
        return date_text(text, self._begin) if style in self._dates and text else number_text(text)


def date_text(text: str, begin: datetime.datetime | None) -> str:
    """Return a number of days as a date, a time, or both; `begin` is the first day where it is not 1900's."""
    try:
        days = float(text)
        # Excel counts a 29 February 1900 that never was.
        begin = begin or datetime.datetime(1899, 12, 30 if days >= 60 else 31)
        moment = begin + datetime.timedelta(seconds=round(days * 86400))
    except (ValueError, OverflowError):
        return text
    if 0 <= days < 1:
        return moment.strftime("%H:%M:%S").removesuffix(":00")
    written = moment.date().isoformat()
    return written if not days % 1 else f"{written} {moment.strftime('%H:%M:%S').removesuffix(':00')}"


def _rich_text(element: Element | None) -> str:
    """Return the text of runs; readings above the line (phonetic hints) repeat it and are left out."""
    if element is None:
        return ""
    parts = []
    for one in element:
        kind = kind_of(one)
        if kind == "s:t":
            parts.append(one.text or "")
        elif kind not in ("s:rPh", "s:rPr", "s:phoneticPr"):
            parts.append(_rich_text(one))
    return "".join(parts)


def number_text(text: str) -> str:
    """Return a number as people write it: Excel keeps 0.1 + 0.2 as 0.30000000000000004."""
    try:
        value = float(text)
    except ValueError:
        return text
    if value.is_integer() and abs(value) <= 1 << 53:
        return str(int(value))
    return f"{value:.15g}"


def _column(place: str | None) -> int | None:
    """Return the number of a cell's column, A being 0."""
    number = 0
    for letter in place or "":
        if not letter.isalpha():
            break
        number = number * 26 + ord(letter.upper()) - ord("A") + 1
    return number - 1 if number else None


def _date_styles(roots: list[Element]) -> set[str]:
    """Return the numbers of the cell styles that show dates or times."""
    found: set[str] = set()
    for root in roots:
        formats = child(root, "s:numFmts")
        listed = formats if formats is not None else ()
        custom = {attribute(one, "numFmtId"): attribute(one, "formatCode") or "" for one in listed}
        styles = child(root, "s:cellXfs")
        for number, style in enumerate(styles if styles is not None else ()):
            id = attribute(style, "numFmtId") or "0"
            code = _NOT_IN_FORMAT.sub("", custom.get(id, "")).split(";")[0]
            if (id in custom and re.search("[dmyhs]", code, re.I)) or (id not in custom and int(id) in _DATE_FORMATS):
                found.add(str(number))
    return found
