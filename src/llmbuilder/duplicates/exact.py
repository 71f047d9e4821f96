"""Dropping repeated documents: the same but for case, width forms and whitespace, or nearly the same."""

from __future__ import annotations

import hashlib
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from llmbuilder.documents.batching import batched
from llmbuilder.documents.document import Document
from llmbuilder.duplicates.near import NearDuplicateSettings, find_near_duplicates
from llmbuilder.errors import MissingDependencyError

_SPOOLED_TOGETHER = 1000  # documents


def normalized_digest(text: str) -> bytes:
    """Return a 128-bit digest of the text after NFKC, case folding and whitespace folding."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return hashlib.blake2b(folded.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class ExactDeduplicator:
    """Remembers digests only, so a million documents take some 100 MB."""

    def __init__(self) -> None:
        self._first: dict[bytes, str] = {}

    def original_of(self, document: Document) -> str | None:
        """Return the source of an earlier document with this text, or None and remember this one."""
        digest = normalized_digest(document.text)
        earlier = self._first.get(digest)
        if earlier is None:
            self._first[digest] = document.source
        return earlier


def drop_near_duplicates(
    documents: Iterable[Document], settings: NearDuplicateSettings, dropped: list[dict[str, str]]
) -> Iterator[Document]:
    """Yield the documents that are not much like one that stays; add the others' sources to `dropped`.

    The documents wait in a temporary file, not in memory, until all have been seen.
    """
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingDependencyError("pyarrow", "corpus", "finding near-duplicates") from None
    text = pyarrow.large_string()
    schema = pyarrow.schema(
        {"text": text, "source": text, "format": text, "title": text, "pages": pyarrow.large_list(text)}
    )
    sources: list[str] = []
    with tempfile.TemporaryDirectory(prefix="llmbuilder-near-duplicates-") as folder:
        spool = Path(folder) / "documents.parquet"
        with parquet.ParquetWriter(spool, schema, compression="zstd") as writer:
            for batch in batched(documents, _SPOOLED_TOGETHER):
                sources += [item.source for item in batch]
                writer.write_table(pyarrow.Table.from_pylist([vars(item) for item in batch], schema))
        kept = find_near_duplicates(_Texts(spool), settings, work_folder=folder).kept
        dropped += ({"source": sources[number], "of": sources[kept[number]]} for number in sorted(kept))
        for number, row in enumerate(_rows(spool)):
            if number not in kept:
                yield Document(**row)


class _Texts:
    """The texts of a file of documents, each time it is iterated."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[str]:
        return (row["text"] for row in _rows(self._path, ["text"]))


def _rows(path: Path, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as parquet

    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(_SPOOLED_TOGETHER, columns=columns):
            yield from batch.to_pylist()
