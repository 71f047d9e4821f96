"""Which reader takes which kind of file. A new format is a line here and one in `file_types`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from llmbuilder.documents.books import read_epub, read_fb2
from llmbuilder.documents.document import Document
from llmbuilder.documents.emails import read_email
from llmbuilder.documents.file_types import RICH_FORMATS, detect_format, is_outlook
from llmbuilder.documents.kreuzberg_reader import can_read_scans, read_by_kreuzberg
from llmbuilder.documents.markup import read_markup
from llmbuilder.documents.notebooks import read_notebook
from llmbuilder.documents.office_files.doc import read_doc
from llmbuilder.documents.office_files.docx import read_docx
from llmbuilder.documents.office_files.open_document import read_open_document
from llmbuilder.documents.office_files.ppt import read_ppt
from llmbuilder.documents.office_files.pptx import read_pptx
from llmbuilder.documents.office_files.xls import read_xls
from llmbuilder.documents.office_files.xlsx import read_xlsx
from llmbuilder.documents.pdf import read_pdf
from llmbuilder.documents.rtf import read_rtf
from llmbuilder.documents.text import read_text
from llmbuilder.documents.web_pages import read_page
from llmbuilder.errors import DataError, LockedError

_HINT = " (scanned pages? They are read where tesseract is installed)"


def read_mail(path: Path) -> Document:
    """Return a message; those that Outlook saved are not MIME but its own format, which the second reader knows."""
    return read_by_kreuzberg(path, "email") if is_outlook(path) else read_email(path)


_READERS: dict[str, Callable[[Path], Document]] = {
    "html": read_page,
    "docx": read_docx,
    "pptx": read_pptx,
    "xlsx": read_xlsx,
    "xls": read_xls,
    "doc": read_doc,
    "epub": read_epub,
    "fb2": read_fb2,
    "rtf": read_rtf,
    "notebook": read_notebook,
    "ppt": read_ppt,
    "email": read_mail,
    **{kind: functools.partial(read_open_document, kind=kind) for kind in ("odt", "odp", "ods")},
}
# Formats in which a second reader would take the tags for text.
_ALONE: dict[str, Callable[[Path], Document]] = {"xml": read_markup}


def read_document(path: Path, *, ocr: str | None = None) -> Document:
    """Return the document that a file is.

    `ocr` names the languages in which scanned pages of a PDF are read where tesseract is installed, such as "eng+deu".
    Raises DataError, naming the file and the reason, if nothing can be read from it.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    kind = detect_format(path)
    if kind in _ALONE:
        document = _ALONE[kind](path)
    elif kind == "pdf":
        document = read_pdf(path, ocr)
    elif kind in _READERS:
        document = _read_twice(path, kind, ocr)
    elif kind in RICH_FORMATS:
        document = read_by_kreuzberg(path, kind, ocr)
    else:
        document = Document(read_text(path), str(path), kind)
    if not document.text.strip():
        hint = _HINT if kind == "pdf" and (ocr is None or not can_read_scans()) else ""
        raise DataError(f"{path}: no text in it{hint}")
    return document


def _read_twice(path: Path, kind: str, ocr: str | None) -> Document:
    """Return what a format's own reader finds, or a second one where that gives up.

    Raises the DataError of the first.
    """
    try:
        return _READERS[kind](path)
    except LockedError:
        raise
    except DataError as error:
        try:
            return read_by_kreuzberg(path, kind, ocr)
        except DataError:
            reason = str(error).removeprefix(f"{path}: ")
            raise DataError(f"{path}: cannot be read as {kind}: {reason}") from None
