"""A number of steps that fits a time, from steps measured and then undone, corrected on the way."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from llmbuilder.training.storage.checkpoints import TrainingState

if TYPE_CHECKING:
    from llmbuilder.training.loop.trainer import Trainer

_MEASURED_STEPS = 8
_CORRECTED_AT = (0.05, 0.15, 0.3, 0.45)  # shares of the time; the last while the linear schedule is still flat
_FEWEST_SEEN = 10  # steps; the first ones are no measure
_RESERVE_SECONDS = 1.0  # to write the model


class TimeBudget:
    """Keeps a run of `seconds` in time."""

    def __init__(self, trainer: Trainer, seconds: float) -> None:
        self._trainer = trainer
        self._begin = time.perf_counter()
        self._deadline = self._begin + seconds - _RESERVE_SECONDS
        self._most = trainer.settings.max_steps or 1 << 62
        self._corrections = list(_CORRECTED_AT)
        self._steps_began = self._begin
        self._tail = 0.0

    def fit(self) -> None:
        """Measure a few steps and an evaluation, undo them, and choose the number of steps."""
        trainer = self._trainer
        weights = {name: tensor.clone() for name, tensor in trainer.model.weights().items()}
        optimizer_state = trainer.optimizers.state_dict()  # of no step yet: nothing in it changes
        callbacks, trainer.callbacks = trainer.callbacks, []
        times = []
        for step in range(_MEASURED_STEPS):
            begin = time.perf_counter()
            trainer.one_step(trainer.batches.fetch(step))
            times.append(time.perf_counter() - begin)
        evaluation = 0.0
        if trainer.validation is not None and trainer.settings.eval_every:
            begin = time.perf_counter()
            trainer.validation_loss()
            evaluation = time.perf_counter() - begin
        trainer.callbacks = callbacks
        trainer.optimizers.forget()
        trainer.snapshots.restore(TrainingState(step=0, weights=weights, optimizers=optimizer_state))
        self._tail = evaluation
        cost = sorted(times)[len(times) // 2] + evaluation / max(1, trainer.settings.eval_every)
        self._set(int((self._deadline - time.perf_counter() - evaluation) / cost))
        self._steps_began = time.perf_counter()

    def correct(self) -> None:
        """Correct the number of steps by the speed seen so far, at a few moments; called after every step."""
        trainer = self._trainer
        now = time.perf_counter()
        if not self._corrections or trainer.step < _FEWEST_SEEN or not self._is_time(now):
            return
        self._corrections.pop(0)
        cost = (now - self._steps_began) / trainer.step
        self._set(max(trainer.step + 1, trainer.step + int((self._deadline - now - self._tail) / cost)))

    def _is_time(self, now: float) -> bool:
        """Whether the next correction is due, by the main process's clock."""
        due = now - self._begin >= self._corrections[0] * (self._deadline - self._begin)
        return self._trainer.processes.on_main(lambda: due)

    def _set(self, steps: int) -> None:
        """All processes take the main one's number: their clocks differ."""
        trainer = self._trainer
        trainer.set_max_steps(trainer.processes.on_main(lambda: min(self._most, steps)))
