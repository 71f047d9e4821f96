"""Extracted rows to clean, judged, signed ones."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llmbuilder.config.schema import DataConfig
from llmbuilder.corpus.schemas import EXCERPT, QUALITY, REFINED, extracted_text
from llmbuilder.corpus.store import Part, Row, Store, parts_of, read_slice
from llmbuilder.documents.document import Document
from llmbuilder.duplicates.exact import normalized_digest
from llmbuilder.duplicates.near import NearDuplicateSettings, iter_signatures
from llmbuilder.refining.languages import detect_language
from llmbuilder.refining.quality import TextQuality
from llmbuilder.refining.refiner import Refined, Refiner


class Refine:
    """Cleans, judges and signs the rows of a unit."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._data = DataConfig(**settings["data"])
        self._refiner = Refiner.from_config(self._data)
        self._near = NearDuplicateSettings(**settings["near"]) if settings["near"] else None
        self._store = Store(Path(settings["work"]) / "refined", REFINED)

    def run(self, unit: dict[str, Any]) -> dict[str, Any]:
        """Write the unit's refined file."""
        places = [Part(unit["input"], first, rows) for first, rows in unit["places"]]

        def produce(number: int) -> Iterator[Row]:
            for table in read_slice(places[number]):
                yield from map(self._refine, table.to_pylist())

        self._store.write(Path(unit["path"]), unit["keys"], parts_of(unit), produce, self._sign)
        return {"unit": unit["unit"]}

    def _refine(self, row: Row) -> Row:
        shared = {name: row[name] for name in ("source", "collection", "format", "title", "metadata")}
        if row["error"] is not None:
            return {**shared, "stage": "extract", "reason": row["error"], "characters": 0}
        text = extracted_text(row)
        document = Document(text, row["source"], row["format"], row["title"], row["pages"])
        refined = self._refiner.refine(document)
        values = {
            **shared,
            "original_characters": len(text),
            "characters": refined.document.characters,
            "stage": refined.stage,
            "reason": refined.reason,
            "cleaning": _as_json(refined.cleaning),
            "redacted": _as_json(refined.redacted),
            "skipped": _as_json(refined.verdict.skipped_for) if refined.verdict else None,
        }
        if refined.reason is not None:
            return {**values, "text": refined.document.text[:EXCERPT], **_language(refined)}
        quality = (refined.verdict and refined.verdict.quality) or TextQuality(refined.document.text)
        return {
            **values,
            **_language(refined),
            **{name: float(getattr(quality, name)) for name in QUALITY},
            "classifier_score": refined.verdict.score if refined.verdict else None,
            "text": refined.document.text,
            "checksum": refined.document.checksum,
            "digest": normalized_digest(refined.document.text),
        }

    def _sign(self, rows: list[Row]) -> None:
        kept = [row for row in rows if row["stage"] is None]
        if self._near is not None and kept:
            for row, bands in zip(kept, iter_signatures((row["text"] for row in kept), self._near), strict=True):
                row["bands"] = bands


def _language(refined: Refined) -> Row:
    verdict = refined.verdict
    found = (verdict.language, verdict.language_score) if verdict else detect_language(refined.document.text)
    return {"language": found[0], "language_score": found[1]}


def _as_json(counts: Mapping[str, int]) -> str | None:
    return json.dumps(dict(sorted(counts.items()))) if counts else None
