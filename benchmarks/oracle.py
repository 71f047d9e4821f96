"""A file's own text, taken the dumb way: from where its format keeps text, without any thought of layout.

Nothing here is shared with the package's readers: other XML parsing, other traversal, other libraries.
"""

from __future__ import annotations

import contextlib
import csv
import datetime
import email
import email.policy
import io
import json
import posixpath
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from lxml import etree

_PARSER = etree.XMLParser(resolve_entities=False, huge_tree=True, recover=True, remove_comments=True, remove_pis=True)


def _parse(content: bytes) -> etree._Element:
    return etree.fromstring(content, _PARSER)


def _name(element: etree._Element) -> str:
    return etree.QName(element).localname if isinstance(element.tag, str) else ""


class _Office:
    """Texts of runs (`t`), with a space for whatever separates them; deleted revisions and repeated versions left out.

    Text boxes stand behind the paragraph that they are anchored in, charts and diagrams where they are referred to.
    """

    def __init__(self, archive: zipfile.ZipFile, part: str) -> None:
        self._archive = archive
        self._relations = _relations(archive, part)
        self._boxes: list[str] = []

    def text(self, root: etree._Element) -> str:
        return "".join(self._texts(root))

    def _texts(self, root: etree._Element) -> Iterator[str]:
        name = _name(root)
        if name in ("del", "moveFrom", "rPr", "pPr", "instrText", "delText", "tcPr", "sdtPr"):
            return
        if name == "AlternateContent":
            for version in root:
                if any(_name(one) in ("t", "chart", "relIds") for one in version.iter()):
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
            parts = {_name(one): self.text(one).strip() for one in root}
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
        root = _parse(self._archive.read(part))
        if _name(root) != "chartSpace":
            return "\n".join(
                "".join(one.itertext()) for one in root.iter() if _name(one) == "t" and _name(one.getparent()) != "pt"
            )
        titles = ["".join(one.itertext()) for one in root.iter() if _name(one) == "t"]
        return "\n".join(titles + self._table([one for one in root.iter() if _name(one) == "ser"]))

    @staticmethod
    def _table(series: list[etree._Element]) -> list[str]:
        """A chart's numbers row by row, as its sheet has them."""
        columns: list[list[str]] = []
        for one in series:
            parts = {_name(part): [v.text or "" for v in part.iter() if _name(v) == "v"] for part in one}
            labels = parts.get("cat") or parts.get("xVal") or []
            if labels and (not columns or columns[0][1:] != labels):
                columns.append(["", *labels])
            columns.append([" ".join(parts.get("tx", [])), *(parts.get("val") or parts.get("yVal") or [])])
        rows = max((len(column) for column in columns), default=0)
        return [" ".join(column[row] for column in columns if row < len(column)) for row in range(rows)]


def _relations(archive: zipfile.ZipFile, part: str) -> dict[str, str]:
    folder, name = posixpath.split(part)
    try:
        root = _parse(archive.read(posixpath.join(folder, "_rels", f"{name}.rels")))
    except KeyError:
        return {}
    return {
        one.get("Id", ""): posixpath.normpath(posixpath.join("/", folder, one.get("Target", ""))).lstrip("/")
        for one in root
        if one.get("TargetMode") != "External"
    }


