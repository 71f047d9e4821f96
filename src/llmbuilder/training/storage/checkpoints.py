"""Training state on disk: `checkpoints/step-00000500.pt`, newest few kept.

A checkpoint holds everything a run needs to go on as if it had not stopped: weights, optimizer state, random
states, the step and the sequences it is through with (from which the data position follows), the configuration, and a
checksum over all tensors. It is copied at once and written by a thread, so that training waits for the copy only.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llmbuilder import __version__
from llmbuilder.config.schema import TrainingConfig
from llmbuilder.errors import CheckpointError, NoCheckpointError
from llmbuilder.files import atomic_path
from llmbuilder.formats.model_file import weights_checksum
from llmbuilder.formats.torch_files import read_torch_file, write_torch_file
from llmbuilder.training.storage.sharded_checkpoints import (
    CHECKPOINT_FORMAT_VERSION,
    is_sharded,
    read_sharded_state,
    remove_sharded,
)

logger = logging.getLogger("llmbuilder")
CHECKPOINT_FORMAT = "llmbuilder-checkpoint"
_NAME = re.compile(r"step-(\d+)(\.pt)?$|\.step-(\d+)\.tmp$")


@dataclass
class TrainingState:
    """The state of a run after `step` steps. A sharded one names its folder and leaves the tensors there."""

    step: int
    weights: dict[str, Tensor]
    optimizers: list[dict[str, Any]]
    random: list[dict[str, Tensor]] = field(default_factory=list)  # of each process
    best_validation_loss: float | None = None
    scaler: dict[str, Any] = field(default_factory=dict)
    tokenizer: str | None = None  # fingerprint
    sequences: int | None = None  # trained on so far; None in checkpoints of earlier versions
    sequences_left_out: int = 0  # after loss spikes
    data_shift: int = 0  # what earlier versions wrote in its place, in batches
    recent_losses: list[float] = field(default_factory=list)
    planned: int | None = None  # steps of a run with a time budget, how far it is, and what it has spent of it
    progress: float = 0.0
    seconds: float = 0.0
    config: dict[str, Any] = field(default_factory=dict)
    sharded: str | None = None


class CheckpointStore:
    """Writes a run's checkpoints, one at a time, in the background, and keeps the newest `keep`."""

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder = folder
        self._keep = keep
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: Future[Path] | None = None

    def write(self, state: TrainingState) -> float:
        """Copy `state`, begin to write it, and return for how many seconds the caller was held up."""
        begin = time.perf_counter()
        self.finish()
        self._writing = self._thread.submit(write_checkpoint, self._folder, _copied(state), self._keep)
        return time.perf_counter() - begin

    def finished(self) -> Path | None:
        """Return the checkpoint that was completed since the last call, if any. Raises what writing it raised."""
        return self.finish() if self._writing is not None and self._writing.done() else None

    def finish(self) -> Path | None:
        """Wait until nothing is being written; return and raise as `finished`."""
        writing, self._writing = self._writing, None
        return writing.result() if writing is not None else None

    def close(self) -> None:
        """Let the thread end after what it is writing."""
        self._thread.shutdown()


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, TrainingState):
        return TrainingState(**{name: _copied(item) for name, item in vars(value).items()})
    if isinstance(value, dict):
        return {name: _copied(item) for name, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list | tuple) else value


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return where the checkpoint of a step belongs."""
    return folder / f"step-{step:08d}.pt"


def write_checkpoint(folder: Path, state: TrainingState, keep: int) -> Path:
    """Write a checkpoint, then remove all but the newest `keep`."""
    path = checkpoint_path(folder, state.step)
    content = {
        "format": CHECKPOINT_FORMAT,
        "format_version": CHECKPOINT_FORMAT_VERSION,
        "llmbuilder": __version__,
        **vars(state),
    }
    content["torch"] = str(torch.__version__)
    content["checksum"] = weights_checksum(dict(_tensors("", vars(state))))
    with atomic_path(path) as temporary:
        write_torch_file(content, temporary)
    remove_old_checkpoints(folder, keep)
    return path


def _tensors(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor inside nested values, under the path that leads to it."""
    if isinstance(value, Tensor):
        yield name, value.detach().cpu()
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _tensors(f"{name}/{key}", item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _tensors(f"{name}/{index}", item)


def remove_old_checkpoints(folder: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints."""
    for old in list_checkpoints(folder)[:-keep]:
        remove_checkpoint(old)


def remove_checkpoint(path: Path) -> None:
    """Delete a checkpoint and nothing that others have put beside its files."""
    if path.is_dir():
        remove_sharded(path)
    else:
        path.unlink(missing_ok=True)


def list_checkpoints(folder: Path) -> list[Path]:
    """Return a run's checkpoints, oldest first; a sharded one that is whole but for its name is one of them."""
    paths = [path for path in (*folder.glob(".step-*.tmp"), *folder.glob("step-*")) if _NAME.match(path.name)]
    whole = [path for path in paths if is_sharded(path) or (path.is_file() and path.suffix == ".pt")]
    return sorted(whole, key=lambda path: (step_of(path), path))


def step_of(checkpoint: Path) -> int:
    """Return the step that one of a run's checkpoints was written after, as its name tells."""
    match = _NAME.match(checkpoint.name)
    assert match is not None
    return int(match[1] or match[3])


def read_checkpoint(path: Path) -> TrainingState:
    """Read one checkpoint. Raises CheckpointError if it is damaged, foreign or newer than this version."""
    if is_sharded(path):
        content = read_sharded_state(path)
    else:
        content = read_torch_file(path)
        if not isinstance(content, dict) or content.get("format") != CHECKPOINT_FORMAT:
            raise CheckpointError(f"{path} is no training checkpoint")
    if content["format_version"] > CHECKPOINT_FORMAT_VERSION:
        raise CheckpointError(f"{path} was made by a newer LLMBuilder ({content.get('llmbuilder')}): upgrade to resume")
    values = {name: content[name] for name in TrainingState.__dataclass_fields__ if name in content}
    if "checksum" in content and weights_checksum(dict(_tensors("", values))) != content["checksum"]:
        raise CheckpointError(f"{path} is damaged: its checksum does not match")
    return TrainingState(**values)


def counted_sequences(state: TrainingState, training: TrainingConfig) -> tuple[int, int]:
    """Return how many sequences were trained on and left out.

    Earlier versions wrote steps only: they are counted by the state's own configuration, or by `training` without one.
    """
    if state.sequences is not None:
        return state.sequences, state.sequences_left_out
    if "training" in state.config:
        training = TrainingConfig(**state.config["training"])
    per_step = training.batch_size * training.gradient_accumulation_steps
    return state.step * per_step, state.data_shift * per_step


def read_newest_checkpoint(folder: Path, *, before: int | None = None) -> TrainingState:
    """Read the newest checkpoint that is whole, of a step below `before` where one is named; say which are damaged.

    Raises NoCheckpointError if there is none.
    """
    paths = [path for path in list_checkpoints(folder) if before is None or step_of(path) < before]
    for path in reversed(paths):
        try:
            return read_checkpoint(path)
        except CheckpointError as error:
            logger.warning(f"{error}; trying the one before")
    damaged = f" ({len(paths)} damaged)" if paths else ""
    raise NoCheckpointError(f"there is no usable checkpoint in {folder}{damaged}: the run has to begin again")
