"""What a training run ends with."""

from __future__ import annotations

import signal
from dataclasses import asdict, dataclass, field
from typing import Any

from llmbuilder.report.card import result_card
from llmbuilder.tokens.overlap import describe_overlap


@dataclass
class TrainingResults:
    """The outcome of a run. Losses are nats per token, of preference pairs nats per pair; `training_time` is seconds
    spent in this process.

    `final_loss` is the mean training loss of the last logging interval; `perplexity` belongs to the best
    validation loss, or to the final loss when there is no validation part, and is None for pairs. `validation_overlap`
    is the share of the validation part that stands in the training part word for word, 0 to 1: what the validation loss
    is worth. `reward_accuracy` is the share of the validation pairs whose chosen answer is preferred, beside the best
    validation loss.
    """

    final_loss: float
    best_validation_loss: float | None
    perplexity: float | None
    tokens_per_second: float
    training_time: float
    steps: int
    model_path: str | None
    tokenizer_path: str | None
    history: list[dict[str, Any]] = field(default_factory=list)
    interrupted: bool = False
    validation_overlap: float | None = None
    planned_steps: int | None = None  # of a run with a time budget, by the speed that was measured before it
    reward_accuracy: float | None = None
    adapter_path: str | None = None  # of adapters alone, where the model is made of a base and them
    stopped_by: str | None = None  # "SIGINT" or "SIGTERM", if one came while the run was at work

    def describe_overlap(self) -> str:
        """Return what to say beside a validation loss, "" where nothing is known."""
        return "" if self.validation_overlap is None else describe_overlap(self.validation_overlap)

    def describe_validation(self) -> str:
        """Return what the best validation loss means in other numbers."""
        if self.perplexity is not None:
            return f"perplexity {self.perplexity:,.1f}"
        return "" if self.reward_accuracy is None else f"{self.reward_accuracy:.0%} of the pairs as preferred"

    def _repr_html_(self) -> str:
        """Return a card with the loss curve, which notebooks show."""
        best = self.best_validation_loss
        facts = {
            "steps": f"{self.steps:,}" + (" (interrupted)" if self.interrupted else ""),
            "loss": f"{self.final_loss:.3f}",
            "best validation loss": None if best is None else f"{best:.3f} ({self.describe_validation()})",
            "speed": f"{self.tokens_per_second:,.0f} tokens/s",
            "model": self.model_path,
        }
        return result_card("Training", facts, self.history)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


class StoppedRun(BaseException):
    """A run that a signal ended; `results` is what there is of it, saved so that it can go on.

    Not caught, it ends the program as the signal would have: nobody mistakes a stopped run for a finished one.
    """

    def __init__(self, results: TrainingResults, exit_status: int) -> None:
        super().__init__(f"training was stopped by {results.stopped_by} at step {results.steps}")
        self.results = results
        self.exit_status = exit_status


class InterruptedRun(StoppedRun, KeyboardInterrupt):
    """Ctrl-C, after everything was saved."""


class TerminatedRun(StoppedRun, SystemExit):
    """SIGTERM, after everything was saved."""

    def __init__(self, results: TrainingResults, exit_status: int) -> None:
        super().__init__(results, exit_status)
        self.code = exit_status


def unless_stopped(results: TrainingResults) -> TrainingResults:
    """Return the results. Raises InterruptedRun or TerminatedRun if a signal came while the run was at work."""
    if results.stopped_by is None:
        return results
    number = signal.Signals[results.stopped_by]
    kind = InterruptedRun if number == signal.SIGINT else TerminatedRun
    raise kind(results, 128 + number)
