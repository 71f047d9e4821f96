"""Watching a run: a `Callback` is told what happens and changes nothing about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmbuilder.training.results import TrainingResults


@dataclass(frozen=True)
class RunPlan:
    """What is about to be trained. A run that ends `by_clock` has `max_steps` only if its speed stays as measured."""

    first_step: int
    max_steps: int
    tokens_per_step: int
    num_parameters: int
    num_learned: int  # of them; others are frozen
    device: str
    precision: str
    training_tokens: int
    validation_tokens: int
    by_clock: bool = False

    @property
    def parameters_in_words(self) -> str:
        """How many parameters there are, and how many of them learn if that is not all."""
        if self.num_learned == self.num_parameters:
            return f"{self.num_parameters:,} parameters"
        return f"{self.num_learned:,} parameters beside {self.num_parameters - self.num_learned:,} frozen ones"


class Callback:
    """Override what you want to be told of. Metrics are plain numbers by name, always with `step`."""

    def on_start(self, plan: RunPlan) -> None:
        """Called once, before the first step."""

    def on_step(self, metrics: dict[str, Any]) -> None:
        """Called after every step with loss, learning_rate, grad_norm, tokens_per_second, seconds_left."""

    def on_log(self, metrics: dict[str, Any]) -> None:
        """Called for every line that goes into metrics.jsonl, evaluations included."""

    def on_rewind(self, step: int) -> None:
        """Called when the run goes back to a step: what was logged of later ones is no longer of this run."""

    def on_checkpoint(self, path: Path) -> None:
        """Called after a checkpoint is on the disk."""

    def on_failure(self) -> None:
        """Called instead of `on_end` when the run ends with an error."""

    def on_end(self, results: TrainingResults) -> None:
        """Called once, when the run is over or interrupted."""
