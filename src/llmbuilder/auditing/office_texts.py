"""The text of office files, taken the dumb way: from where their formats keep it, without any thought of layout.

Nothing here is shared with the package's readers: other XML parsing, other traversal, other libraries.
"""

from __future__ import annotations

import datetime
import posixpath
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from lxml import etree

_PARSER = etree.XMLParser(resolve_entities=False, huge_tree=True, recover=True, remove_comments=True, remove_pis=True)


def parse_xml(content: bytes) -> etree._Element:
    return etree.fromstring(content, _PARSER)


def local_name(element: etree._Element) -> str:
    return etree.QName(element).localname if isinstance(element.tag, str) else ""


class _Office:
    """Texts of runs (`t`), with a space for whatever separates them; deleted revisions and repeated versions left out.

    Text boxes stand behind the paragraph that they are anchored in, charts and diagrams where they are referred to.
    """

    def __init__(self, archive: zipfile.ZipFile, part: str) -> None:
        self._archive = archive
        self._relations = relations(archive, part)
        self._boxes: list[str] = []

    def text(self, root: etree._Element) -> str:
        return "".join(self._texts(root))

    def _texts(self, root: etree._Element) -> Iterator[str]:
        name = local_name(root)
        if name in ("del", "moveFrom", "rPr", "pPr", "instrText", "delText", "tcPr", "sdtPr"):
            return
        if name == "AlternateContent":
            for version in root:
                if any(local_name(one) in ("t", "chart", "relIds") for one in version.iter()):
                    yield from self._texts(version)
                    return
        elif name == "fld" and root.get("type", "").startswith(("slidenum", "datetime")):
            return
        elif name == "txbxContent":
            held, self._boxes = self._boxes, []
            inside = "".join(text for one in root for text in self._texts(one))
            self._boxes = [*held, inside + "".join(self._boxes)]
        elif name in ("chart", "relIds") and (ids := [v for k, v in root.items() if k.endswith(("}id", "}dm"))]):
            yield self._drawn(self._relations.get(ids[0], ""))
        elif name == "ruby":
            parts = {local_name(one): self.text(one).strip() for one in root}
            yield f"{parts.get('rubyBase', '')} {parts.get('rt', '')}"
        elif name == "t":
            yield root.text or ""
        elif name in ("tab", "br", "cr", "ptab"):
            yield " "
        elif name == "noBreakHyphen":
            yield "-"
        else:
            for one in root:
                yield from self._texts(one)
            if name in ("p", "tc", "oMath", "rt", "fName", "num", "den", "sub", "sup", "e", "deg", "lim"):
                yield "\n"
            if name == "p":
                boxes, self._boxes = self._boxes, []
                yield from boxes

    def _drawn(self, part: str) -> str:
        if part not in self._archive.namelist():
            return ""
        root = parse_xml(self._archive.read(part))
        if local_name(root) != "chartSpace":
            return "\n".join(
                "".join(one.itertext())
                for one in root.iter()
                if local_name(one) == "t" and local_name(one.getparent()) != "pt"
            )
        titles = ["".join(one.itertext()) for one in root.iter() if local_name(one) == "t"]
        return "\n".join(titles + self._table([one for one in root.iter() if local_name(one) == "ser"]))

    @staticmethod
    def _table(series: list[etree._Element]) -> list[str]:
        """A chart's numbers row by row, as its sheet has them."""
        columns: list[list[str]] = []
        for one in series:
            parts = {local_name(part): [v.text or "" for v in part.iter() if local_name(v) == "v"] for part in one}
            labels = parts.get("cat") or parts.get("xVal") or []
            if labels and (not columns or columns[0][1:] != labels):
                columns.append(["", *labels])
            columns.append([" ".join(parts.get("tx", [])), *(parts.get("val") or parts.get("yVal") or [])])
        rows = max((len(column) for column in columns), default=0)
        return [" ".join(column[row] for column in columns if row < len(column)) for row in range(rows)]


def relations(archive: zipfile.ZipFile, part: str) -> dict[str, str]:
    folder, name = posixpath.split(part)
    try:
        root = parse_xml(archive.read(posixpath.join(folder, "_rels", f"{name}.rels")))
    except KeyError:
        return {}
    return {
        one.get("Id", ""): posixpath.normpath(posixpath.join("/", folder, one.get("Target", ""))).lstrip("/")
        for one in root
        if one.get("TargetMode") != "External"
    }


