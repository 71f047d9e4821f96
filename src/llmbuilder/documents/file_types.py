"""What a file is, by its content first and its name second."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from llmbuilder.errors import DataError

TEXT_SUFFIXES = {
    "": "text", ".txt": "text", ".text": "text", ".log": "text", ".md": "markdown", ".markdown": "markdown",
    ".rst": "restructuredtext", ".org": "org", ".tex": "latex", ".py": "code", ".c": "code", ".h": "code",
    ".cpp": "code", ".js": "code", ".ts": "code", ".java": "code", ".go": "code", ".rs": "code", ".sh": "code",
    # Code that is full of tags stays as it is.
    **dict.fromkeys((
        ".jsx", ".tsx", ".mjs", ".vue", ".svelte", ".astro", ".php", ".jsp", ".jspx", ".asp", ".aspx", ".cshtml",
        ".razor", ".erb", ".ejs", ".hbs", ".mustache", ".j2", ".jinja", ".jinja2", ".njk", ".twig", ".liquid", ".ftl",
        ".vm", ".tmpl", ".tpl", ".haml", ".pug", ".mdx", ".cs", ".kt", ".scala", ".swift", ".dart", ".rb", ".lua",
    ), "code"),
}  # fmt: skip
TABLE_SUFFIXES = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet",
                  ".json": "json"}  # fmt: skip
RICH_SUFFIXES = {
    ".pdf": "pdf", ".docx": "docx", ".doc": "doc", ".pptx": "pptx", ".ppt": "ppt", ".xlsx": "xlsx", ".xls": "xls",
    ".odt": "odt", ".odp": "odp", ".ods": "ods", ".epub": "epub", ".html": "html", ".htm": "html", ".xhtml": "html",
    ".rtf": "rtf", ".eml": "email", ".msg": "email", ".ipynb": "notebook", ".fb2": "fb2",
    **dict.fromkeys((".xml", ".nxml", ".jats", ".dbk", ".docbook", ".tei", ".opml", ".rss", ".atom", ".dita"), "xml"),
}  # fmt: skip
SUPPORTED_SUFFIXES = {**TEXT_SUFFIXES, **TABLE_SUFFIXES, **RICH_SUFFIXES}
RICH_FORMATS = frozenset(RICH_SUFFIXES.values())

_OPEN_DOCUMENT = "application/vnd.oasis.opendocument."
_OFFICE = "application/vnd.openxmlformats-officedocument."
# Told to the parser when a name does not say it.
MIME_TYPES = {
    "pdf": "application/pdf",
    "rtf": "application/rtf",
    "html": "text/html",
    "docx": f"{_OFFICE}wordprocessingml.document",
    "pptx": f"{_OFFICE}presentationml.presentation",
    "xlsx": f"{_OFFICE}spreadsheetml.sheet",
    "odt": f"{_OPEN_DOCUMENT}text",
    "odp": f"{_OPEN_DOCUMENT}presentation",
    "ods": f"{_OPEN_DOCUMENT}spreadsheet",
    "epub": "application/epub+zip",
}
_ZIP_PARTS = {"word/document.xml": "docx", "ppt/presentation.xml": "pptx", "xl/workbook.xml": "xlsx"}
_ZIP_MIME_TYPES = {MIME_TYPES[name]: name for name in ("odt", "odp", "ods", "epub")}
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # the container of .doc, .ppt and .msg
_HTML = re.compile(rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b", re.I | re.S)
_NOT_TEXT = {
    b"\x89PNG\r\n": "a PNG picture", b"\xff\xd8\xff": "a JPEG picture", b"GIF8": "a GIF picture",
    b"\x1f\x8b": "gzip-compressed", b"BZh": "bzip2-compressed", b"\xfd7zXZ": "xz-compressed",
    b"\x28\xb5\x2f\xfd": "zstd-compressed", b"7z\xbc\xaf": "a 7z archive", b"Rar!": "a RAR archive",
    b"\x7fELF": "a program", b"SQLite format 3": "an SQLite database",
}  # fmt: skip
# Text by its bytes, but written by programs for programs.
_FOR_PROGRAMS = frozenset((
    ".svg", ".css", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".conf", ".lock", ".map", ".ps", ".eps",
    ".xpm", ".po", ".pot", ".sql", ".dtd", ".xsd", ".xsl", ".desktop", ".service", ".pem", ".crt", ".asc", ".sig",
    ".diff", ".patch",
))  # fmt: skip
_NOT_AN_ARCHIVE = "it is empty, damaged or no archive at all"
_NOT_READ = dict.fromkeys((".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".mbox", ".warc"), _NOT_AN_ARCHIVE)
_HEAD = 4096
_TAG = re.compile(rb"<[/!?]?[A-Za-z](?![A-Za-z]*://)[^<>]*>")  # <https://example.org/> is an address
_MOST_MARKUP, _LEAST_CLOSING = 0.1, 0.25  # of a file's bytes, of its tags


def needs_parser(path: Path) -> bool:
    """Whether reading the file takes more than decoding text, judged by its name and its first bytes."""
    head = _head(path)
    if path.suffix.lower() in RICH_SUFFIXES or head.startswith(b"PK\x03\x04") or _by_magic(path, head) is not None:
        return True
    return SUPPORTED_SUFFIXES.get(path.suffix.lower(), "text") == "text" and _is_markup(head)


def detect_format(path: Path) -> str:
    """Return the format's name, such as "pdf" or "markdown". Raises DataError for one that is not supported."""
    head = _head(path)
    found = _from_zip(path) if head.startswith(b"PK\x03\x04") else _by_magic(path, head)
    if found is not None:
        return found
    for magic, what in _NOT_TEXT.items():
        if head.startswith(magic):
            raise DataError(f"{path}: it is {what}, not a document")
    suffix = path.suffix.lower()
    if suffix in (".doc", ".xls") and _is_text(head):  # what other programs write for Office to open
        return "xml" if _is_markup(head) else "csv" if suffix == ".xls" else "text"
    if suffix in SUPPORTED_SUFFIXES:
        kind = SUPPORTED_SUFFIXES[suffix]
        return "xml" if kind == "text" and _is_markup(head) else kind
    if suffix not in _FOR_PROGRAMS and _is_text(head):  # README.Debian, letter.final
        return "xml" if _is_markup(head) else "text"
    raise DataError(f"{path}: {_NOT_READ.get(suffix, f'unsupported format {suffix!r}')}")


