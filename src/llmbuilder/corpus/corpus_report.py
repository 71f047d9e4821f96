"""What `prepare_corpus` returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class CorpusReport:
    """A finished corpus: its folder, what `corpus.json` says of it, and the time it took."""

    path: Path
    description: dict[str, Any]
    seconds: float
    units: int
    units_worked_on: int
    stage_seconds: dict[str, float] = field(default_factory=dict)
    audit: dict[str, Any] | None = None

    @property
    def documents(self) -> int:
        return int(self.description["counts"].get("documents", 0))

    @property
    def tokens(self) -> int:
        return sum(part["tokens"] for part in self.description["tokens"].values()) if self.description["tokens"] else 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        times = {"seconds": round(self.seconds, 3), "stage_seconds": self.stage_seconds}
        return {"path": str(self.path), **times, "audit": self.audit, **self.description}
