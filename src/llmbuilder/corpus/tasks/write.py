"""Refined rows and decisions to the documents that stay, and an account of those that do not."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow

from llmbuilder.corpus.load_report import LoadReport
from llmbuilder.corpus.schemas import DOCUMENTS, DROPPED, EXCERPT
from llmbuilder.corpus.store import Row, Store, part_sizes
from llmbuilder.documents.document import text_checksum
from llmbuilder.documents.tables import iter_parquet_rows
from llmbuilder.duplicates.lines import remove_lines
from llmbuilder.files import file_checksum, write_json
from llmbuilder.stages import ONLY_REPEATED_LINES


class WriteDocuments:
    """Writes the files of a unit that belong to the finished corpus."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._folder = Path(settings["folder"])
        lines = settings["lines"]
        self._repeated = np.load(lines) if lines else np.zeros(0, np.uint64)

    def run(self, unit: dict[str, Any]) -> dict[str, Any]:
        """Write the unit's files and its receipt, which holds all counts."""
        decided = {row: (stage, reason, of) for row, stage, reason, of in unit["drops"]}
        report = LoadReport()
        report.counts["lines removed"] = 0

        def kept() -> Iterator[Row]:
            for number, row in enumerate(iter_parquet_rows(unit["input"])):
                if row["stage"] is None and number in decided:
                    row["stage"], row["reason"], row["of"] = decided[number]
                elif row["stage"] is None and len(self._repeated):
                    report.counts["lines removed"] += self._without_repeated_lines(row)
                _account(row, report)
                if row["stage"] is None:
                    yield {**row, "id": _identity(row)}

        documents = _write_named(self._folder / "documents", DOCUMENTS, kept())
        dropped = _write_named(self._folder / "dropped", DROPPED, report.dropped)
        write_json(unit["path"], {**report.summary(), "documents_file": documents, "dropped_file": dropped})
        return {"unit": unit["unit"]}

    def _without_repeated_lines(self, row: Row) -> int:
        text, removed = remove_lines(row["text"], self._repeated)
        if not text.strip():
            row["stage"], row["reason"] = "lines", ONLY_REPEATED_LINES
        elif removed:
            row.update(text=text, characters=len(text), checksum=text_checksum(text))
        return removed


def _account(row: Row, report: LoadReport) -> None:
    report.find(row["format"], row["original_characters"] or 0)
    report.leave(json.loads(row["metadata"] or "{}"))
    for kind in ("cleaning", "redacted"):
        report.change(kind, json.loads(row[kind] or "{}"))
    report.change("rules skipped", json.loads(row["skipped"] or "{}"))
    if row["stage"] is not None:
        more = {name: row[name] for name in ("collection", "characters", "language")}
        excerpt = (row["text"] or "")[:EXCERPT]
        report.drop(
            row["source"], row["stage"], row["reason"], form=row["format"], of=row.get("of"), excerpt=excerpt, **more
        )
        return
    report.keep(row["format"], row["characters"])
    report.counts["bytes"] += len(row["text"].encode("utf-8", "replace"))
    report.group("languages", row["language"] or "unknown")
    report.group("collections", row["collection"])
    report.group("lengths", str(max(1, row["characters"]).bit_length() - 1))


def _identity(row: Row) -> str:
    return hashlib.sha256(f"{row['source']}\0{row['checksum']}".encode("utf-8", "replace")).hexdigest()[:24]


def _write_named(folder: Path, schema: pyarrow.Schema, rows: Iterable[Row]) -> str | None:
    """Write rows as a Parquet file named by its content; None if there are none."""
    temporary = folder / f".writing-{uuid.uuid4().hex}"
    try:
        Store(folder, schema).write(temporary, ["all"], {}, lambda number: rows)
        if part_sizes(temporary)[0][1] == 0:
            return None
        name = f"{file_checksum(temporary)[:24]}.parquet"
        os.replace(temporary, folder / name)
        return name
    finally:
        temporary.unlink(missing_ok=True)
