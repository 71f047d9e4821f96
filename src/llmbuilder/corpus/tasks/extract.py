"""Sources to rows of text."""

from __future__ import annotations

import atexit
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmbuilder.config.schema import DataConfig
from llmbuilder.corpus.schemas import EXTRACTED
from llmbuilder.corpus.store import Row, Store, parts_of
from llmbuilder.documents.document import Outcome, Unreadable
from llmbuilder.documents.reading import DocumentReader
from llmbuilder.documents.sources import Source

_METADATA_CHARACTERS = 2000


class Extract:
    """Reads the sources of a unit."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._reader = DocumentReader.from_config(DataConfig(**settings["data"]), workers=1)
        atexit.register(self.close)
        self._store = Store(Path(settings["work"]) / "extracted", EXTRACTED)

    def close(self) -> None:
        """End the reading process and remove the folder of copies."""
        self._reader.close()

    def run(self, unit: dict[str, Any]) -> dict[str, Any]:
        """Write the unit's extracted file."""
        sources = [Source(**values) for values in unit["sources"]]

        def produce(number: int) -> Iterator[Row]:
            source = sources[number]
            return ({**_row(outcome), "collection": source.collection} for outcome in self._reader.read(source))

        self._store.write(Path(unit["path"]), unit["keys"], parts_of(unit), produce)
        return {"unit": unit["unit"]}


def _row(outcome: Outcome) -> Row:
    if isinstance(outcome, Unreadable):
        return {"source": outcome.source, "error": outcome.reason}
    return {
        "source": outcome.source,
        "format": outcome.format,
        "title": outcome.title,
        "text": None if outcome.pages else outcome.text,
        "pages": outcome.pages,
        "metadata": _metadata(outcome.notes),
    }


def _metadata(notes: dict[str, Any]) -> str | None:
    text = json.dumps(notes, ensure_ascii=False, sort_keys=True) if notes else None
    return text if text is None or len(text) <= _METADATA_CHARACTERS else None
