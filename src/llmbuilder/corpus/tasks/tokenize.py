"""Documents to token files, one for each part of the split."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from llmbuilder.documents.tables import iter_parquet_rows
from llmbuilder.files import write_json
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.tokens.sampling import lot
from llmbuilder.tokens.shards import TokenWriter
from llmbuilder.tokens.splitting import PARTS, Split
from llmbuilder.tokens.tokenizing import write_tokens


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
        split = Split(frozenset(unit["split"]["validation"]), unit["split"].get("cut_at"))
        copies = list(self._copies(unit["documents"]))
        options = {"tokenizer": self._tokenizer.fingerprint, "separator": self._tokenizer.end_of_text_id}
        for part in PARTS:
            texts = ((row["text"], True) for row in iter_parquet_rows(unit["documents"], ["text"]))
            chosen = split.select(texts, part)
            first = next(chosen, None)
            if part == "validation" and first is None:
                continue
            path = self._folder / f"{part}-{unit['key']}.bin"
            pieces = itertools.chain([first] if first is not None else [], chosen)
            repeated = ((text, ends) for number, text, ends in pieces
                        for _ in range(copies[number] if part == "train" else 1))  # fmt: skip
            with TokenWriter(path, len(self._tokenizer), **options) as writer:  # type: ignore[arg-type]
                write_tokens(repeated, self._tokenizer, writer, threads=1)
            receipt[part] = {"file": path.name, **writer.summary()}
        write_json(unit["path"], receipt)
        return {"unit": unit["unit"]}

    def _copies(self, documents: str) -> Iterator[int]:
        """Yield how often each document is trained on: its weight, rounded up or down by lot."""
        for row in iter_parquet_rows(documents, ["checksum", "collection"]):
            weight = self._mixture.get(row["collection"], 1.0)
            whole = math.floor(weight)
            yield whole + (lot(row["checksum"], "mixture", self._seed) < weight - whole)


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
