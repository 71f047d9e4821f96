"""Where a run stands: all that it needs, besides what the learner holds, to go on as if it had not stopped."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from llmbuilder.training.loop.anomalies import LossWatch

_LATEST_LOSSES = 10


@dataclass
class RunState:
    """How far a run is and how it went so far. The trainer owns it; snapshots, rescue and time budget change it too.

    A run with a time budget follows the clock: `progress` is the share of it that is done, `planned` the steps it was
    to have when its speed was measured, `seconds` what it has spent, and `max_steps` what it will come to at its speed.
    """

    max_steps: int
    watch: LossWatch
    step: int = 0
    sequences: int = 0  # trained on so far
    sequences_left_out: int = 0  # after loss spikes
    best_validation_loss: float | None = None
    planned: int | None = None  # None: the run goes by steps
    progress: float = 0.0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)  # the lines of metrics.jsonl

    @property
    def position(self) -> int:
        """The number of the next sequence: those trained on and those left out.

        Counted in sequences, because how many of them make a step can change when a run goes on.
        """
        return self.sequences + self.sequences_left_out

    @property
    def is_complete(self) -> bool:
        """Whether the last step is taken."""
        return self.step >= self.max_steps if self.planned is None else self.progress >= 1

    @property
    def course(self) -> tuple[float, int]:
        """Where the run is on its schedule, in steps, and how long that is: what rates and rhythms follow."""
        return (self.step, self.max_steps) if self.planned is None else (self.progress * self.planned, self.planned)

    def note_validation(self, loss: float) -> bool:
        """Remember the loss if it is the best so far, and return whether it is."""
        improved = self.best_validation_loss is None or loss < self.best_validation_loss
        if improved:
            self.best_validation_loss = loss
        return improved

    def recent_loss(self) -> float | None:
        """Return the mean over the last few steps; None before the first one."""
        return self.watch.recent(_LATEST_LOSSES)

    def final_loss(self) -> float:
        """Return the recent loss; for a resumed run that was already complete, what it logged."""
        recent = self.recent_loss()
        logged = [line["recent_loss"] for line in self.history if "recent_loss" in line]
        return recent if recent is not None else logged[-1] if logged else math.nan

    def at_its_best(self, name: str) -> Any:
        """Return what an evaluation found beside the best loss; None if it did not, or there was none."""
        best = self.best_validation_loss
        return next((line.get(name) for line in self.history if line.get("validation_loss", math.nan) == best), None)

    def ends_at_its_best(self) -> bool:
        """Return whether the current weights were evaluated and none were better."""
        evaluated = [line for line in self.history if "validation_loss" in line]
        return bool(evaluated) and (evaluated[-1]["step"], evaluated[-1]["validation_loss"]) == (
            self.step,
            self.best_validation_loss,
        )
