"""A shuffled order that needs no memory: each place is computed from its number.

A permutation of numbers below a power of two is made by a Feistel network, whose every round can be undone because it
changes one half of the bits by a function of the other; numbers that fall outside the count are sent through again
until they fall inside (cycle walking, Black & Rogaway 2002).
"""

from __future__ import annotations

import numpy as np

_ROUNDS = 8
_FEWEST_BITS = 4  # halves of one bit mix too little


class Shuffled:
    """A permutation of 0 to `count` - 1, drawn by `random`."""

    def __init__(self, count: int, random: np.random.Generator) -> None:
        self._count = np.uint64(count)
        bits = max(_FEWEST_BITS, (count - 1).bit_length())
        self._low_bits = np.uint64(bits // 2)
        self._low = np.uint64((1 << bits // 2) - 1)
        self._high = np.uint64((1 << bits - bits // 2) - 1)
        self._keys = random.integers(0, 1 << 64, _ROUNDS, dtype=np.uint64)

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray:
        """Return what stands at these places."""
        values = self._mixed(numbers.astype(np.uint64))
        while (outside := values >= self._count).any():
            values[outside] = self._mixed(values[outside])
        return values.astype(np.int64)

    def _mixed(self, values: np.ndarray) -> np.ndarray:
        high, low = values >> self._low_bits, values & self._low
        for number, key in enumerate(self._keys):
            if number % 2:
                low = low ^ (_hashed(high + key) & self._low)
            else:
                high = high ^ (_hashed(low + key) & self._high)
        return (high << self._low_bits) | low


def _hashed(values: np.ndarray) -> np.ndarray:
    """Return numbers of 64 bits that look random (the finaliser of SplitMix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
