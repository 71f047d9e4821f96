"""Dividing a corpus into a training and a validation part before it is tokenized.

Whole documents go to one part or the other, drawn by seed until the validation part has its share of the
characters. A corpus whose documents are too few or too large for that is cut once, near the end, at a line break.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Split:
    """Which documents validate, or the character at which the last part begins."""

    validation_documents: frozenset[int] = frozenset()
    cut_at: int | None = None

    @property
    def has_validation(self) -> bool:
        return bool(self.validation_documents) or self.cut_at is not None

    def select(self, pieces: Iterable[tuple[str, bool]], part: str) -> Iterator[tuple[str, bool]]:
        """Yield the pieces that belong to "train" or "validation"."""
        if self.cut_at is not None:
            yield from self._select_by_position(pieces, self.cut_at, part)
            return
        document = 0
        for text, ends in pieces:
            if (document in self.validation_documents) == (part == "validation"):
                yield text, ends
            document += ends

    @staticmethod
    def _select_by_position(pieces: Iterable[tuple[str, bool]], cut_at: int, part: str) -> Iterator[tuple[str, bool]]:
        position = 0
        divided = False
        for text, ends in pieces:
            cut = len(text) if divided else cut_position(text, cut_at - position)
            if divided:
                head, tail = "", text
            elif cut is None:
                head, tail = text, ""
            else:
                head, tail, divided = text[:cut], text[cut:], True
            position += len(text)
            if part == "train" and head:
                yield head, ends or divided
            elif part == "validation" and tail:
                yield tail, ends


def cut_position(text: str, wanted: int) -> int | None:
    """Return where to cut a piece so that a line begins near `wanted`; None if the cut lies in a later piece."""
    if wanted > len(text):
        return None
    line = text.find("\n", max(0, wanted))
    if 0 <= line < len(text) - 1 and line - wanted < max(2000, len(text) // 50):
        return line + 1
    return min(max(1, wanted), len(text) - 1) if len(text) > 1 else None


def split_documents(pieces: Iterable[tuple[str, bool]], train_share: float | None, seed: int) -> Split:
    """Decide the split of a corpus given as pieces; None or 1.0 puts everything into training."""
    if train_share is None or train_share >= 1:
        return Split()
    lengths = [0]
    for text, ends in pieces:
        lengths[-1] += len(text)
        if ends:
            lengths.append(0)
    if not lengths[-1]:
        lengths.pop()
    return choose_split(lengths, train_share, seed)


def choose_split(lengths: Sequence[int], train_share: float, seed: int) -> Split:
    """Decide the split of documents by their lengths in characters."""
    if train_share >= 1:
        return Split()
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
    return Split(cut_at=int(train_share * sum(lengths)))