def docx_text(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        main = next(name for name in archive.namelist() if re.fullmatch(r"word/document\d*\.xml", name, re.I))
        texts = [_Office(archive, main).text(parse_xml(archive.read(main)))]
        for name in ("footnotes", "endnotes", "comments"):
            if (part := f"word/{name}.xml") in archive.namelist():
                texts.append(_Office(archive, part).text(parse_xml(archive.read(part))))
    return "\n".join(texts)


def pptx_text(path: Path) -> str:
    texts = []
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        main = parse_xml(archive.read("ppt/presentation.xml"))
        targets = relations(archive, "ppt/presentation.xml")
        ids = [v for one in main.iter() if local_name(one) == "sldId" for k, v in one.items() if k.endswith("}id")]
        for slide in (targets[id] for id in ids if targets.get(id) in names):
            texts.append(_Office(archive, slide).text(_without_furniture(parse_xml(archive.read(slide)))))
            others = [part for part in relations(archive, slide).values() if part in names]
            for kind in ("notesSlide", "comment"):
                for part in (one for one in others if kind in one):
                    root = _without_furniture(parse_xml(archive.read(part)))
                    texts.append(_Office(archive, part).text(root))
                    texts += [one.text or "" for one in root.iter() if local_name(one) == "text"]
    return "\n".join(texts)


def _without_furniture(root: etree._Element) -> etree._Element:
    """A slide without what repeats on every one: its number, date, header and footer."""
    for shape in [one for one in root.iter() if local_name(one) == "sp"]:
        kinds = [one.get("type") for one in shape.iter() if local_name(one) == "ph"]
        if set(kinds) & {"sldNum", "dt", "ftr", "hdr", "sldImg"}:
            shape.getparent().remove(shape)
    return root


def xlsx_text(path: Path) -> str:
    import openpyxl

    book = openpyxl.load_workbook(path, data_only=True)
    drawn = _drawn_on_sheets(path)
    texts = []
    for sheet in book:
        values, comments = [], []
        if isinstance(sheet, openpyxl.worksheet.worksheet.Worksheet):
            cells = [cell for row in sheet.iter_rows() for cell in row]
            values = [_cell_text(cell.value) for cell in cells if cell.value is not None]
            comments = [cell.comment.text for cell in cells if cell.comment is not None]
        drawings = drawn.get(sheet.title, [])
        texts += [sheet.title, *values, *comments, *drawings] if values or comments or drawings else []
    return "\n".join(texts)


def _drawn_on_sheets(path: Path) -> dict[str, list[str]]:
    """Texts of boxes and charts by the names of the sheets that they are drawn on."""
    with zipfile.ZipFile(path) as archive:
        targets = relations(archive, "xl/workbook.xml")
        sheets = [one for one in parse_xml(archive.read("xl/workbook.xml")).iter() if local_name(one) == "sheet"]
        parts = {one.get("name", ""): next((v for k, v in one.items() if k.endswith("}id")), "") for one in sheets}
        found: dict[str, list[str]] = {}
        for name, id in parts.items():
            for part in relations(archive, targets.get(id, "")).values():
                if "/drawings/drawing" in part and part in archive.namelist():
                    found.setdefault(name, []).append(_Office(archive, part).text(parse_xml(archive.read(part))))
    return found


def _cell_text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    if isinstance(value, datetime.datetime | datetime.time):
        return (
            value.isoformat(" ").removesuffix(":00") if isinstance(value, datetime.datetime) else value.isoformat()[:5]
        )
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def open_document_text(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        return _OpenDocument(archive).text("content.xml")


class _OpenDocument:
    """Text nodes of paragraphs; notes at the end, text boxes behind their paragraph, formulas and charts in place."""

    _BREAKS = frozenset(("p", "h", "table-cell", "line-break", "tab", "s", "table"))
    _UNSEEN = frozenset((
        "tracked-changes", "note-citation", "desc", "title", "creator", "date", "forms", "footer-decl", "shapes",
        "header-decl", "date-time-decl", "creator-initials", "sender-initials", "event-listeners", "page-thumbnail",
        "index-title-template",
    ))  # fmt: skip
    _NO_TEXT = frozenset((
        "list", "list-item", "list-header", "table", "table-row", "text", "body", "spreadsheet", "presentation",
        "frame",
        "text-box", "table-cell", "section", "page", "notes", "g", "annotation", "note-body", "index-body",
    ))  # fmt: skip

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._notes: list[str] = []
        self._boxes: list[str] = []
        self._is_sheet = archive.filename is not None and archive.filename.endswith(".ods")

    def text(self, part: str) -> str:
        root = parse_xml(self._archive.read(part))
        body = next((one for one in root if local_name(one) == "body"), None)
        if body is None:  # a formula
            kept = [one for one in root.iter() if local_name(one) == "annotation"]
            return kept[0].text or "" if kept else "".join(root.itertext())
        found = "".join(self._texts(body))
        return found + "\n" + "\n".join(self._notes)

    def _texts(self, root: etree._Element) -> Iterator[str]:
        name = local_name(root)
        if name in self._UNSEEN:
            return
        if name == "note":
            self._notes.append("")
            number = len(self._notes) - 1
            self._notes[number] = "".join(text for one in root for text in self._texts(one))
            return
        if name == "object":
            part = (root.get("{http://www.w3.org/1999/xlink}href") or "").removeprefix("./") + "/content.xml"
            yield "\n" + _OpenDocument(self._archive).text(part) + "\n" if part in self._archive.namelist() else ""
            return
        parent = root.getparent()
        inside = local_name(parent) in ("p", "h", "span", "a") if parent is not None else False
        if inside and name in ("frame", "annotation", "g", "custom-shape", "rect"):
            held, self._boxes = self._boxes, []
            box = "".join(text for one in root for text in self._texts(one))
            self._boxes = [*held, box + "".join(self._boxes)]
            return
        if name == "table" and self._is_sheet:
            yield next((v for k, v in root.items() if k.endswith("}name")), "") + "\n"
        is_text = name not in self._NO_TEXT
        yield (root.text or "") if is_text else ""
        for one in root:
            yield from self._texts(one)
            yield (one.tail or "") if is_text else ""
        if name in self._BREAKS:
            yield " " if name in ("tab", "s", "line-break") else "\n"
        if name in ("p", "h"):
            boxes, self._boxes = self._boxes, []
            yield "\n" + "\n".join(boxes) if boxes else ""