def _head(path: Path) -> bytes:
    try:
        with open(path, "rb") as handle:
            return handle.read(_HEAD)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _is_text(head: bytes) -> bool:
    """Whether a file that begins so is UTF-8 text, but for a character that the end of `head` may cut."""
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if len(head) < _HEAD or error.start < len(head) - 3:
            return False
        text = head[: error.start].decode("utf-8")
    return bool(text) and all(character >= " " or character in "\t\n\r\f" for character in text)


def _is_markup(head: bytes) -> bool:
    """Whether more than a tenth of a file is tags, many of them closing ones: <nick> of a chat is none."""
    tags = _TAG.findall(head)
    closing = sum(tag.startswith(b"</") or tag.endswith(b"/>") for tag in tags)
    return sum(map(len, tags)) > _MOST_MARKUP * len(head) and closing >= _LEAST_CLOSING * len(tags)


def _by_magic(path: Path, head: bytes) -> str | None:
    suffix = path.suffix.lower()
    if head.startswith(b"%PDF-"):
        return "pdf"
    if head.startswith(b"{\\rtf"):
        return "rtf"
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(OLE):
        return RICH_SUFFIXES.get(suffix, "doc")
    # Source code and Markdown may well begin with a tag; plain text and other documents do not.
    if (TEXT_SUFFIXES.get(suffix) == "text" or suffix in RICH_SUFFIXES) and _HTML.match(
        head.removeprefix(b"\xef\xbb\xbf")
    ):
        return "html"
    return None


def is_outlook(path: Path) -> bool:
    """Whether a message is in Outlook's own format, whatever its name, and not MIME."""
    return _head(path).startswith(OLE)


def is_document_archive(path: Path) -> bool:
    """Whether a zip archive is a document, such as DOCX or EPUB, by what is in it."""
    try:
        return _from_zip(path) is not None
    except DataError:
        return False


def _from_zip(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            for part, name in _ZIP_PARTS.items():
                if part in names:
                    return name
            if "mimetype" in names:
                with archive.open("mimetype") as handle:
                    declared = handle.read(100).decode("ascii", "replace").strip()
                return _ZIP_MIME_TYPES.get(declared)
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, ValueError):
        return None  # the parser will say what is wrong with it
    if path.suffix.lower() in RICH_SUFFIXES:
        return None
    raise DataError(f"{path}: it is a zip archive, not a document: unpack it")
