"""What a person sees while a model trains: a live panel in a terminal, log lines elsewhere, or nothing."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from llmbuilder.notices import counted
from llmbuilder.training.display.callbacks import Callback, RunPlan
from llmbuilder.training.results import TrainingResults

logger = logging.getLogger("llmbuilder")
_SMOOTHING = 0.95
_SAMPLE_CHARACTERS = 300


def duration(seconds: float) -> str:
    """Return seconds as "42s", "3m 05s" or "2h 10m"."""
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds}s"
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes}m {seconds:02d}s" if minutes < 60 else f"{minutes // 60}h {minutes % 60:02d}m"


class SteadyCountdown:
    """Time left as it passes: an estimate that jumps with every slow step is followed slowly, by the clock between."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left: float | None = None
        self._at = 0.0

    def after(self, estimate: float) -> float:
        """Return the seconds left to show when `estimate` is the newest one."""
        now = self._clock()
        if self._left is None:
            self._left = estimate
        else:
            passed = now - self._at
            expected = self._left - passed
            # The nearer the end, the more the newest estimate counts: the last seconds are true.
            trust = min(1.0, max(passed, 0.02) * 4 / max(estimate, 1e-9))
            self._left = max(0.0, expected + trust * (estimate - expected))
        self._at = now
        return self._left


class TrainingProgress(Callback):
    """Progress, losses, speed, use of the machine, time left and the latest sample.

    In a terminal this is one panel that renews itself; `plain`, or output that is no terminal, gives about twenty
    lines over the run.
    """

    def __init__(self, console: Console | None = None, *, plain: bool = False) -> None:
        self._console = console or Console(file=sys.stderr)
        self._is_live = self._console.is_terminal and not self._console.is_dumb_terminal and not plain
        self._live: Live | None = None
        self._progress = Progress(
            TextColumn("step {task.completed:,.0f}/{task.total:,.0f}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:.0f}%"),
            console=self._console,
            expand=True,
        )
        self._values: dict[str, Any] = {}
        self._smoothed = 0.0
        self._weight = 0.0
        self._told = -1
        self._left = SteadyCountdown()

    def on_start(self, plan: RunPlan) -> None:
        validation = f", {plan.validation_tokens:,} validation" if plan.validation_tokens else ""
        self._console.print(
            f"Training {plan.parameters_in_words} on {plan.device} ({plan.precision}): "
            f"{'as time allows, now about ' * plan.by_clock}{counted(plan.max_steps, 'step')} of "
            f"{plan.tokens_per_step:,} tokens; "
            f"{plan.training_tokens:,} training{validation} tokens",
            highlight=False,
            soft_wrap=not self._console.is_terminal,
        )
        if self._is_live:
            self._task = self._progress.add_task("", total=plan.max_steps, completed=plan.first_step)
            self._live = Live(self._panel(), console=self._console, refresh_per_second=4, transient=True)
            self._live.start()

    def on_step(self, metrics: dict[str, Any]) -> None:
        self._smoothed = _SMOOTHING * self._smoothed + (1 - _SMOOTHING) * metrics["loss"]
        self._weight = _SMOOTHING * self._weight + 1 - _SMOOTHING
        self._values |= metrics
        if "seconds_left" in metrics:
            self._values["seconds_left"] = self._left.after(metrics["seconds_left"])
        if self._live is not None:
            self._progress.update(self._task, completed=metrics["step"], total=metrics["max_steps"])
            self._live.update(self._panel())

    def on_log(self, metrics: dict[str, Any]) -> None:
        self._values |= {name: value for name, value in metrics.items() if name != "seconds_left"}
        if "event" in metrics:
            self._console.print(metrics["event"], style="yellow", highlight=False, soft_wrap=True)
        if not self._is_live and "seconds_left" in metrics and self._is_line_due(metrics):
            self._console.print(self._line(metrics), highlight=False, soft_wrap=True)

    def _is_line_due(self, metrics: dict[str, Any]) -> bool:
        share = 20 * metrics["step"] // metrics["max_steps"]
        due = share > self._told
        self._told = max(self._told, share)
        return due

    def _line(self, metrics: dict[str, Any]) -> str:
        validation = self._values.get("validation_loss")
        preferred = self._values.get("validation_reward_accuracy")
        left = self._values.get("seconds_left", metrics["seconds_left"])
        return (
            f"step {metrics['step']:,}  loss {self._smooth_loss():.3f}"
            + ("" if validation is None else f"  validation {validation:.3f}")
            + ("" if preferred is None else f" ({preferred:.0%} as preferred)")
            + f"  {metrics['tokens_per_second']:,.0f} tokens/s  {duration(left)} left"
        )

    def _smooth_loss(self) -> float:
        return self._smoothed / self._weight if self._weight else float("nan")

    def _panel(self) -> Panel:
        values = self._values
        table = Table.grid(padding=(0, 3))
        cells = [
            ("loss", f"{self._smooth_loss():.3f} [dim](now {values['loss']:.3f})" if "loss" in values else "…"),
            ("validation", _shown(values, "validation_loss", "{:.3f}") + _shown(values, "best_validation_loss",
                                                                             " [dim](best {:.3f})", "")),
            ("tokens/s", _shown(values, "tokens_per_second", "{:,.0f}")),
            ("MFU", _shown(values, "mfu", "{:.0%}")),
            ("data wait", _shown(values, "data_wait", "{:.1%}")),
            ("memory", _shown(values, "memory_bytes", "{:.2f} GB", scale=1e-9)),
            ("learning rate", _shown(values, "learning_rate", "{:.2e}")),
            ("left", duration(values["seconds_left"]) if "seconds_left" in values else "…"),
        ]  # fmt: skip
        for first, second in zip(cells[::2], cells[1::2], strict=True):
            table.add_row(f"[dim]{first[0]}", first[1], f"[dim]{second[0]}", second[1])
        parts: list[Any] = [self._progress, table]
        if "sample" in values:
            text = " ".join(values["sample"].split())[:_SAMPLE_CHARACTERS]
            parts.append(Text(f"\n{text}", style="italic dim"))
        return Panel(Group(*parts), title="training", title_align="left", border_style="dim")

    def on_end(self, results: TrainingResults) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        state = "interrupted" if results.interrupted else "done"
        best = results.best_validation_loss
        overlap = f"; {results.describe_overlap()}" if results.validation_overlap is not None else ""
        validation = "" if best is None else f", best validation {best:.3f} ({results.describe_validation()}{overlap})"
        self._console.print(
            f"Training {state} after {counted(results.steps, 'step')} in {duration(results.training_time)}: "
            f"loss {results.final_loss:.3f}{validation}",
            highlight=False,
            soft_wrap=not self._console.is_terminal,
        )

    def on_failure(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def _shown(values: dict[str, Any], name: str, form: str, missing: str = "…", *, scale: float = 1.0) -> str:
    value = values.get(name)
    return missing if value is None else form.format(value * scale)
