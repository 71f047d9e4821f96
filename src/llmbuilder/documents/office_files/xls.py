"""Excel workbooks of 1987 to 2003 (BIFF), as Markdown: each sheet under its name, its comments behind it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from llmbuilder.documents.document import Document
from llmbuilder.documents.office_files.layout import heading, joined, table
from llmbuilder.documents.office_files.xlsx import SINCE_1904, date_text, number_text
from llmbuilder.errors import DataError, LockedError


def read_xls(path: Path) -> Document:
    """Return the text of a workbook, hidden sheets included. Raises DataError if it is damaged or encrypted."""
    import xlrd

    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        try:
            book = xlrd.open_workbook(path, logfile=nowhere)
            blocks = [block for sheet in book.sheets() for block in _sheet(book, sheet)]
        except Exception as error:  # a damaged workbook may raise anything
            if "encrypted" in str(error):
                raise LockedError(f"{path}: it is encrypted: a copy without a password can be read") from error
            raise DataError(f"{path}: it is damaged: {str(error) or type(error).__name__}") from error
    return Document(joined(blocks), str(path), "xls")


def _sheet(book: Any, sheet: Any) -> list[str]:
    rows = [[_cell(book, cell) for cell in row] for row in sheet.get_rows()]
    comments = [note.text for _, note in sorted(sheet.cell_note_map.items())]
    blocks = [block for block in (table(rows), *comments) if block.strip()]
    return [heading(sheet.name, 2), *blocks] if blocks else []


def _cell(book: Any, cell: Any) -> str:
    import xlrd

    if cell.ctype == xlrd.XL_CELL_DATE:
        return date_text(str(cell.value), SINCE_1904 if book.datemode else None)
    if cell.ctype == xlrd.XL_CELL_NUMBER:
        return number_text(str(cell.value))
    if cell.ctype == xlrd.XL_CELL_BOOLEAN:
        return "TRUE" if cell.value else "FALSE"
    if cell.ctype == xlrd.XL_CELL_ERROR:
        return str(xlrd.error_text_from_code.get(cell.value, ""))
    return str(cell.value)