def _docx(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        main = next(name for name in archive.namelist() if re.fullmatch(r"word/document\d*\.xml", name, re.I))
        texts = [_Office(archive, main).text(_parse(archive.read(main)))]
        for name in ("footnotes", "endnotes", "comments"):
            if (part := f"word/{name}.xml") in archive.namelist():
                texts.append(_Office(archive, part).text(_parse(archive.read(part))))
    return "\n".join(texts)


def _pptx(path: Path) -> str:
    texts = []
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        main = _parse(archive.read("ppt/presentation.xml"))
        relations = _relations(archive, "ppt/presentation.xml")
        ids = [v for one in main.iter() if _name(one) == "sldId" for k, v in one.items() if k.endswith("}id")]
        for slide in (relations[id] for id in ids if relations.get(id) in names):
            texts.append(_Office(archive, slide).text(_without_furniture(_parse(archive.read(slide)))))
            others = [part for part in _relations(archive, slide).values() if part in names]
            for kind in ("notesSlide", "comment"):
                for part in (one for one in others if kind in one):
                    root = _without_furniture(_parse(archive.read(part)))
                    texts.append(_Office(archive, part).text(root))
                    texts += [one.text or "" for one in root.iter() if _name(one) == "text"]
    return "\n".join(texts)


def _without_furniture(root: etree._Element) -> etree._Element:
    """A slide without what repeats on every one: its number, date, header and footer."""
    for shape in [one for one in root.iter() if _name(one) == "sp"]:
        kinds = [one.get("type") for one in shape.iter() if _name(one) == "ph"]
        if set(kinds) & {"sldNum", "dt", "ftr", "hdr", "sldImg"}:
            shape.getparent().remove(shape)
    return root


def _xlsx(path: Path) -> str:
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
        relations = _relations(archive, "xl/workbook.xml")
        sheets = [one for one in _parse(archive.read("xl/workbook.xml")).iter() if _name(one) == "sheet"]
        parts = {one.get("name", ""): next((v for k, v in one.items() if k.endswith("}id")), "") for one in sheets}
        found: dict[str, list[str]] = {}
        for name, id in parts.items():
            for part in _relations(archive, relations.get(id, "")).values():
                if "/drawings/drawing" in part and part in archive.namelist():
                    found.setdefault(name, []).append(_Office(archive, part).text(_parse(archive.read(part))))
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


def _odf(path: Path) -> str:
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
        root = _parse(self._archive.read(part))
        body = next((one for one in root if _name(one) == "body"), None)
        if body is None:  # a formula
            kept = [one for one in root.iter() if _name(one) == "annotation"]
            return kept[0].text or "" if kept else "".join(root.itertext())
        found = "".join(self._texts(body))
        return found + "\n" + "\n".join(self._notes)

    def _texts(self, root: etree._Element) -> Iterator[str]:
        name = _name(root)
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
        inside = _name(parent) in ("p", "h", "span", "a") if parent is not None else False
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


_DECLARATION = re.compile(r"\s*<\?xml[^>]*>")


def _page_text(content: bytes | str) -> str:
    from lxml import html

    if isinstance(content, bytes):
        with contextlib.suppress(UnicodeDecodeError):  # what is not declared is Latin-1 to the parser
            content = _DECLARATION.sub("", content.decode("utf-8-sig"), count=1)
    root = html.fromstring(content)
    for one in root.xpath("//script|//style|//template|//noscript|//head"):
        one.drop_tree()
    inline = {
        "a", "b", "i", "em", "strong", "span", "font", "u", "s", "sub", "sup", "small", "big", "code", "tt", "abbr",
        "cite", "q", "mark", "kbd", "var", "samp", "dfn", "del", "ins", "wbr", "bdi", "bdo", "acronym", "strike",
    }  # fmt: skip

    def texts(element: etree._Element, is_code: bool = False) -> Iterator[str]:
        is_block = not (isinstance(element.tag, str) and element.tag in inline)
        is_code = is_code or element.tag == "pre"
        yield "\n" if is_block else ""
        yield written(element.text if isinstance(element.tag, str) else "", is_code)
        for one in element:
            yield from texts(one, is_code)
            yield written(one.tail, is_code)
        yield "\n" if is_block else ""

    def written(text: str | None, is_code: bool) -> str:
        return (text or "") if is_code else re.sub(r"\s+", " ", text or "")

    return "".join(texts(root))


def _html(path: Path) -> str:
    return _page_text(path.read_bytes())


def _epub(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        container = _parse(archive.read("META-INF/container.xml"))
        book = next(one.get("full-path") for one in container.iter() if _name(one) == "rootfile")
        package = _parse(archive.read(book))
        items = {one.get("id"): one.get("href") for one in package.iter() if _name(one) == "item"}
        order = [
            items[one.get("idref")] for one in package.iter() if _name(one) == "itemref" if one.get("idref") in items
        ]
        from urllib.parse import unquote

        parts = [posixpath.normpath(posixpath.join(posixpath.dirname(book), unquote(href))) for href in order]
        return "\n".join(_page_text(archive.read(part)) for part in parts if part in archive.namelist())


def _eml(path: Path) -> str:
    message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    return "\n".join((str(message.get("subject", "")), *_mail_texts(message)))


def _mail_texts(part: email.message.EmailMessage) -> Iterator[str]:
    """Bodies, one of those that say the same, and attachments."""
    kind, suffix = part.get_content_type(), posixpath.splitext(part.get_filename() or "")[1].lower().lstrip(".")
    if kind == "multipart/alternative" and (body := part.get_body(("plain", "html"))) is not None:
        yield from _mail_texts(body)
    elif kind == "message/rfc822":
        inner = part.get_content()
        yield str(inner.get("subject", ""))
        yield from _mail_texts(inner)
    elif part.is_multipart():
        for one in part.iter_parts():
            yield from _mail_texts(one)
    elif kind in ("text/plain", "text/html"):
        content = part.get_content()
        yield _page_text(content) if kind == "text/html" else content
    elif suffix in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / f"a.{suffix}"
            copy.write_bytes(part.get_payload(decode=True))
            with contextlib.suppress(Exception):  # a damaged one is refused, and counts for nothing
                yield own_text(copy)


def _csv(path: Path) -> str:
    text = path.read_bytes().decode("utf-8-sig")
    try:
        dialect = csv.Sniffer().sniff(text[:4096], ",;\t|").delimiter
    except csv.Error:
        dialect = ","
    return "\n".join(field for row in csv.reader(io.StringIO(text, newline=""), delimiter=dialect) for field in row)


def _jsonl(path: Path) -> str:
    def strings(value: object) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict | list):
            for one in value.values() if isinstance(value, dict) else value:
                yield from strings(one)

    return "\n".join(
        text for line in path.read_text("utf-8-sig").splitlines() if line.strip() for text in strings(json.loads(line))
    )


def _fb2(path: Path) -> str:
    root = _parse(path.read_bytes())
    texts = []
    for body in (one for one in root if _name(one) == "body"):
        for one in body.iter():
            if _name(one) in ("p", "v", "subtitle", "text-author", "date", "td", "th"):
                texts.append("".join(one.itertext()))
    return "\n".join(texts)


def _rtf(path: Path) -> str:
    """What LibreOffice makes of it, as a DOCX, whose text is taken as any other's."""
    if not path.read_bytes().startswith(b"{\\rtf"):
        raise ValueError("LibreOffice takes a fragment's commands for text")
    return _by_libreoffice(path, "docx")


def _doc(path: Path) -> str:
    """What LibreOffice makes of it, as a DOCX."""
    return _by_libreoffice(path, "docx")


def _xls(path: Path) -> str:
    """What LibreOffice makes of it, as a workbook of today, whose text is taken as any other's."""
    return _by_libreoffice(path, "xlsx")


def _by_libreoffice(path: Path, kind: str) -> str:
    import subprocess

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"a{path.suffix}"
        copy.write_bytes(path.read_bytes())
        own_profile = f"-env:UserInstallation=file://{folder}/profile"  # several may run at once
        command = ["soffice", own_profile, "--headless", "--convert-to", kind, "--outdir", folder, str(copy)]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        return KINDS[kind](copy.with_suffix(f".{kind}"))


def _xml(path: Path) -> str:
    """Text nodes, pages in them by their own, without formulas' second forms and what catalogues need to know."""
    root = _parse(path.read_bytes())
    unseen = {
        "tex-math", "object-id", "graphic", "contrib-id", "journal-meta", "article-id", "article-categories",
        "pub-date", "history", "volume", "issue", "elocation-id", "fpage", "lpage", "counts", "custom-meta-group",
        "self-uri", "email", "institution-id", "role", "copyright-year", "copyright-holder", "encodingDesc",
        "profileDesc", "revisionDesc", "publicationStmt", "publication-reference", "application-reference",
        "us-parties", "parties", "assignees", "classifications-ipcr", "classifications-cpc",
        "classification-national", "us-application-series-code", "examiners", "us-references-cited",
        "us-field-of-classification-search", "figures", "us-related-documents", "us-term-of-grant", "processing-meta",
    }  # fmt: skip
    lines = {
        "p", "para", "title", "td", "th", "entry", "cell", "head", "item", "fn", "label", "surname", "given-names",
        "aff", "xref", "year", "source", "name", "article-title", "subtitle", "kwd", "pub-id", "ext-link",
        "institution",
    }  # fmt: skip

    def texts(element: etree._Element) -> Iterator[str]:
        if _name(element) in unseen or (_name(element) == "xref" and _name(element.getparent()) == "contrib"):
            return
        text = element.text or "" if _name(element) else ""
        yield _page_text(text) if re.search(r"</\w+>", text) else text
        for one in element:
            yield from texts(one)
            yield one.tail or ""
        parent = element.getparent()
        is_apart = parent is None or not (parent.text or "").strip()
        yield "\n" if _name(element) in lines and is_apart else ""

    return "".join(texts(root))


def _pdf(path: Path) -> str:
    import pypdfium2

    document = pypdfium2.PdfDocument(path)
    return "\n".join(re.sub("[\ufffe\u00ad]\r?\n?", "", page.get_textpage().get_text_range()) for page in document)


KINDS: dict[str, Callable[[Path], str]] = {
    "docx": _docx, "pptx": _pptx, "xlsx": _xlsx, "odt": _odf, "odp": _odf, "ods": _odf, "html": _html, "htm": _html,
    "epub": _epub, "eml": _eml, "csv": _csv, "jsonl": _jsonl, "fb2": _fb2, "pdf": _pdf, "rtf": _rtf,
    "xls": _xls, "doc": _doc, "xml": _xml, "nxml": _xml, "tei": _xml,
}  # fmt: skip


def own_text(path: Path) -> str:
    """Return a file's own text. Raises whatever its format's library raises for a damaged one."""
    return KINDS[path.suffix.lower().lstrip(".")](path)
