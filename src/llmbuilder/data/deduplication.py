"""Exact duplicates: documents whose text is the same but for case, width forms and whitespace."""

from __future__ import annotations

import hashlib
import unicodedata

from llmbuilder.data.documents import Document


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
