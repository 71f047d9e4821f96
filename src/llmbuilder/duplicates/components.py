"""Groups of texts that are connected by pairs, and which text of a group stays."""

from __future__ import annotations

import numpy as np


class Components:
    """Disjoint sets of numbers (Tarjan 1975); a set is named by its lowest number."""

    def __init__(self) -> None:
        self._parent: dict[int, int] = {}

    def root(self, number: int) -> int:
        """Return the name of a number's set."""
        parent = self._parent
        while parent.get(number, number) != number:
            parent[number] = parent.get(parent[number], parent[number])
            number = parent[number]
        return number

    def join(self, one: int, other: int) -> None:
        """Make one set of two numbers' sets."""
        one, other = self.root(one), self.root(other)
        if one != other:
            self._parent[max(one, other)] = min(one, other)

    def choose_kept(self, lengths: np.ndarray) -> dict[int, int]:
        """Return for each number to drop the one that stays: the longest of a set, of equally long ones the lowest."""
        groups: dict[int, list[int]] = {}
        for number in list(self._parent):
            first = self.root(number)
            groups.setdefault(first, [first]).append(number)
        kept: dict[int, int] = {}
        for members in groups.values():
            best = min(members, key=lambda number: (-lengths[number], number))
            kept.update({number: best for number in members if number != best})
        return kept
