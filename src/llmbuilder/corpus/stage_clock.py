"""How long each stage of a preparation took."""

from __future__ import annotations

import time
from pathlib import Path

from llmbuilder.files import write_json
from llmbuilder.report.corpus import STAGE_TIMES
from llmbuilder.stages import Progress


class StageClock:
    """Hands progress on, and notes the seconds between a stage's first word and its last."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._begun: dict[str, float] = {}
        self.seconds: dict[str, float] = {}
        self._has_worked = False

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Take note of a stage's progress."""
        self._has_worked |= done < total and stage != "deduplicate"  # which is always decided anew
        now = time.perf_counter()
        self.seconds[stage] = round(now - self._begun.setdefault(stage, now), 3)
        self._progress(stage, done, total)

    def write(self, folder: Path) -> None:
        """Keep the seconds of each stage with a corpus, unless nothing had to be done for it."""
        if self._has_worked:
            write_json(folder / STAGE_TIMES, self.seconds)
