"""Which reader takes which kind of file. A new format is a line here and one in `file_types`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from llmbuilder.documents.document import Document
from llmbuilder.documents.file_types import RICH_FORMATS, detect_format
from llmbuilder.documents.office import can_read_scans, read_office
from llmbuilder.documents.text import read_text
from llmbuilder.documents.web_pages import read_page
from llmbuilder.errors import DataError

_HINT = " (scanned pages? They are read where tesseract is installed)"
_READERS: dict[str, Callable[[Path], Document]] = {"html": read_page}


def read_document(path: Path, *, ocr: str | None = None) -> Document:
    """Return the document that a file is.

    `ocr` names the languages in which scanned pages of a PDF are read where tesseract is installed, such as "eng+deu".
    Raises DataError, naming the file and the reason, if nothing can be read from it.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    kind = detect_format(path)
    if kind in _READERS:
        document = _READERS[kind](path)
    elif kind in RICH_FORMATS:
        document = read_office(path, kind, ocr)
    else:
        document = Document(read_text(path), str(path), kind)
    if not document.text.strip():
        hint = _HINT if kind == "pdf" and (ocr is None or not can_read_scans()) else ""
        raise DataError(f"{path}: no text in it{hint}")
    return document
