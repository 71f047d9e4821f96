"""Shares of questions: how far they may be off, and whether two of the same questions differ by more than chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_Z = 1.959964  # of a normal distribution, for 95%


@dataclass(frozen=True)
class Proportion:
    """So many of all, with the interval in which the true share lies with 95% (Wilson 1927)."""

    right: int
    of: int
    low: float
    high: float

    @classmethod
    def count(cls, answers: Sequence[bool]) -> Proportion:
        """Return the share of true ones."""
        return cls.of_counts(sum(answers), len(answers))

    @classmethod
    def of_counts(cls, right: int, of: int) -> Proportion:
        """Return the share of so many of all."""
        if not of:
            return cls(0, 0, 0.0, 1.0)
        share, square = right / of, _Z * _Z / of
        middle = (share + square / 2) / (1 + square)
        half = _Z / (1 + square) * math.sqrt(share * (1 - share) / of + square / (4 * of))
        return cls(right, of, max(0.0, middle - half), min(1.0, middle + half))

    @property
    def share(self) -> float:
        """The share itself, 0 where there is nothing to count."""
        return self.right / self.of if self.of else 0.0


def chance_of_difference(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Return how likely equally good readers differ so much on the same questions (McNemar's exact test, two-sided).

    Only questions that one of them got right and the other wrong tell them apart.
    """
    only_first = sum(a and not b for a, b in zip(first, second, strict=True))
    only_second = sum(b and not a for a, b in zip(first, second, strict=True))
    differing, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(differing, count) for count in range(fewer + 1))
    return min(1.0, 2 * tail / 2**differing)
