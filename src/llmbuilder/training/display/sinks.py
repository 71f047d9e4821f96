"""Other places that metrics go to when asked: TensorBoard, trackio, Weights & Biases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmbuilder.config.schema import Config
from llmbuilder.errors import ConfigError, MissingDependencyError
from llmbuilder.training.display.callbacks import Callback
from llmbuilder.training.results import TrainingResults


def open_sinks(config: Config, folder: Path) -> list[Callback]:
    """Return the sinks that `config.tracking` asks for. Raises MissingDependencyError if a library is not there."""
    tracking = config.tracking
    sinks: list[Callback] = []
    if tracking.tensorboard:
        sinks.append(TensorBoardSink(folder))
    if tracking.trackio:
        sinks.append(TrackioSink(config, folder))
    if tracking.wandb:
        sinks.append(WandbSink(config))
    return sinks


def _numbers(metrics: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name != "step" and isinstance(value, int | float)}


class TensorBoardSink(Callback):
    """Writes event files into the run directory: tensorboard --logdir RUN."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise MissingDependencyError("tensorboard", "tensorboard", "tracking.tensorboard") from None
        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def on_log(self, metrics: dict[str, Any]) -> None:
        for name, value in _numbers(metrics).items():
            self._writer.add_scalar(name, value, metrics["step"])
        if "sample" in metrics:
            self._writer.add_text("sample", metrics["sample"], metrics["step"])

    def on_end(self, results: TrainingResults) -> None:
        self._writer.close()


class TrackioSink(Callback):
    """Sends metrics to trackio, which keeps them on this machine unless told otherwise."""

    def __init__(self, config: Config, folder: Path) -> None:
        try:
            import trackio
        except ImportError:
            raise MissingDependencyError("trackio", "trackio", "tracking.trackio") from None
        self._trackio = trackio
        name = folder.resolve().name
        trackio.init(project=config.tracking.trackio_project, name=name, config=config.to_dict(), resume="allow")

    def on_log(self, metrics: dict[str, Any]) -> None:
        if numbers := _numbers(metrics):
            self._trackio.log(numbers, step=metrics["step"])

    def on_end(self, results: TrainingResults) -> None:
        self._trackio.finish()


class WandbSink(Callback):
    """Sends metrics to Weights & Biases."""

    def __init__(self, config: Config) -> None:
        try:
            import wandb
        except ImportError:
            raise MissingDependencyError("wandb", "wandb", "tracking.wandb") from None
        tracking = config.tracking
        try:
            self._run = wandb.init(
                project=tracking.wandb_project, name=tracking.wandb_run_name, config=config.to_dict()
            )
        except wandb.Error as error:  # nobody is logged in, or the service cannot be had
            raise ConfigError(f"tracking.wandb: {error} Or set WANDB_MODE=offline, or tracking.wandb=false") from error

    def on_log(self, metrics: dict[str, Any]) -> None:
        if numbers := _numbers(metrics):
            self._run.log(numbers, step=metrics["step"])

    def on_end(self, results: TrainingResults) -> None:
        self._run.finish()
