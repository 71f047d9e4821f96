"""Documents that hold much of each other: a book and its chapters, a letter and the answer that quotes it.

They stay on one side of a split, since a text that was trained on says nothing of new ones. What counts is containment
(Broder 1997): the share of the smaller document's word n-grams that the other one has, too. Near-duplicates, which are
alike as wholes, are another matter (`duplicates.near`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from llmbuilder.duplicates.components import Components
from llmbuilder.duplicates.shingles import iter_shingle_hashes

NGRAM = 8  # words
_CONTAINED = 0.25
_COMMON = 20  # documents: what stands in more of them is a licence or a phrase of the trade
_NEIGHBOURS = 3  # of a document among those that share an n-gram; through them all of those are connected
_MOST_GRAMS = 1 << 23
_CHARACTERS_A_GRAM = 6
_NOTHING = np.zeros(0, np.uint64)


def bits_left_out(characters: int) -> int:
    """Return k so that of a corpus of that size only hashes below 2^(64-k) are looked at: some eight million."""
    return max(0, (characters // (_CHARACTERS_A_GRAM * _MOST_GRAMS)).bit_length())


def iter_gram_samples(pieces: Iterable[tuple[str, bool]], bits: int) -> Iterator[np.ndarray]:
    """Yield for each document the sorted hashes of its word n-grams, or of those that `bits_left_out` leaves.

    `pieces` are texts with whether a document ends there.
    """
    ends: deque[bool] = deque()

    def texts() -> Iterator[str]:
        for text, is_end in pieces:
            ends.append(is_end)
            yield text

    limit = np.uint64((1 << (64 - bits)) - 1)
    parts: list[np.ndarray] = []
    for hashes in iter_shingle_hashes(texts(), NGRAM):
        parts.append(hashes[hashes <= limit])
        if ends.popleft():
            yield parts[0] if len(parts) == 1 else np.unique(np.concatenate(parts))
            parts = []
    if parts:
        yield np.unique(np.concatenate(parts))


def find_groups(samples: Sequence[np.ndarray]) -> np.ndarray:
    """Return for each document the lowest number of those that hold much of each other, its own if none does."""
    sizes = np.fromiter(map(len, samples), np.int64, len(samples))
    connected = Components()
    for one, other, shared in _pairs(samples, sizes):
        if shared >= _CONTAINED * min(sizes[one], sizes[other]):
            connected.join(one, other)
    return np.fromiter((connected.root(number) for number in range(len(samples))), np.int64, len(samples))


def _pairs(samples: Sequence[np.ndarray], sizes: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Yield pairs of documents that share n-grams, and how many they share."""
    values = np.concatenate([*samples, _NOTHING])
    order = np.argsort(values, kind="stable")
    values, owners = values[order], np.repeat(np.arange(len(samples)), sizes)[order]
    begins = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]])) if len(values) else np.zeros(0, int)
    counts = np.diff(np.append(begins, len(values)))
    is_telling = np.repeat((counts > 1) & (counts <= _COMMON), counts)
    values, owners = values[is_telling], owners[is_telling]
    found = [np.zeros(0, np.int64)]
    for step in range(1, _NEIGHBOURS + 1):
        same = values[step:] == values[:-step]
        found.append(owners[:-step][same] * len(samples) + owners[step:][same])
    pairs, shared = np.unique(np.concatenate(found), return_counts=True)
    for pair, count in zip(pairs.tolist(), shared.tolist(), strict=True):
        yield pair // len(samples), pair % len(samples), count


def held_out_overlaps(samples: Sequence[np.ndarray], held_out: Iterable[int]) -> dict[int, float]:
    """Return for each held-out document the share of its n-grams that the others have, too."""
    chosen = set(held_out)
    trained = np.unique(np.concatenate([sample for n, sample in enumerate(samples) if n not in chosen] or [_NOTHING]))
    return {
        number: float(np.isin(samples[number], trained, assume_unique=True).mean()) if len(samples[number]) else 0.0
        for number in sorted(chosen)
    }
