"""From a run in memory to its saved state and back, whole or cut over processes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llmbuilder.config.schema import Config
from llmbuilder.model import LanguageModel
from llmbuilder.training.loop.learner import Learner
from llmbuilder.training.loop.meter import Meter
from llmbuilder.training.loop.run_state import RunState
from llmbuilder.training.storage.checkpoints import (
    CheckpointStore,
    TrainingState,
    counted_sequences,
    list_checkpoints,
    read_newest_checkpoint,
    remove_checkpoint,
    remove_old_checkpoints,
    step_of,
)


class Snapshots:
    """Saves and restores what a run needs to go on; used as a context that ends with nothing half-written.

    `tokenizer` is the fingerprint of the run's, `announce` is told of every checkpoint that is on the disk.
    """

    def __init__(
        self,
        folder: Path,
        config: Config,
        state: RunState,
        learner: Learner,
        meter: Meter,
        tokenizer: str | None,
        announce: Callable[[Path], None],
    ) -> None:
        self._folder = folder
        self._config = config
        self._state = state
        self._learner = learner
        self._meter = meter
        self._tokenizer = tokenizer
        self._announce = announce
        self._store = CheckpointStore(folder, config.training.keep_checkpoints)

    def __enter__(self) -> Snapshots:
        return self

    def __exit__(self, *_: object) -> None:
        self._store.close()

    def saved(self) -> list[Path]:
        """Return the checkpoints on the disk, oldest first."""
        return list_checkpoints(self._folder)

    def save(self) -> None:
        """Begin to write a checkpoint of this moment; a sharded one is written before this returns."""
        learner = self._learner
        begin = time.perf_counter()
        values = self._values()
        if learner.is_sharded:
            self._save_sharded(values)
            self._meter.add_stall(time.perf_counter() - begin)
        elif learner.processes.is_main:
            weights, optimizers = learner.model.learned_weights(), learner.optimizers.state_dict()
            stall = self._store.write(TrainingState(**values, weights=weights, optimizers=optimizers))
            self._meter.add_stall(stall)

    def _values(self) -> dict[str, Any]:
        """Return everything but weights and optimizer state; every process must call this."""
        state, learner = self._state, self._learner
        return {
            "step": state.step,
            "random": learner.processes.gather(_random_state(learner.device)),
            "best_validation_loss": state.best_validation_loss,
            "scaler": learner.scaler.state_dict(),
            "tokenizer": self._tokenizer,
            "sequences": state.sequences,
            "sequences_left_out": state.sequences_left_out,
            "planned": state.planned,
            "progress": state.progress,
            "seconds": state.seconds,
            "recent_losses": list(state.watch.losses),
            "config": self._config.to_dict(),
        }

    def _save_sharded(self, values: dict[str, Any]) -> None:
        from llmbuilder.training.storage.sharded_checkpoints import write_sharded

        learner = self._learner
        step = values.pop("step")
        path = write_sharded(self._folder, step, learner.model, learner.optimizers.adamw, values, learner.processes)
        if learner.processes.is_main:
            remove_old_checkpoints(self._folder, self._config.training.keep_checkpoints)
            self._announce(path)

    def note_finished(self) -> None:
        """Tell of a checkpoint that has reached the disk. Raises LLMBuilderError if writing it failed."""
        if (path := self._store.finished()) is not None:
            self._announce(path)

    def finish(self) -> None:
        """Wait until the last checkpoint is on the disk."""
        if (path := self._store.finish()) is not None:
            self._announce(path)

    def go_back(self) -> int:
        """Restore the newest whole checkpoint and return its step. Raises CheckpointError if there is none.

        One of this very step may hold what made the next loss bad: an older one is better. What is newer than the
        state returned to is removed, so that nobody goes on from it.
        """
        self.finish()
        older = [path for path in self.saved() if step_of(path) < self._state.step]
        saved = read_newest_checkpoint(self._folder, before=self._state.step if older else None)
        self.restore(saved)
        self._learner.processes.on_main(lambda: self._remove_after(saved.step))
        return saved.step

    def _remove_after(self, step: int) -> None:
        for path in self.saved():
            if step_of(path) > step:
                remove_checkpoint(path)

    @contextlib.contextmanager
    def undone(self) -> Iterator[None]:
        """Take back at the end what was learned inside; only for the time before the first step."""
        learner = self._learner
        # Of a model cut over processes these are the parts that this one holds, and they go back where they were.
        weights = {name: p.detach().clone() for name, p in learner.model.named_parameters() if p.requires_grad}
        scaler = learner.scaler.state_dict()
        yield
        learner.optimizers.forget()
        _copy_into(learner.model, weights)
        self._restore_values(TrainingState(step=0, weights={}, optimizers=[], scaler=scaler))

    def restore(self, saved: TrainingState) -> None:
        """Put the run where `saved` was saved."""
        self._restore_tensors(saved)
        self._restore_values(saved)

    def _restore_values(self, saved: TrainingState) -> None:
        if saved.scaler:
            self._learner.scaler.load_state_dict(saved.scaler)
        processes = self._learner.processes
        if len(saved.random) == processes.count:  # another number of processes draws anew
            _set_random_state(saved.random[processes.rank], self._learner.device)
        state = self._state
        state.step = saved.step
        state.sequences, state.sequences_left_out = counted_sequences(saved, self._config.training)
        state.best_validation_loss = saved.best_validation_loss
        state.planned, state.progress, state.seconds = saved.planned, saved.progress, saved.seconds
        state.watch.losses.clear()
        state.watch.losses.extend(saved.recent_losses)

    def _restore_tensors(self, saved: TrainingState) -> None:
        model, optimizers = self._learner.model, self._learner.optimizers
        if saved.sharded is not None:
            from llmbuilder.training.storage.sharded_checkpoints import load_sharded

            load_sharded(Path(saved.sharded), model, optimizers.adamw)
        elif self._learner.is_sharded:
            from llmbuilder.training.processes.sharding import load_whole_state

            optimizer_state = saved.optimizers[0] if saved.optimizers else None
            load_whole_state(model, optimizers.adamw, saved.weights, optimizer_state)
        else:
            _copy_into(model, saved.weights)
            if saved.optimizers:
                optimizers.load_state_dict(saved.optimizers)


def _copy_into(model: LanguageModel, weights: dict[str, Tensor]) -> None:
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in weights.items():
            own[name].copy_(tensor)


def _random_state(device: torch.device) -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    return {**state, "cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else state


def _set_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
