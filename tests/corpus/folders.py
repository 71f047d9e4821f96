"""Folders of documents, and what a corpus holds, for the tests of the corpus engine."""

from __future__ import annotations

import hashlib
import random
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet

from llmbuilder.corpus.prepared import PreparedCorpus

WORDS = ["river", "stone", "morning", "garden", "letter", "window", "harbour", "winter", "candle", "mountain", "silver", "people", "answer", "question", "yellow", "market", "bridge", "forest", "island", "evening", "captain", "village", "history", "machine", "number", "paper", "summer"]  # fmt: skip


def paragraph(seed: object, words: int = 120) -> str:
    """Return random words as sentences, the same for the same seed."""
    chosen = random.Random(str(seed)).choices(WORDS, k=words)
    sentences = [" ".join(chosen[i : i + 12]).capitalize() + "." for i in range(0, words, 12)]
    return " ".join(sentences)


def write_texts(folder: Path, count: int, prefix: str = "text") -> Path:
    """Write that many different text files and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{prefix}-{number:03}.txt").write_text(f"{paragraph(f'{prefix}{number}')}\n")
    return folder


def rows_of(corpus: Path, kind: str = "documents") -> list[dict[str, Any]]:
    """Return all documents of a corpus, or what it dropped, in order."""
    prepared = PreparedCorpus(corpus)
    names = prepared.description["documents" if kind == "documents" else "dropped_files"]
    return [row for name in names for row in parquet.read_table(corpus / kind / name).to_pylist()]


def reasons_of(corpus: Path) -> dict[str, str]:
    """Return the reason for every source that was dropped."""
    return {row["source"]: row["reason"] for row in rows_of(corpus, "dropped")}


_SECONDS = re.compile(rb"<h2>Stages .*?</section>", re.S)


def checksums(corpus: Path) -> dict[str, str]:
    """Return the checksum of every file of a corpus but its cache, without the seconds that its report tells."""
    files = (path for path in corpus.rglob("*") if path.is_file() and path.relative_to(corpus).parts[0] != "work")
    return {
        str(path.relative_to(corpus)): hashlib.sha256(_SECONDS.sub(b"", path.read_bytes())).hexdigest()
        for path in sorted(files)
        if not path.name.startswith(".lock")
    }
