"""Documents to token shards: the split, the mixture, the tokenizer's sample."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmbuilder.corpus.store import Row, read_rows
from llmbuilder.documents.batching import batched_texts
from llmbuilder.files import write_json
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.tokens.shards import TokenWriter
from llmbuilder.tokens.splitting import choose_split, cut_position

PARTS = ("train", "validation")
_SMALL = 2000  # documents; a larger corpus is split by the documents' checksums alone
_SAMPLE_CHARACTERS = 100_000_000
_BATCH_CHARACTERS = 1 << 20


def lot(checksum: str, purpose: str, seed: int = 0) -> float:
    """Return a number from 0 to 1 that is drawn for a text, the same wherever it stands."""
    digest = hashlib.blake2b(f"{seed}:{purpose}:{checksum}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64


@dataclass(frozen=True)
class DocumentFile:
    """A finished file of documents, with the characters of each."""

    path: Path
    lengths: Sequence[int]
    checksums: Sequence[str]

    @classmethod
    def open(cls, path: Path) -> DocumentFile:
        """Read the lengths of a file of documents."""
        rows = list(read_rows(path, ["characters", "checksum"]))
        return cls(path, [row["characters"] for row in rows], [row["checksum"] for row in rows])


def split_files(files: Sequence[DocumentFile], train_share: float, seed: int) -> list[dict[str, Any]]:
    """Return for each file which of its documents validate, and where one is cut in two, if one is.

    In a large corpus a document's checksum decides, so that documents added later change nothing for the others.
    A small one is split by lengths, so that the shares come out right.
    """
    total = sum(len(file.lengths) for file in files)
    if total >= _SMALL:
        least = 1 - train_share
        return [
            {"validation": [n for n, key in enumerate(file.checksums) if lot(key, "split", seed) < least]}
            for file in files
        ]
    split = choose_split([length for file in files for length in file.lengths], train_share, seed)
    result: list[dict[str, Any]] = []
    first, position = 0, 0
    for file in files:
        numbers = range(first, first + len(file.lengths))
        own: dict[str, Any] = {"validation": [n - first for n in numbers if n in split.validation_documents]}
        for number, length in enumerate(file.lengths):
            if split.cut_at is not None:
                if position > split.cut_at:
                    own["validation"].append(number)
                elif position + length >= split.cut_at:
                    own["cut"] = [number, split.cut_at - position]
            position += length
        first += len(file.lengths)
        result.append(own)
    return result


def tokenizer_sample(files: Sequence[DocumentFile], seed: int, limit: int = _SAMPLE_CHARACTERS) -> Iterator[str]:
    """Yield the texts a tokenizer learns from: all, or as many as the limit allows, drawn by checksum."""
    total = sum(sum(file.lengths) for file in files)
    share = min(1.0, limit / max(1, total))
    for file in files:
        for row in read_rows(file.path, ["text", "checksum"]):
            if share == 1 or lot(row["checksum"], "tokenizer", seed) < share:
                yield row["text"]


class Tokenize:
    """A file of documents to token files, one for each part that has documents."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._tokenizer = Tokenizer.from_pretrained(settings["tokenizer"])
        self._folder = Path(settings["folder"]) / "tokens"
        self._mixture: dict[str, float] = settings["mixture"]
        self._seed: int = settings["seed"]

    def run(self, unit: dict[str, Any]) -> dict[str, Any]:
        """Write the unit's token files and a receipt with their numbers."""
        receipt: dict[str, Any] = {}
        for part in PARTS:
            path = self._folder / f"{part}-{unit['key']}.bin"
            lengths: Counter[int] = Counter()
            texts = list(self._chosen(unit, part)) if part == "validation" else self._chosen(unit, part)
            if part == "validation" and not texts:
                continue
            options = {"tokenizer": self._tokenizer.fingerprint, "separator": self._tokenizer.end_of_text_id}
            with TokenWriter(path, len(self._tokenizer), **options) as writer:  # type: ignore[arg-type]
                for text, ids in self._encoded(texts):
                    writer.add(ids, len(text) if text.isascii() else len(text.encode("utf-8")))
                    writer.end_document()
                    lengths[max(1, len(ids)).bit_length() - 1] += 1
            receipt[part] = {"file": path.name, **writer.summary(), "lengths": lengths}
        write_json(unit["path"], receipt)
        return {"unit": unit["unit"]}

    def _chosen(self, unit: dict[str, Any], part: str) -> Iterator[str]:
        validation = set(unit["split"]["validation"])
        cut_row, cut_at = unit["split"].get("cut", (None, 0))
        for number, row in enumerate(read_rows(unit["documents"], ["text", "checksum", "collection"])):
            text = row["text"]
            if number == cut_row:
                cut = cut_position(text, cut_at)
                text = text if cut is None else text[:cut] if part == "train" else text[cut:]
                text = "" if cut is None and part == "validation" else text
            elif (number in validation) != (part == "validation"):
                continue
            for _ in range(self._copies(row) if part == "train" else 1):
                if text:
                    yield text

    def _copies(self, row: Row) -> int:
        weight = self._mixture.get(row["collection"], 1.0)
        whole = math.floor(weight)
        return whole + (lot(row["checksum"], "mixture", self._seed) < weight - whole)

    def _encoded(self, texts: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
        for batch in batched_texts(texts, _BATCH_CHARACTERS):
            yield from zip(batch, self._tokenizer.encode_arrays(batch, threads=1), strict=True)


def merged(receipts: Iterable[dict[str, Any]], part: str) -> dict[str, Any] | None:
    """Return the description of a part's shards, in order; None if no document is in it."""
    shards = [receipt[part] for receipt in receipts if part in receipt and receipt[part]["tokens"]]
    if not shards:
        return None
    lengths: Counter[str] = Counter()
    for shard in shards:
        lengths.update(shard["lengths"])
    return {
        "shards": [shard["file"] for shard in shards],
        "tokens": sum(shard["tokens"] for shard in shards),
        "documents": sum(shard["documents"] for shard in shards),
        "bytes_of_text": sum(shard["bytes_of_text"] for shard in shards),
        "dtype": shards[0]["dtype"],
        "tokenizer": shards[0]["tokenizer"],
        "lengths": {key: lengths[key] for key in sorted(lengths, key=int)},
    }
