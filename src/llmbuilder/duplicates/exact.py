"""Texts that are the same but for case, width forms and whitespace.

Of equal texts the first stays. A stream of texts is judged one by one, a corpus whose digests are all known at once;
both forms follow this one rule.
"""

from __future__ import annotations

import hashlib
import unicodedata

import numpy as np

from llmbuilder.refining.pieces import iter_pieces


def normalized_digest(text: str) -> bytes:
    """Return a 128-bit digest of the text after NFKC, case folding and whitespace folding.

    A large text is folded in pieces, which end where no characters compose across: the digest is that of the whole.
    """
    digest = hashlib.blake2b(digest_size=16)
    begun = blank_before = False
    for piece in iter_pieces(text):
        folded = unicodedata.normalize("NFKC", piece).casefold()
        words = folded.split()
        if not words:
            blank_before = True
            continue
        if begun and (blank_before or folded[0].isspace()):
            digest.update(b" ")
        digest.update(" ".join(words).encode("utf-8", "surrogatepass"))
        begun, blank_before = True, folded[-1].isspace()
    return digest.digest()


class SeenTexts:
    """Remembers digests only, so a million texts take some 100 MB."""

    def __init__(self) -> None:
        self._first: dict[bytes, str] = {}

    def original_of(self, text: str, source: str) -> str | None:
        """Return the source of an earlier text that equals this one, or None and remember this one."""
        digest = normalized_digest(text)
        earlier = self._first.get(digest)
        if earlier is None:
            self._first[digest] = source
        return earlier


def find_repeated(digests: np.ndarray) -> dict[int, int]:
    """Return for the number of each digest that repeats an earlier one the number of the first.

    `digests` are those of `normalized_digest` as two 64-bit numbers each, of shape (texts, 2).
    """
    if not len(digests):
        return {}
    order = np.lexsort((digests[:, 1], digests[:, 0]))  # stable: equal ones stay in order
    ordered = digests[order]
    is_first = np.append(True, (ordered[1:] != ordered[:-1]).any(axis=1))
    first = order[np.maximum.accumulate(np.where(is_first, np.arange(len(order)), 0))]
    return dict(zip(order[~is_first].tolist(), first[~is_first].tolist(), strict=True))
