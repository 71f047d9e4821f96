"""One file to documents, through kreuzberg for everything that is not plain text.

Plain text is read here so that nothing in it changes: its encoding is detected, and a binary file under a
text name is refused instead of becoming noise in a corpus.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmbuilder.documents.document import Document
from llmbuilder.documents.file_types import MIME_TYPES, RICH_FORMATS, RICH_SUFFIXES, TABLE_SUFFIXES, detect_format
from llmbuilder.documents.markdown import plain_blocks
from llmbuilder.documents.web_pages import main_blocks
from llmbuilder.errors import DataError

_LEAST_ON_A_PAGE = 20  # characters
_SCANNED_SHARE = 0.2  # of the pages; fewer are blank ones
_WITHOUT_MARKUP = ("pdf", "email")  # lines are what they have; everything else becomes Markdown, tables included
_HINT = " (scanned pages? They are read where tesseract is installed)"
_TEXT_COLUMNS = ("text", "content", "body", "document", "article", "prompt")


def extract_file(path: Path, *, text_column: str | None = None, ocr: str | None = None) -> list[Document]:
    """Return the documents in a file: one, or one a row for CSV and JSON Lines.

    `text_column` names the column with the text (default: text, content or body, else the longest). `ocr` names the
    languages in which scanned pages of a PDF are read where tesseract is installed, such as "eng+deu".
    Raises DataError, naming the file and the reason, if nothing can be read from it.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    kind = detect_format(path)
    if kind in TABLE_SUFFIXES.values():
        documents = list(_read_table(path, kind, text_column))
    elif kind == "html":
        documents = [_read_page(path)]
    elif kind in RICH_FORMATS:
        documents = [_read_rich(path, kind, ocr)]
    else:
        documents = [Document(read_text(path), str(path), kind)]
    documents = [document for document in documents if document.text.strip()]
    if not documents:
        reason = "no text in it" + (_HINT if kind == "pdf" and (ocr is None or not _can_read_scans()) else "")
        raise DataError(f"{path}: {reason}")
    return documents


