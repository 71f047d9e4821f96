"""Training state on disk: `checkpoints/step-00000500.pt`, newest few kept.

A checkpoint holds everything a run needs to go on as if it had not stopped: weights, optimizer state, random
states, the step (from which the data position follows), and a checksum over the weights.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from llmbuilder import __version__
from llmbuilder.errors import CheckpointError
from llmbuilder.files import atomic_path
from llmbuilder.model.saving import read_torch_file, weights_checksum, write_torch_file

logger = logging.getLogger("llmbuilder")
FORMAT = "llmbuilder-checkpoint"
FORMAT_VERSION = 1
_NAME = re.compile(r"step-(\d+)\.pt$")


@dataclass
class TrainingState:
    """The state of a run after `step` steps."""

    step: int
    weights: dict[str, Tensor]
    optimizers: list[dict[str, Any]]
    random: dict[str, Any] = field(default_factory=dict)
    best_validation_loss: float | None = None
    scaler: dict[str, Any] = field(default_factory=dict)
    tokenizer: str | None = None  # fingerprint


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return where the checkpoint of a step belongs."""
    return folder / f"step-{step:08d}.pt"


def write_checkpoint(folder: Path, state: TrainingState, keep: int) -> Path:
    """Write a checkpoint, then remove all but the newest `keep`."""
    path = checkpoint_path(folder, state.step)
    content = {"format": FORMAT, "format_version": FORMAT_VERSION, "llmbuilder": __version__, **vars(state)}
    content["checksum"] = weights_checksum({name: t.detach().cpu() for name, t in state.weights.items()})
    with atomic_path(path) as temporary:
        write_torch_file(content, temporary)
    for old in list_checkpoints(folder)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """Return a run's checkpoints, oldest first."""
    return sorted(path for path in folder.glob("step-*.pt") if _NAME.search(path.name))


def read_checkpoint(path: Path) -> TrainingState:
    """Read one checkpoint. Raises CheckpointError if it is damaged, foreign or newer than this version."""
    content = read_torch_file(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no training checkpoint")
    if content["format_version"] > FORMAT_VERSION:
        raise CheckpointError(f"{path} was made by a newer LLMBuilder ({content.get('llmbuilder')}): upgrade to resume")
    state = TrainingState(**{name: content[name] for name in TrainingState.__dataclass_fields__})
    if weights_checksum(state.weights) != content["checksum"]:
        raise CheckpointError(f"{path} is damaged: the checksum of its weights does not match")
    return state


def read_newest_checkpoint(folder: Path) -> TrainingState:
    """Read the newest checkpoint that is whole, naming damaged ones. Raises CheckpointError if there is none."""
    paths = list_checkpoints(folder)
    for path in reversed(paths):
        try:
            return read_checkpoint(path)
        except CheckpointError as error:
            logger.warning(f"{error}; trying the one before")
    raise CheckpointError(f"there is no usable checkpoint in {folder}" + (f" ({len(paths)} damaged)" if paths else ""))
