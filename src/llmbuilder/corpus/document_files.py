"""The finished files of documents as the split and the tokenizer see them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llmbuilder.documents.tables import iter_parquet_rows


@dataclass(frozen=True)
class DocumentFile:
    """A finished file of documents, with the characters and the checksum of each."""

    path: Path
    lengths: list[int]
    checksums: list[str]

    @classmethod
    def open(cls, path: Path) -> DocumentFile:
        """Read the lengths and checksums of a file of documents."""
        rows = list(iter_parquet_rows(path, ["characters", "checksum"]))
        return cls(path, [row["characters"] for row in rows], [row["checksum"] for row in rows])
