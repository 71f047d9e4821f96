"""The finished files of documents as the split and the tokenizer see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmbuilder.documents.tables import iter_parquet_rows
from llmbuilder.tokens.splitting import choose_split


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


def split_files(files: Sequence[DocumentFile], train_share: float, seed: int) -> list[dict[str, Any]]:
    """Return what of each file validates, as plain values."""
    lengths = [length for file in files for length in file.lengths]
    checksums = [checksum for file in files for checksum in file.checksums]
    parts = choose_split(lengths, checksums, train_share, seed).divided([file.lengths for file in files])
    cuts: list[dict[str, Any]] = [{} if part.cut_at is None else {"cut_at": part.cut_at} for part in parts]
    return [{"validation": sorted(part.validation_documents), **cut} for part, cut in zip(parts, cuts, strict=True)]
