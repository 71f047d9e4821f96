"""Scanned pages and Outlook's messages, through kreuzberg; the second reader of all others."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from llmbuilder.documents.document import Document
from llmbuilder.documents.file_types import MIME_TYPES, RICH_SUFFIXES
from llmbuilder.documents.markdown import plain_blocks
from llmbuilder.errors import DataError, LockedError

_LEAST_ON_A_PAGE = 20  # characters
_SCANNED_SHARE = 0.2  # of the pages; fewer are blank ones
_WITHOUT_MARKUP = ("pdf", "email")  # lines are what they have; everything else becomes Markdown, tables included


def can_read_scans() -> bool:
    """Whether the program that reads scanned pages is installed."""
    return shutil.which("tesseract") is not None


def read_by_kreuzberg(path: Path, kind: str, ocr: str | None = None) -> Document:
    """Return the text of a file of that kind; `ocr` names the languages of scanned pages, None leaves them.

    Raises DataError if it is damaged or encrypted.
    """
    import kreuzberg

    named = RICH_SUFFIXES.get(path.suffix.lower()) == kind
    mime_type = None if named else MIME_TYPES.get(kind)
    has_markup = kind not in _WITHOUT_MARKUP
    try:
        result = kreuzberg.extract_file_sync(path, mime_type, config=_configuration(markdown=has_markup))
        is_read = kind == "pdf" and ocr is not None and can_read_scans()
        scanned = scanned_pages([page["content"] for page in result.pages or []]) if is_read else []
        if scanned:
            result = kreuzberg.extract_file_sync(path, mime_type, config=_configuration(scanned=scanned, ocr=ocr))
    except (kreuzberg.KreuzbergError, OSError, ValueError, RuntimeError) as error:
        if "password" in str(error).lower():
            raise LockedError(f"{path}: it is encrypted: a copy without a password can be read") from error
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


def scanned_pages(pages: list[str]) -> list[int]:
    """Return the numbers of the pages without text, if they are so many that the file is a scanned one."""
    without = [number for number, text in enumerate(pages, start=1) if len(text.strip()) < _LEAST_ON_A_PAGE]
    return without if len(without) >= _SCANNED_SHARE * len(pages) else []
