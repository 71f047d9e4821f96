"""`metrics.jsonl`: every logged line of a run, one JSON object each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmbuilder.errors import TrainingError
from llmbuilder.files import read_json_lines, write_text
from llmbuilder.notices import command
from llmbuilder.training.display.callbacks import Callback, RunPlan


class MetricsFile(Callback):
    """Appends each logged line to metrics.jsonl; where a run goes on from a step, lines past it are dropped."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_start(self, plan: RunPlan) -> None:
        self.on_rewind(plan.first_step)

    def on_rewind(self, step: int) -> None:
        kept = [line for line in read_json_lines(self._path) if line["step"] <= step]
        write_text(self._path, "".join(json.dumps(line) + "\n" for line in kept))

    def on_log(self, metrics: dict[str, Any]) -> None:
        try:
            with open(self._path, "a", encoding="utf-8") as handle:
                handle.write(json.dumps(metrics) + "\n")
        except OSError as error:
            again = command("train", "resume", self._path.parent)
            raise TrainingError(
                f"cannot write {self._path}: {error.strerror or error}; make room, then go on with: {again}"
            ) from error
