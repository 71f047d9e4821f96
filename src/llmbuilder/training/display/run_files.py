"""What every run leaves to be looked at: `metrics.jsonl` and `report.html`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmbuilder.files import read_json_lines, write_text
from llmbuilder.report import write_run_report
from llmbuilder.training.display.callbacks import Callback, RunPlan
from llmbuilder.training.results import TrainingResults


class MetricsFile(Callback):
    """Appends each logged line to metrics.jsonl; lines past the first step of a resumed run are dropped."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_start(self, plan: RunPlan) -> None:
        kept = [line for line in read_json_lines(self._path) if line["step"] <= plan.first_step]
        write_text(self._path, "".join(json.dumps(line) + "\n" for line in kept))

    def on_log(self, metrics: dict[str, Any]) -> None:
        with open(self._path, "a", encoding="utf-8") as handle:
            handle.write(json.dumps(metrics) + "\n")


class RunReport(Callback):
    """Writes the report when the run is over."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def on_end(self, results: TrainingResults) -> None:
        write_run_report(self._folder)
