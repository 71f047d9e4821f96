"""Where metrics go: `metrics.jsonl` always, Weights & Biases when asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmbuilder.config.schema import Config
from llmbuilder.errors import MissingDependencyError
from llmbuilder.files import write_text
from llmbuilder.training.callbacks import Callback, RunPlan
from llmbuilder.training.results import TrainingResults


class MetricsFile(Callback):
    """Appends each logged line to metrics.jsonl; lines at or past the first step of a resumed run are dropped."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_start(self, plan: RunPlan) -> None:
        kept = [line for line in read_metrics(self._path) if line["step"] <= plan.first_step]
        write_text(self._path, "".join(json.dumps(line) + "\n" for line in kept))

    def on_log(self, metrics: dict[str, Any]) -> None:
        with open(self._path, "a", encoding="utf-8") as handle:
            handle.write(json.dumps(metrics) + "\n")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a metrics.jsonl; a line cut short by a kill is left out."""
    lines: list[dict[str, Any]] = []
    if path.is_file():
        for line in path.read_text("utf-8").splitlines():
            try:
                lines.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return lines


class WandbSink(Callback):
    """Sends metrics to Weights & Biases."""

    def __init__(self, config: Config) -> None:
        try:
            import wandb
        except ImportError:
            raise MissingDependencyError("wandb", "wandb", "tracking.wandb") from None
        tracking = config.tracking
        self._run = wandb.init(project=tracking.wandb_project, name=tracking.wandb_run_name, config=config.to_dict())

    def on_log(self, metrics: dict[str, Any]) -> None:
        self._run.log({key: value for key, value in metrics.items() if key != "step"}, step=metrics["step"])

    def on_end(self, results: TrainingResults) -> None:
        self._run.finish()
