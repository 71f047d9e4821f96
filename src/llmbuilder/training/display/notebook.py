"""What a person sees in a notebook while a model trains: one card with the curve, which renews itself."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from typing import Any

from llmbuilder.report.card import result_card
from llmbuilder.training.display.callbacks import Callback, RunPlan
from llmbuilder.training.display.progress import TrainingProgress, duration
from llmbuilder.training.results import TrainingResults

_PAUSE = 0.5  # seconds between two drawings
_SAMPLE_CHARACTERS = 300


def default_progress() -> Callback:
    """Return the display that suits where the program runs: a card in a notebook, else what a terminal can show."""
    return NotebookProgress() if in_notebook() else TrainingProgress()


def in_notebook() -> bool:
    """Whether this is a cell of a notebook: IPython is at work, and its shell belongs to a kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


class NotebookProgress(Callback):
    """Step, losses, speed, time left, the curve so far and the latest sample, in a place that is drawn anew."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._display: Any = importlib.import_module("IPython.display")
        self._clock = clock
        self._drawn_at = float("-inf")
        self._place: Any = None
        self._title = "Training"
        self._steps = 0
        self._values: dict[str, Any] = {}
        self._history: list[dict[str, Any]] = []

    def on_start(self, plan: RunPlan) -> None:
        self._steps = plan.max_steps
        self._title = f"Training {plan.parameters_in_words} on {plan.device}"
        self._values["step"] = plan.first_step
        self._draw(self._title)

    def on_step(self, metrics: dict[str, Any]) -> None:
        self._values |= metrics
        if self._clock() - self._drawn_at >= _PAUSE:
            self._draw(self._title)

    def on_log(self, metrics: dict[str, Any]) -> None:
        self._values |= metrics
        self._history.append(metrics)

    def on_rewind(self, step: int) -> None:
        self._history = [row for row in self._history if row["step"] <= step]

    def on_failure(self) -> None:
        self._draw(f"{self._title}: ended by an error")

    def on_end(self, results: TrainingResults) -> None:
        state = "interrupted" if results.interrupted else "done"
        self._values |= {"step": results.steps, "seconds_left": None, "loss": results.final_loss}
        self._draw(f"{self._title}: {state} in {duration(results.training_time)}")

    def _draw(self, title: str) -> None:
        self._drawn_at = self._clock()
        values = self._values
        left, speed, event = (values.get(name) for name in ("seconds_left", "tokens_per_second", "event"))
        facts = {
            "step": f"{values['step']:,} of {max(self._steps, values.get('max_steps', 0)):,}",
            "loss": _three_digits(values.get("loss")),
            "validation loss": _three_digits(values.get("validation_loss")),
            "speed": None if speed is None else f"{speed:,.0f} tokens/s",
            "left": None if left is None else duration(left),
            "note": event,
            "sample": " ".join(values.get("sample", "").split())[:_SAMPLE_CHARACTERS] or None,
        }
        card = self._display.HTML(result_card(title, facts, self._history))
        if self._place is None:
            self._place = self._display.display(card, display_id=True)
        else:
            self._place.update(card)


def _three_digits(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"
