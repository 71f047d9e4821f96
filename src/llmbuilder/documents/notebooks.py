"""Jupyter notebooks (nbformat 3 and 4): text cells as they stand, code and what it wrote as code blocks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmbuilder.documents.document import Document
from llmbuilder.documents.text import read_text
from llmbuilder.errors import DataError


def read_notebook(path: Path) -> Document:
    """Return the cells of a notebook, in order. Raises DataError if it is none."""
    try:
        notebook = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: it is no notebook: {error}") from error
    if not isinstance(notebook, dict):
        raise DataError(f"{path}: it is no notebook: it holds no cells")
    metadata = _object(notebook.get("metadata"))
    language = _object(metadata.get("language_info")).get("name") or _object(metadata.get("kernelspec")).get("language")
    sheets = [notebook, *_objects(notebook.get("worksheets"))]
    cells = [cell for sheet in sheets for cell in _objects(sheet.get("cells"))]
    blocks = (block for cell in cells for block in _blocks(cell, str(language or cell.get("language") or "")))
    text = "\n\n".join(block for block in blocks if block.strip())
    return Document(text, str(path), "notebook", str(metadata.get("title") or "") or None)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str:
    """Return text that may be stored as a list of its lines."""
    if isinstance(value, list):
        return "".join(one for one in value if isinstance(one, str))
    return value if isinstance(value, str) else ""


def _blocks(cell: dict[str, Any], language: str) -> Iterator[str]:
    kind = cell.get("cell_type")
    source = _text(cell.get("source", cell.get("input"))).strip("\n")
    if kind == "code":
        yield _fenced(source, language)
        for output in _objects(cell.get("outputs")):
            yield _fenced(_written(output).strip("\n"), "")
    elif kind == "heading":
        level = cell.get("level")
        yield f"{'#' * (level if isinstance(level, int) and 0 < level < 7 else 1)} {source}"
    else:
        yield source


def _written(output: dict[str, Any]) -> str:
    """Return the text that an output is; what only names a picture is none."""
    data = _object(output.get("data")) or output
    if any(str(kind).startswith("image/") or kind in ("png", "jpeg", "svg") for kind in data):
        return ""
    return _text(data.get("text/plain", data.get("text")))


def _fenced(text: str, language: str) -> str:
    fence = "```" if "```" not in text else "~~~~"
    return f"{fence}{language}\n{text}\n{fence}" if text.strip() else ""
