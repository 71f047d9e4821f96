"""What became of the documents of each language and format: a filter that is unfair to one of them is seen here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from llmbuilder.stages import DROPPED_AT, left_out_in_words

Kind = Literal["languages", "formats"]
_FEWEST, _NEARLY_NONE = 10, 0.1
_REPEATING = ("exact", "near", "semantic")  # what is left out there stays in another document


def left_out_group(kind: Kind, stage: str) -> str:
    """Return the name of the group that counts what a stage leaves out."""
    return f"{kind} left out at {stage}"


@dataclass(frozen=True)
class Fate:
    """What became of the documents of one language or format: how many are kept, how many are left out by stage."""

    name: str
    kept: int
    left_out: dict[str, int]

    @property
    def found(self) -> int:
        """How many there were, each counted once."""
        return self.kept + sum(self.left_out.values())

    @property
    def kept_share(self) -> float:
        """The share that is kept, of those that do not repeat others."""
        single = self.found - sum(self.left_out.get(stage, 0) for stage in _REPEATING)
        return self.kept / single if single else 1.0

    @property
    def is_nearly_wiped_out(self) -> bool:
        """Whether hardly any of many are kept."""
        return self.found >= _FEWEST and self.kept_share < _NEARLY_NONE

    def warning(self) -> str:
        """Return what to say of a language or format of which hardly anything is kept."""
        lost = ", ".join(left_out_in_words(stage, count) for stage, count in self.left_out.items())
        return f"of {self.found:,} documents in {self.name} {self.kept:,} are kept ({lost})"


def fates(groups: Mapping[str, Mapping[str, int]], kind: Kind) -> list[Fate]:
    """Return what became of the documents of each language or format, the commonest first."""
    kept = groups.get(kind, {})
    lost = {stage: groups.get(left_out_group(kind, stage), {}) for stage in DROPPED_AT}
    names = {*kept, *(name for counts in lost.values() for name in counts)}
    found = [
        Fate(name, kept.get(name, 0), {stage: counts[name] for stage, counts in lost.items() if name in counts})
        for name in names
    ]
    return sorted(found, key=lambda fate: (-fate.found, fate.name))


def wiped_out(groups: Mapping[str, Mapping[str, int]]) -> list[Fate]:
    """Return the languages and formats of which hardly anything is kept."""
    kinds: tuple[Kind, ...] = ("languages", "formats")
    return [fate for kind in kinds for fate in fates(groups, kind) if fate.is_nearly_wiped_out]
