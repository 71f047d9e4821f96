"""Progress of a command that works in stages on many units."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from llmbuilder.cli.output import say
from llmbuilder.cli.streams import knows_cursor
from llmbuilder.stages import AT_WORK

_SILENCE = 15.0  # seconds after which a plain line says how far a stage is


class StageProgress:
    """One line a stage: bars in a terminal, else plain lines when a stage begins, now and then, and when it ends.

    Nothing is shown in the first `patience` seconds: of short work the result is told alone.
    """

    def __init__(
        self, *, plain: bool, quiet: bool, patience: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._quiet = quiet
        self._begins = clock() + patience
        self._plain = plain or not knows_cursor(sys.stderr)
        self._clock = clock
        self._said_at = 0.0
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}
        self._unfinished: set[str] = set()

    def __enter__(self) -> StageProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that `done` of the `total` units of a stage are finished."""
        if self._quiet or self._clock() < self._begins:
            return
        if self._plain:
            self._say(stage, done, total)
        else:
            self._draw(stage, done, total)

    def _say(self, stage: str, done: int, total: int) -> None:
        now = self._clock()
        is_due = stage not in self._tasks or done == total or now - self._said_at >= _SILENCE
        if is_due and self._tasks.get(stage) != total:
            self._said_at = now
            say(f"{AT_WORK[stage]}: {done:,} of {total:,}")
        self._tasks[stage] = done

    def _draw(self, stage: str, done: int, total: int) -> None:
        """Draw the bars of the stages at work; what is said between two stages finds none in its way."""
        if self._bars is None:
            self._start()
        if stage not in self._unfinished:
            self._tasks[stage] = self._bars.add_task(AT_WORK[stage], total=total)
            self._unfinished.add(stage)
        self._bars.update(self._tasks[stage], completed=done, total=total)
        if done == total:
            self._unfinished.discard(stage)
        if not self._unfinished:
            self._stop()

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        # Notes said meanwhile keep their names whole: a terminal folds lines itself.
        self._bars = Progress(*columns, console=Console(stderr=True, soft_wrap=True))
        self._bars.start()

    def _stop(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
