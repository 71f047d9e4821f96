"""A stream of documents in a temporary file, for what has to see all of them before it can judge one."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from llmbuilder.documents.batching import batched
from llmbuilder.documents.document import Document
from llmbuilder.documents.tables import iter_parquet_rows, require_pyarrow
from llmbuilder.duplicates.near import NearDuplicateSettings, find_near_duplicates

_TOGETHER = 1000  # documents


def drop_near_duplicates(
    documents: Iterable[Document], settings: NearDuplicateSettings, dropped: list[tuple[str, str]]
) -> Iterator[Document]:
    """Yield the documents that are not much like one that stays.

    The sources of the others go to `dropped`, each with the source of the one that stays in its place. The documents
    wait in a temporary file, not in memory, until all have been seen.
    """
    with tempfile.TemporaryDirectory(prefix="llmbuilder-near-duplicates-") as folder:
        spool = _Spool(Path(folder) / "documents.parquet", documents)
        kept = find_near_duplicates(spool, settings, work_folder=folder).kept
        dropped += ((spool.sources[number], spool.sources[kept[number]]) for number in sorted(kept))
        for number, document in enumerate(spool.documents()):
            if number not in kept:
                yield document


class _Spool:
    """Documents in a file; iterated, it yields their texts, as often as wanted."""

    def __init__(self, path: Path, documents: Iterable[Document]) -> None:
        pyarrow = require_pyarrow("finding near-duplicates")
        import pyarrow.parquet as parquet

        text = pyarrow.large_string()
        schema = pyarrow.schema(
            {"text": text, "source": text, "format": text, "title": text, "pages": pyarrow.large_list(text),
             "notes": text}
        )  # fmt: skip
        self._path = path
        self.sources: list[str] = []
        with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
            for batch in batched(documents, _TOGETHER):
                self.sources += [document.source for document in batch]
                rows = [{**vars(document), "notes": json.dumps(document.notes)} for document in batch]
                writer.write_table(pyarrow.Table.from_pylist(rows, schema))

    def __iter__(self) -> Iterator[str]:
        return (row["text"] for row in iter_parquet_rows(self._path, ["text"]))

    def documents(self) -> Iterator[Document]:
        """Yield the documents as they were."""
        return (Document(**{**row, "notes": json.loads(row["notes"])}) for row in iter_parquet_rows(self._path))
