"""A file's own text, taken the dumb way: from where its format keeps text, without any thought of layout.

Nothing here is shared with the package's readers: other parsing, other traversal, other libraries.
"""

from __future__ import annotations

import contextlib
import csv
import email
import email.policy
import io
import json
import posixpath
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from lxml import etree

from llmbuilder.auditing.office_texts import (
    docx_text,
    local_name,
    open_document_text,
    parse_xml,
    pptx_text,
    xlsx_text,
)
from llmbuilder.errors import DataError

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
        container = parse_xml(archive.read("META-INF/container.xml"))
        book = next(one.get("full-path") for one in container.iter() if local_name(one) == "rootfile")
        package = parse_xml(archive.read(book))
        items = {one.get("id"): one.get("href") for one in package.iter() if local_name(one) == "item"}
        order = [
            items[one.get("idref")]
            for one in package.iter()
            if local_name(one) == "itemref"
            if one.get("idref") in items
        ]
        from urllib.parse import unquote

        parts = [posixpath.normpath(posixpath.join(posixpath.dirname(book), unquote(href))) for href in order]
        return "\n".join(_page_text(archive.read(part)) for part in parts if part in archive.namelist())


def _eml(path: Path) -> str:
    message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    return "\n".join((str(message.get("subject", "")), *_mail_texts(message)))


def _mail_texts(part: Any) -> Iterator[str]:
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
    root = parse_xml(path.read_bytes())
    texts = []
    for body in (one for one in root if local_name(one) == "body"):
        for one in body.iter():
            if local_name(one) in ("p", "v", "subtitle", "text-author", "date", "td", "th"):
                texts.append("".join(one.itertext()))
    return "\n".join(texts)


def _rtf(path: Path) -> str:
    """What LibreOffice makes of it, as a DOCX, whose text is taken as any other's."""
    if not path.read_bytes().startswith(b"{\\rtf"):
        raise ValueError("LibreOffice takes a fragment's commands for text")
    return _by_libreoffice(path, "docx")


def _by_libreoffice(path: Path, kind: str) -> str:
    """What LibreOffice makes of it, as a file of today's kind, whose text is taken as any other's."""
    import subprocess

    if shutil.which("soffice") is None:
        raise DataError("it is read again by LibreOffice (soffice), which is not installed")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"a{path.suffix}"
        copy.write_bytes(path.read_bytes())
        own_profile = f"-env:UserInstallation=file://{folder}/profile"  # several may run at once
        command = ["soffice", own_profile, "--headless", "--convert-to", kind, "--outdir", folder, str(copy)]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        return KINDS[kind](copy.with_suffix(f".{kind}"))


def _xml(path: Path) -> str:
    """Text nodes, pages in them by their own, without formulas' second forms and what catalogues need to know."""
    root = parse_xml(path.read_bytes())
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
        if local_name(element) in unseen or (
            local_name(element) == "xref" and local_name(element.getparent()) == "contrib"
        ):
            return
        text = element.text or "" if local_name(element) else ""
        yield _page_text(text) if re.search(r"</\w+>", text) else text
        for one in element:
            yield from texts(one)
            yield one.tail or ""
        parent = element.getparent()
        is_apart = parent is None or not (parent.text or "").strip()
        yield "\n" if local_name(element) in lines and is_apart else ""

    return "".join(texts(root))


def _pdf(path: Path) -> str:
    import pypdfium2

    document = pypdfium2.PdfDocument(path)
    return "\n".join(re.sub("[\ufffe\u00ad]\r?\n?", "", page.get_textpage().get_text_range()) for page in document)


KINDS: dict[str, Callable[[Path], str]] = {
    "docx": docx_text, "pptx": pptx_text, "xlsx": xlsx_text, "rtf": _rtf, "pdf": _pdf, "epub": _epub, "fb2": _fb2,
    "doc": partial(_by_libreoffice, kind="docx"), "xls": partial(_by_libreoffice, kind="xlsx"),
    **dict.fromkeys(("odt", "odp", "ods"), open_document_text), "html": _html, "htm": _html, "eml": _eml,
    "csv": _csv, "jsonl": _jsonl, **dict.fromkeys(("xml", "nxml", "tei"), _xml),
}  # fmt: skip


def own_text(path: Path) -> str:
    """Return a file's own text. Raises whatever its format's library raises for a damaged one."""
    return KINDS[path.suffix.lower().lstrip(".")](path)