def read_text(path: Path) -> str:
    """Return the text of a plain text file, detecting its encoding. Raises DataError for a binary file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    return decode_text(content, str(path))


def decode_text(content: bytes, name: str) -> str:
    """Decode bytes that should be text: byte-order mark, UTF-8, else the detected encoding."""
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if content.startswith(mark):
            return _decode(content, encoding, name)
    if b"\0" in content:
        raise DataError(f"{name}: it is a binary file, not text")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        pass
    import charset_normalizer

    matches = charset_normalizer.from_bytes(content[: 1 << 20])
    best = matches.best()
    if best is None or _control_share(str(best)) > 0.02:
        raise DataError(f"{name}: it is a binary file, or text in an encoding that could not be recognised")
    # Short texts fit several Latin code pages equally well; Windows-1252 is by far the commonest of them.
    alike = {match.encoding for match in matches if match.chaos == best.chaos}
    return _decode(content, "cp1252" if "cp1252" in alike else best.encoding, name)


def _decode(content: bytes, encoding: str, name: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: not valid {encoding} text: {error.reason} at byte {error.start}") from error


def _control_share(text: str) -> float:
    return sum(character < " " and character not in "\t\n\r\f" for character in text) / max(1, len(text))


def _read_table(path: Path, kind: str, column: str | None) -> Iterator[Document]:
    rows = list(_json_rows(path) if kind == "jsonl" else _csv_rows(path))
    if not rows:
        raise DataError(f"{path}: no rows in it")
    column = column or guess_text_column(rows)
    if not any(column in row for row in rows):
        raise DataError(f"{path}: no column {column!r}; its columns are {', '.join(map(str, rows[0]))}")
    for number, row in enumerate(rows, start=1):
        if row.get(column):
            title = row.get("title")
            yield Document(str(row[column]), f"{path}#{number}", kind, str(title) if title else None)


def guess_text_column(rows: list[dict[str, Any]]) -> str:
    named = next((name for name in _TEXT_COLUMNS if name in rows[0]), None)
    return named or max(rows[0], key=lambda name: sum(len(str(row.get(name) or "")) for row in rows[:100]))


def _csv_rows(path: Path) -> Iterator[dict[str, Any]]:
    text = read_text(path)
    try:
        dialect: Any = csv.Sniffer().sniff(text[:20000], delimiters=",;\t|")
    except csv.Error:
        dialect = csv.excel_tab if path.suffix.lower() == ".tsv" else csv.excel
    csv.field_size_limit(1 << 30)
    try:
        yield from csv.DictReader(io.StringIO(text, newline=""), dialect=dialect)
    except csv.Error as error:
        raise DataError(f"{path}: not a readable table: {error}") from error


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}: line {number} is not JSON: {error.msg}") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}: line {number} is not a JSON object")
        yield row


def _read_page(path: Path) -> Document:
    import kreuzberg
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding
    from resiliparse.parse.html import HTMLTree

    content = path.read_bytes()
    tree = HTMLTree.parse(bytes_to_str(content, detect_encoding(content) or "utf-8"))
    if tree.body is None:
        raise DataError(f"{path}: no text in it")
    main = extract_plain_text(tree, main_content=True, alt_texts=False, noscript=False)
    config = kreuzberg.ExtractionConfig(use_cache=False, enable_quality_processing=False, output_format="markdown")
    try:
        # The body alone: of a whole page the head is written into the text.
        result = kreuzberg.extract_bytes_sync(tree.body.html.encode("utf-8"), "text/html", config=config)
    except (kreuzberg.KreuzbergError, ValueError, RuntimeError) as error:
        raise DataError(f"{path}: cannot be read as html: {str(error).splitlines()[0]}") from error
    return Document(main_blocks(result.content, main), str(path), "html", " ".join((tree.title or "").split()) or None)


def _can_read_scans() -> bool:
    return shutil.which("tesseract") is not None


def _read_rich(path: Path, kind: str, ocr: str | None) -> Document:
    import kreuzberg

    named = RICH_SUFFIXES.get(path.suffix.lower()) == kind
    mime_type = None if named else MIME_TYPES.get(kind)
    has_markup = kind not in _WITHOUT_MARKUP
    try:
        result = kreuzberg.extract_file_sync(path, mime_type, config=_configuration(markdown=has_markup))
        scanned = _scanned_pages(result) if kind == "pdf" and ocr is not None and _can_read_scans() else []
        if scanned:
            result = kreuzberg.extract_file_sync(path, mime_type, config=_configuration(scanned=scanned, ocr=ocr))
    except (kreuzberg.KreuzbergError, OSError, ValueError, RuntimeError) as error:
        if "password" in str(error).lower():
            raise DataError(f"{path}: it is encrypted: a copy without a password can be read") from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: cannot be read as {kind}: {reason}") from error
    # Pages that were read from pictures are only in the whole text.
    pages = [page["content"] for page in result.pages or []] if kind == "pdf" and not scanned else None
    text = "\n\n".join(pages or (plain_blocks(result.content) if has_markup else [result.content]))
    return Document(text, str(path), kind, result.metadata.get("title") or None, pages)


def _configuration(*, markdown: bool = False, scanned: list[int] | None = None, ocr: str | None = None) -> Any:
    import kreuzberg

    # Running headers and footers are kept here: removing them is a cleaning rule that can be switched and counted.
    return kreuzberg.ExtractionConfig(
        use_cache=False,
        enable_quality_processing=False,
        output_format="markdown" if markdown else "plain",
        pages=kreuzberg.PageConfig(extract_pages=True),
        content_filter=kreuzberg.ContentFilterConfig(
            include_headers=True, include_footers=True, strip_repeating_text=False
        ),
        ocr=kreuzberg.OcrConfig(backend="tesseract", language=ocr) if ocr else None,
        force_ocr_pages=scanned,
    )


def _scanned_pages(result: Any) -> list[int]:
    """Return the numbers of the pages without text, if they are so many that the file is a scanned one."""
    pages = [page["content"] for page in result.pages or []]
    without = [number for number, text in enumerate(pages, start=1) if len(text.strip()) < _LEAST_ON_A_PAGE]
    return without if len(without) >= _SCANNED_SHARE * len(pages) else []
