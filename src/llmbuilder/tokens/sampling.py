"""Drawing texts by their checksums: the same text is drawn or not, wherever and beside whatever it stands."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from llmbuilder.documents.document import text_checksum

_SAMPLE_CHARACTERS = 100_000_000


def lot(checksum: str, purpose: str, seed: int = 0) -> float:
    """Return a number from 0 to 1 that is drawn for a text."""
    digest = hashlib.blake2b(f"{seed}:{purpose}:{checksum}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64


def tokenizer_sample(
    texts: Iterable[str], characters: int, seed: int, limit: int = _SAMPLE_CHARACTERS
) -> Iterator[str]:
    """Yield the texts a tokenizer learns from: all, or as many as the limit allows, drawn by their checksums.

    `characters` is how many all of them have.
    """
    share = min(1.0, limit / max(1, characters))
    return (text for text in texts if share == 1 or lot(text_checksum(text), "tokenizer", seed) < share)
