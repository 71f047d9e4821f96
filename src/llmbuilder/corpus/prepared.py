"""A prepared corpus as others read it: `corpus.json` says which files belong to it, and in which order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmbuilder.documents.folders import CORPUS_RECORD
from llmbuilder.errors import DataError
from llmbuilder.tokens.shards import OpenedTokens, open_shards


class PreparedCorpus:
    """The folder that `data prepare` writes. Raises DataError if its description is damaged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.description: dict[str, Any] = json.loads((folder / CORPUS_RECORD).read_text("utf-8"))
            self.fingerprint: str = self.description["fingerprint"]
            self.documents = [folder / "documents" / name for name in self.description["documents"]]
        except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
            raise DataError(f"{folder / CORPUS_RECORD} does not describe a prepared corpus: {error}") from error

    @property
    def tokenizer(self) -> Path | None:
        """The folder of the tokenizer its tokens were made with; None if it has no tokens."""
        return self.folder / "tokenizer" if self.description["tokens"] else None

    @property
    def tokenizer_fingerprint(self) -> str | None:
        return self.description["tokenizer"]["fingerprint"] if self.description["tokens"] else None

    @property
    def tokenizer_settings(self) -> dict[str, Any] | None:
        """The settings its tokenizer was trained with; None for one that was given, or where they were not kept."""
        found: dict[str, Any] | None = (self.description["tokenizer"] or {}).get("settings")
        return found

    @property
    def held_out_overlap(self) -> float | None:
        """The share of its validation part that stands in its training part; None where it was not measured."""
        found: float | None = (self.description.get("held_out") or {}).get("overlap")
        return found

    def tokens(self, part: str) -> OpenedTokens | None:
        """Memory-map the tokens of "train" or "validation"; None if that part is empty."""
        description = (self.description["tokens"] or {}).get(part)
        return None if description is None else open_shards(self.folder / "tokens", description)
