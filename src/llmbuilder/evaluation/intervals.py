"""How sure a measured average is: from how it differs between stretches of the text.

Neighbouring tokens are alike, so that single ones say too little of that; long stretches stand for themselves. Source:
the method of batch means, with the ratio estimator's variance (Cochran 1977, "Sampling Techniques", chapter 6).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Interval = tuple[float, float]

_BLOCK = 1024  # bytes of text
_MOST_STRETCHES, _FEWEST_STRETCHES = 24, 8
_NATS, _TOKENS, _TEXT_NATS, _BYTES = range(4)


class Blocks:
    """Sums over blocks of 1,024 bytes of a text, in its order: nats and tokens, and those that stand for text."""

    def __init__(self) -> None:
        self._sums = np.zeros((64, 4))
        self._count = 0
        self._bytes = 0

    def add(self, nats: np.ndarray, bytes_of: np.ndarray) -> None:
        """Add tokens that follow those before; `bytes_of` are theirs, below zero where one stands for no text."""
        if not len(nats):
            return
        sizes = np.maximum(bytes_of, 0)
        begins = self._bytes + np.cumsum(sizes) - sizes
        numbers = begins // _BLOCK
        self._count = max(self._count, int(numbers[-1]) + 1)
        if self._count > len(self._sums):
            more = max(self._count, 2 * len(self._sums)) - len(self._sums)
            self._sums = np.concatenate([self._sums, np.zeros((more, 4))])
        is_text = bytes_of >= 0
        np.add.at(self._sums, numbers, np.stack([nats, np.ones(len(nats)), nats * is_text, sizes], axis=1))
        self._bytes += int(sizes.sum())

    def stretches(self, most: int = _MOST_STRETCHES) -> np.ndarray:
        """Return the sums of at most so many stretches of equal length, shape (stretches, 4)."""
        parts = np.array_split(self._sums[: self._count], min(most, max(1, self._count)))
        return np.stack([part.sum(axis=0) for part in parts])


@dataclass(frozen=True)
class Intervals:
    """What an average would lie in, 19 times of 20, had other text of the same kind been measured; None: too little."""

    loss: Interval | None
    bits_per_byte: Interval | None

    @classmethod
    def of(cls, blocks: Blocks) -> Intervals:
        """Return the intervals of nats per token and of bits per byte."""
        sums = blocks.stretches()
        bits = ratio_interval(sums[:, _TEXT_NATS] / math.log(2), sums[:, _BYTES])
        return cls(ratio_interval(sums[:, _NATS], sums[:, _TOKENS]), bits)


def change_interval(before: Blocks, after: Blocks) -> Interval | None:
    """Return the interval of how much more (below zero: less) `after` takes of the same text, as a share of `before`.

    The two are compared stretch by stretch: what is hard for both widens nothing.
    """
    most = min(len(before.stretches()), len(after.stretches()))
    old, new = before.stretches(most), after.stretches(most)
    # Tokenizers that keep not every space count bytes otherwise; what is compared is nats per byte.
    scale = old[:, _BYTES].sum() / max(1.0, new[:, _BYTES].sum())
    found = ratio_interval(scale * new[:, _TEXT_NATS], old[:, _TEXT_NATS])
    return None if found is None else (found[0] - 1, found[1] - 1)


def ratio_interval(
    numerators: Sequence[float] | np.ndarray, denominators: Sequence[float] | np.ndarray
) -> Interval | None:
    """Return the 95% interval of a ratio of two sums over stretches; None for too few of them to tell."""
    above, below = np.asarray(numerators, float), np.asarray(denominators, float)
    count, total = len(above), float(below.sum())
    if count < _FEWEST_STRETCHES or total <= 0:
        return None
    ratio = float(above.sum()) / total
    spread = math.sqrt(count / (count - 1) * float(((above - ratio * below) ** 2).sum())) / total
    half = _student_quantile(count - 1) * spread
    return ratio - half, ratio + half


def _student_quantile(freedom: int) -> float:
    """Return the 97.5% quantile of Student's distribution, by its expansion around the normal one."""
    return 1.95996 + 2.3722 / freedom + 2.8225 / freedom**2
