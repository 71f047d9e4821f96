"""What is compared between documents: hashed n-grams, embeddings, lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from llmbuilder.documents.tables import iter_parquet_rows
from llmbuilder.duplicates.lines import count_lines
from llmbuilder.duplicates.near import NearDuplicateSettings
from llmbuilder.duplicates.semantic import TextEmbedder
from llmbuilder.duplicates.shingles import iter_shingle_hashes
from llmbuilder.files import atomic_file
from llmbuilder.tokens.grouping import iter_gram_samples

_EMBEDDED_TOGETHER = 256


class Shingle:
    """The hashed n-grams of the documents that are compared with others."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._near = NearDuplicateSettings(**settings["near"])

    def run(self, unit: dict[str, Any]) -> dict[str, Any]:
        """Write the hashes of the chosen rows, one after the other, and the number of each before them."""
        chosen = set(unit["rows"])
        rows = iter_parquet_rows(unit["input"], ["text"])
        texts = (row["text"] for number, row in enumerate(rows) if number in chosen)
        hashes = list(iter_shingle_hashes(texts, self._near.ngram))
        _write_hashes(unit["path"], hashes)
        return {"unit": unit["unit"]}


def _write_hashes(path: str, hashes: Sequence[np.ndarray]) -> None:
    """Write the number of the hashes of each document, then all hashes."""
    sizes = np.array([len(found) for found in hashes], np.uint64)
    with atomic_file(path) as handle:
        np.concatenate([sizes, *hashes]).tofile(handle)


class SampleGrams:
    """The hashed n-grams by which documents are found that hold much of each other."""

    def __init__(self, settings: dict[str, Any]) -> None:
        pass

    def run(self, unit: dict[str, Any]) -> dict[str, Any]:
        """Write the hashes of all documents, one after the other, and the number of each before them."""
        texts = ((row["text"], True) for row in iter_parquet_rows(unit["input"], ["text"]))
        _write_hashes(unit["path"], list(iter_gram_samples(texts, unit["bits"])))
        return {"unit": unit["unit"]}


class Embed:
    """The embeddings of the documents of a unit."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._embedder = TextEmbedder(settings["data"]["semantic_model"])

    def run(self, unit: dict[str, Any]) -> dict[str, Any]:
        """Write the embeddings of all rows that survived refinement, of shape (rows, dimensions)."""
        texts: list[str] = []
        found: list[np.ndarray] = []
        for row in iter_parquet_rows(unit["input"], ["text", "stage"]):
            if row["stage"] is None:
                texts.append(row["text"])
            if len(texts) == _EMBEDDED_TOGETHER:
                found.append(self._embedder.embed(texts))
                texts.clear()
        found.append(self._embedder.embed(texts or [""])[: len(texts)])
        with atomic_file(unit["path"]) as handle:
            np.save(handle, np.concatenate(found))
        return {"unit": unit["unit"]}


class CountLines:
    """In how many documents of a unit each line is."""

    def __init__(self, settings: dict[str, Any]) -> None:
        pass

    def run(self, unit: dict[str, Any]) -> dict[str, Any]:
        """Write the sorted hashes of the lines and their counts, of shape (2, lines)."""
        dropped = set(unit["dropped"])
        rows = enumerate(iter_parquet_rows(unit["input"], ["text", "stage"]))
        table = count_lines(row["text"] for number, row in rows if number not in dropped and row["stage"] is None)
        with atomic_file(unit["path"]) as handle:
            np.save(handle, table)
        return {"unit": unit["unit"]}
