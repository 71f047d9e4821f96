"""What a person sees while a model trains: a live line in a terminal, log lines elsewhere."""

from __future__ import annotations

import logging
import sys
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from llmbuilder.training.callbacks import Callback, RunPlan
from llmbuilder.training.results import TrainingResults

logger = logging.getLogger("llmbuilder")


def duration(seconds: float) -> str:
    """Return seconds as "42s", "3m 05s" or "2h 10m"."""
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds}s"
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes}m {seconds:02d}s" if minutes < 60 else f"{minutes // 60}h {minutes % 60:02d}m"


class TrainingProgress(Callback):
    """Step, loss, validation loss, tokens per second and time left."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stderr)
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._validation: float | None = None
        self._loss: float | None = None
        self._told = -1

    def on_start(self, plan: RunPlan) -> None:
        validation = f", {plan.validation_tokens:,} validation" if plan.validation_tokens else ""
        self._console.print(
            f"Training {plan.num_parameters:,} parameters on {plan.device} ({plan.precision}): "
            f"{plan.max_steps:,} steps of {plan.tokens_per_step:,} tokens; "
            f"{plan.training_tokens:,} training{validation} tokens",
            highlight=False,
            soft_wrap=True,
        )
        if not self._console.is_terminal:
            return
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("step {task.completed:,.0f}/{task.total:,.0f}"),
            BarColumn(bar_width=24),
            TextColumn("{task.description}"),
            console=self._console,
        )
        self._progress.start()
        self._task = self._progress.add_task("", total=plan.max_steps, completed=plan.first_step)

    def on_step(self, metrics: dict[str, Any]) -> None:
        self._loss = metrics["loss"] if self._loss is None else 0.9 * self._loss + 0.1 * metrics["loss"]
        if self._progress is not None:
            self._progress.update(
                self._task,
                completed=metrics["step"],
                total=metrics["max_steps"],
                description=self._describe(metrics),
            )

    def on_log(self, metrics: dict[str, Any]) -> None:
        if "validation_loss" in metrics:
            self._validation = metrics["validation_loss"]
        if self._progress is None and "seconds_left" in metrics and self._is_line_due(metrics):
            self._console.print(f"step {metrics['step']:,}  {self._describe(metrics)}", highlight=False, soft_wrap=True)

    def _is_line_due(self, metrics: dict[str, Any]) -> bool:
        """Without a terminal about twenty lines tell the story."""
        share = 20 * metrics["step"] // metrics["max_steps"]
        due = share > self._told
        self._told = max(self._told, share)
        return due

    def _describe(self, metrics: dict[str, Any]) -> str:
        validation = "" if self._validation is None else f"  validation {self._validation:.3f}"
        return (
            f"loss {self._loss or metrics['loss']:.3f}{validation}  {metrics['tokens_per_second']:,.0f} tokens/s  "
            f"{duration(metrics['seconds_left'])} left"
        )

    def on_end(self, results: TrainingResults) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        state = "interrupted" if results.interrupted else "done"
        best = results.best_validation_loss
        validation = "" if best is None else f", best validation {best:.3f} (perplexity {results.perplexity:,.1f})"
        self._console.print(
            f"Training {state} after {results.steps:,} steps in {duration(results.training_time)}: "
            f"loss {results.final_loss:.3f}{validation}",
            highlight=False,
            soft_wrap=True,
        )
