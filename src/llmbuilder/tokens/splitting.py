"""Dividing a corpus into a training and a validation part before it is tokenized.

Whole documents go to one part or the other. In a large corpus a document's checksum decides, so that documents added
later change nothing for the others; in a small one documents are drawn by seed until the validation part has its share
of the characters. Documents that hold much of each other (see `grouping`) go together. A corpus whose documents are too
few or too large for that is cut once, near the end, at a line break.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from llmbuilder.tokens.grouping import bits_left_out, find_groups, iter_gram_samples
from llmbuilder.tokens.sampling import lot

PARTS = ("train", "validation")
_SMALL = 2000  # documents
_FEWEST, _FEWEST_OF_GROUPS = 0.5, 0.1  # of the characters wanted; a cut would divide what belongs together


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


Pieces = Iterable[tuple[str, bool]]


def split_pieces(read: Callable[[], Pieces], train_share: float | None, seed: int) -> Split:
    """Decide the split of a corpus that `read` gives in pieces; None or 1.0 puts everything into training.

    It is read a second time where documents could hold much of each other.
    """
    if train_share is None or train_share >= 1:
        return Split()
    lengths: list[int] = []
    checksums: list[str] = []
    length, digest = 0, hashlib.sha256()
    for text, ends in read():
        length += len(text)
        digest.update(text.encode("utf-8", "surrogatepass"))
        if ends:
            lengths.append(length)
            checksums.append(digest.hexdigest())
            length, digest = 0, hashlib.sha256()
    if length:
        lengths.append(length)
        checksums.append(digest.hexdigest())

    def groups() -> np.ndarray:
        return find_groups(list(iter_gram_samples(read(), bits_left_out(sum(lengths)))))

    return choose_split(lengths, checksums, train_share, seed, groups)


def choose_split(
    lengths: Sequence[int],
    checksums: Sequence[str],
    train_share: float,
    seed: int,
    read_groups: Callable[[], np.ndarray] | None = None,
) -> Split:
    """Decide the split of documents by their checksums, or of a few by their lengths in characters.

    `read_groups` returns which documents belong together (`find_groups`); it is called only if documents are divided.
    """
    if train_share >= 1:
        return Split()
    alone = np.arange(len(lengths))
    split = _divide(lengths, checksums, train_share, seed, alone)
    if split.cut_at is not None or read_groups is None:
        return split
    groups = read_groups()
    return split if np.array_equal(groups, alone) else _divide(lengths, checksums, train_share, seed, groups)


def _divide(
    lengths: Sequence[int], checksums: Sequence[str], train_share: float, seed: int, groups: np.ndarray
) -> Split:
    members: dict[int, list[int]] = {}
    for number, group in enumerate(groups.tolist()):
        members.setdefault(group, []).append(number)
    sizes = {group: sum(lengths[number] for number in numbers) for group, numbers in members.items()}
    wanted = (1 - train_share) * sum(lengths)
    if len(lengths) >= _SMALL:
        drawn = [group for group, numbers in members.items()
                 if lot(min(checksums[number] for number in numbers), "split", seed) < 1 - train_share]  # fmt: skip
        # A group about as large as the whole part that it is drawn for stays where most documents are.
        small = [group for group in drawn if len(members[group]) == 1 or sizes[group] < wanted / 2]
        return Split(frozenset(number for group in small for number in members[group]))
    order = list(members)
    random.Random(seed).shuffle(order)
    chosen: list[int] = []
    taken = 0
    for group in order:
        if taken + sizes[group] <= 1.25 * wanted and len(chosen) + len(members[group]) < len(lengths):
            chosen += members[group]
            taken += sizes[group]
        if taken >= wanted:
            break
    least = _FEWEST if len(members) == len(lengths) else _FEWEST_OF_GROUPS
    if taken >= least * wanted and taken:
        return Split(validation_documents=frozenset(chosen))
    return Split(cut_at=max(1, int(train_share * sum(lengths))))
