"""Dividing a corpus into a training and a validation part before it is tokenized.

Whole documents go to one part or the other. In a large corpus a document's checksum decides, so that documents added
later change nothing for the others; in a small one documents are drawn by seed until the validation part has its share
of the characters. A corpus whose documents are too few or too large for that is cut once, near the end, at a line
break.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from llmbuilder.tokens.sampling import lot

PARTS = ("train", "validation")
_SMALL = 2000  # documents


@dataclass(frozen=True)
class Split:
    """Which documents validate, or the character at which the last part begins."""

    validation_documents: frozenset[int] = frozenset()
    cut_at: int | None = None

    @property
    def has_validation(self) -> bool:
        return bool(self.validation_documents) or self.cut_at is not None

    def divided(self, lengths: Sequence[Sequence[int]]) -> list[Split]:
        """Return the split of each of several files, given the lengths of the documents in them."""
        starts = list(itertools.accumulate(map(len, lengths), initial=0))
        positions = itertools.accumulate(map(sum, lengths), initial=0)
        if self.cut_at is not None:
            return [Split(cut_at=self.cut_at - position) for position, _ in zip(positions, lengths, strict=False)]
        chosen = [[n - begin for n in range(begin, end) if n in self.validation_documents]
                  for begin, end in itertools.pairwise(starts)]  # fmt: skip
        return [Split(frozenset(numbers)) for numbers in chosen]

    def select(self, pieces: Iterable[tuple[str, bool]], part: str) -> Iterator[tuple[int, str, bool]]:
        """Yield the pieces that belong to "train" or "validation": number of the document, text, whether it ends."""
        if self.cut_at is not None:
            yield from self._select_by_position(pieces, self.cut_at, part)
            return
        document = 0
        for text, ends in pieces:
            if (document in self.validation_documents) == (part == "validation"):
                yield document, text, ends
            document += ends

    @staticmethod
    def _select_by_position(
        pieces: Iterable[tuple[str, bool]], cut_at: int, part: str
    ) -> Iterator[tuple[int, str, bool]]:
        document = position = 0
        for text, ends in pieces:
            cut = 0 if position >= cut_at else cut_position(text, cut_at - position)
            head, tail = (text, "") if cut is None else (text[:cut], text[cut:])
            position += len(text)
            if part == "train" and head:
                yield document, head, ends or bool(tail)
            elif part == "validation" and tail:
                yield document, tail, ends
            document += ends


def cut_position(text: str, wanted: int) -> int | None:
    """Return where to cut a piece so that a line begins near `wanted`; None if the cut lies in a later piece."""
    if wanted > len(text):
        return None
    line = text.find("\n", max(0, wanted))
    if 0 <= line < len(text) - 1 and line - wanted < max(2000, len(text) // 50):
        return line + 1
    return min(max(1, wanted), len(text) - 1) if len(text) > 1 else None


def split_pieces(pieces: Iterable[tuple[str, bool]], train_share: float | None, seed: int) -> Split:
    """Decide the split of a corpus given as pieces; None or 1.0 puts everything into training."""
    if train_share is None or train_share >= 1:
        return Split()
    lengths: list[int] = []
    checksums: list[str] = []
    length, digest = 0, hashlib.sha256()
    for text, ends in pieces:
        length += len(text)
        digest.update(text.encode("utf-8", "surrogatepass"))
        if ends:
            lengths.append(length)
            checksums.append(digest.hexdigest())
            length, digest = 0, hashlib.sha256()
    if length:
        lengths.append(length)
        checksums.append(digest.hexdigest())
    return choose_split(lengths, checksums, train_share, seed)


def choose_split(lengths: Sequence[int], checksums: Sequence[str], train_share: float, seed: int) -> Split:
    """Decide the split of documents by their checksums, or of a few by their lengths in characters."""
    if train_share >= 1:
        return Split()
    if len(lengths) >= _SMALL:
        least = 1 - train_share
        return Split(frozenset(n for n, checksum in enumerate(checksums) if lot(checksum, "split", seed) < least))
    wanted = (1 - train_share) * sum(lengths)
    order = list(range(len(lengths)))
    random.Random(seed).shuffle(order)
    chosen: list[int] = []
    taken = 0
    for document in order:
        if taken + lengths[document] <= 1.25 * wanted and len(chosen) < len(lengths) - 1:
            chosen.append(document)
            taken += lengths[document]
        if taken >= wanted:
            break
    if taken >= 0.5 * wanted and taken:
        return Split(validation_documents=frozenset(chosen))
    return Split(cut_at=max(1, int(train_share * sum(lengths))))
