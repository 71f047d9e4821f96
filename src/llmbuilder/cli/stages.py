"""Progress of a command that works in stages on many units."""

from __future__ import annotations

import sys
from typing import Any

from llmbuilder.cli.output import say
from llmbuilder.cli.streams import knows_cursor
from llmbuilder.stages import AT_WORK


class StageProgress:
    """One line a stage: bars in a terminal, else plain lines when a stage begins and ends."""

    def __init__(self, *, plain: bool, quiet: bool) -> None:
        self._quiet = quiet
        self._plain = plain or not knows_cursor(sys.stderr)
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> StageProgress:
        if not (self._quiet or self._plain):
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bars = Progress(*columns, console=Console(stderr=True))
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that `done` of the `total` units of a stage are finished."""
        name = AT_WORK[stage]
        if self._bars is not None:
            if stage not in self._tasks:
                self._tasks[stage] = self._bars.add_task(name, total=total)
            self._bars.update(self._tasks[stage], completed=done, total=total)
        elif self._plain and not self._quiet and (stage not in self._tasks or done == total):
            if self._tasks.get(stage) != total:
                say(f"{name}: {done} of {total}")
            self._tasks[stage] = done
