"""`report.html`: what a finished run looks like, written for its owner."""

from __future__ import annotations

from pathlib import Path

from llmbuilder.report import write_run_report
from llmbuilder.training.display.callbacks import Callback
from llmbuilder.training.results import TrainingResults


class RunReport(Callback):
    """Writes the report when the run is over."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def on_end(self, results: TrainingResults) -> None:
        if results.history:  # a run stopped before its first line has nothing to show
            write_run_report(self._folder)
