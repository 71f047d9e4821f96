"""Office files written part by part, so that a test says exactly what is in them."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

from llmbuilder.documents.readers import read_document

RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_NAMES = {
    "w": W, "r": RELATIONS, "a": "http://schemas.openxmlformats.org/drawingml/2006/main",
    "p": "http://schemas.openxmlformats.org/presentationml/2006/main",
    "s": "http://schemas.openxmlformats.org/spreadsheetml/2006/main",
    "m": "http://schemas.openxmlformats.org/officeDocument/2006/math",
    "mc": "http://schemas.openxmlformats.org/markup-compatibility/2006",
    "c": "http://schemas.openxmlformats.org/drawingml/2006/chart",
    "dgm": "http://schemas.openxmlformats.org/drawingml/2006/diagram",
    "wps": "http://schemas.microsoft.com/office/word/2010/wordprocessingShape",
    "v": "urn:schemas-microsoft-com:vml",
}  # fmt: skip
_OPEN = {name: f"urn:oasis:names:tc:opendocument:xmlns:{name}:1.0" for name in (
    "office", "text", "table", "presentation", "style")} | {
    "draw": "urn:oasis:names:tc:opendocument:xmlns:drawing:1.0", "xlink": "http://www.w3.org/1999/xlink",
}  # fmt: skip
NAMESPACES = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in _NAMES.items())
OPEN_NAMESPACES = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in _OPEN.items())


def text_of(path: Path) -> str:
    return read_document(path).text


def archive(path: Path, parts: Mapping[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in parts.items():
            file.writestr(name, content)
    return path


def relations(**targets: str) -> str:
    """Relationships by id; a target is written as "kind target"."""
    found = "".join(
        f'<Relationship Id="{id}" Type="{RELATIONS}/{kind}" Target="{target}"/>'
        for id, (kind, target) in ((id, value.split()) for id, value in targets.items())
    )
    return (
        f'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{found}</Relationships>'
    )


def docx(path: Path, body: str, related: Mapping[str, str] | None = None, **parts: str) -> Path:
    """A Word document; `parts` are the roots of word/NAME.xml, related by that kind; `related` adds others."""
    ids = {f"rId{n}": f"{name} {name}.xml" for n, name in enumerate(parts)} | dict(related or {})
    return archive(path, {
        "_rels/.rels": relations(rId1="officeDocument word/document.xml"),
        "word/document.xml": f"<w:document {NAMESPACES}><w:body>{body}</w:body></w:document>",
        "word/_rels/document.xml.rels": relations(**ids),
        **{f"word/{name}.xml": content.replace(">", f" {NAMESPACES}>", 1) for name, content in parts.items()},
    })  # fmt: skip


def paragraph(*runs: str, properties: str = "") -> str:
    inside = "".join(
        run if run.startswith("<") else f'<w:r><w:t xml:space="preserve">{run}</w:t></w:r>' for run in runs
    )
    return f"<w:p>{f'<w:pPr>{properties}</w:pPr>' if properties else ''}{inside}</w:p>"


def pptx(
    path: Path, *slides: str, more: Mapping[str, str] | None = None, related: Mapping[int, str] | None = None
) -> Path:
    """A deck of slides given by the content of their shape trees; `related` are the relations of a slide's number."""
    ids = {f"rId{n}": f"slide slides/slide{n}.xml" for n in range(1, len(slides) + 1)}
    order = "".join(f'<p:sldId id="{255 + n}" r:id="rId{n}"/>' for n in range(1, len(slides) + 1))
    tree = "<p:sld {}><p:cSld><p:spTree>{}</p:spTree></p:cSld></p:sld>"
    return archive(path, {
        "_rels/.rels": relations(rId1="officeDocument ppt/presentation.xml"),
        "ppt/presentation.xml": f"<p:presentation {NAMESPACES}><p:sldIdLst>{order}</p:sldIdLst></p:presentation>",
        "ppt/_rels/presentation.xml.rels": relations(**ids),
        **{f"ppt/slides/slide{n}.xml": tree.format(NAMESPACES, slide) for n, slide in enumerate(slides, start=1)},
        **{f"ppt/slides/_rels/slide{n}.xml.rels": text for n, text in (related or {}).items()},
        **(more or {}),
    })  # fmt: skip


def shape(*paragraphs: str, kind: str | None = None) -> str:
    """A shape with text; a paragraph is plain text or runs. With `kind` it is a placeholder of that kind."""
    place = f'<p:nvSpPr><p:cNvPr id="2" name="x"/><p:nvPr><p:ph type="{kind}"/></p:nvPr></p:nvSpPr>' if kind else ""
    runs = (text if text.startswith("<") else f"<a:r><a:t>{text}</a:t></a:r>" for text in paragraphs)
    return f"<p:sp>{place}<p:txBody>{''.join(f'<a:p>{one}</a:p>' for one in runs)}</p:txBody></p:sp>"


def open_document(path: Path, body: str, *, styles: str = "", **parts: str) -> Path:
    """An .odt, .odp or .ods file by its suffix; `parts` are others, their names with __ for a slash."""
    kind = {".odt": "text", ".odp": "presentation", ".ods": "spreadsheet"}[path.suffix]
    root = f"<office:document-content {OPEN_NAMESPACES}>"
    return archive(path, {
        "mimetype": f"application/vnd.oasis.opendocument.{kind}",
        "content.xml": f"{root}<office:automatic-styles>{styles}</office:automatic-styles>"
        f"<office:body><office:{kind}>{body}</office:{kind}></office:body></office:document-content>",
        **{name.replace("__", "/") + ".xml": content for name, content in parts.items()},
    })  # fmt: skip


def xlsx(path: Path, sheets: Mapping[str, str], more: Mapping[str, str] | None = None, **related: str) -> Path:
    """A workbook of sheets by name, given by the content of their sheetData; `related` are parts of the workbook."""
    ids = {f"rId{n}": f"worksheet sheet{n}.xml" for n in range(1, len(sheets) + 1)}
    listed = "".join(f'<s:sheet name="{name}" sheetId="{n}" r:id="rId{n}"/>' for n, name in enumerate(sheets, start=1))
    return archive(path, {
        "_rels/.rels": relations(rId1="officeDocument xl/workbook.xml"),
        "xl/workbook.xml": f"<s:workbook {NAMESPACES}><s:sheets>{listed}</s:sheets></s:workbook>",
        "xl/_rels/workbook.xml.rels": relations(**ids, **{name: f"{name} {name}.xml" for name in related}),
        **{f"xl/sheet{n}.xml": f"<s:worksheet {NAMESPACES}><s:sheetData>{data}</s:sheetData></s:worksheet>"
           for n, data in enumerate(sheets.values(), start=1)},
        **{f"xl/{name}.xml": content.replace(">", f" {NAMESPACES}>", 1) for name, content in related.items()},
        **(more or {}),
    })  # fmt: skip
