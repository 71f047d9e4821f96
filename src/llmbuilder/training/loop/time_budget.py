"""A number of steps that fits a time, from steps measured beforehand, corrected on the way."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from llmbuilder.training.loop.run_state import RunState
from llmbuilder.training.processes.distributed import Processes

_MEASURED_STEPS = 8
_CORRECTED_AT = (0.05, 0.15, 0.3, 0.45)  # shares of the time; the last while the linear schedule is still flat
_FEWEST_SEEN = 10  # steps; fewer are no measure
_RESERVE_SECONDS = 1.0  # to write the model


@dataclass(frozen=True)
class Costs:
    """Seconds that a step and an evaluation take."""

    step: float
    evaluation: float


def measure_costs(take_step: Callable[[int], object], evaluate: Callable[[], object] | None) -> Costs:
    """Take a few steps, by their numbers, and evaluate, if there is something to evaluate; return the times."""
    times = [_seconds(partial(take_step, step)) for step in range(_MEASURED_STEPS)]
    return Costs(sorted(times)[len(times) // 2], _seconds(evaluate) if evaluate is not None else 0.0)


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


class TimeBudget:
    """Keeps a run of `seconds`, of at most `most_steps`, in time; `set_max_steps` changes the run's length."""

    def __init__(
        self,
        seconds: float,
        most_steps: int | None,
        state: RunState,
        processes: Processes,
        set_max_steps: Callable[[int], None],
    ) -> None:
        self._state = state
        self._processes = processes
        self._set_max_steps = set_max_steps
        self._begin = time.perf_counter()
        self._deadline = self._begin + seconds - _RESERVE_SECONDS
        self._most = most_steps or 1 << 62
        self._corrections = list(_CORRECTED_AT)
        self._seen = (0, self._begin)  # step and time of the last look
        self._tail = 0.0

    def fit(self, costs: Costs, steps_per_evaluation: int) -> None:
        """Choose the number of steps by what one costs, and its share of an evaluation."""
        self._tail = costs.evaluation
        cost = costs.step + costs.evaluation / max(1, steps_per_evaluation)
        self._set(int((self._deadline - time.perf_counter() - costs.evaluation) / cost))
        self._seen = (self._state.step, time.perf_counter())

    def correct(self) -> None:
        """Correct the number of steps by the speed since the last time, at a few moments; called after every step."""
        step, (seen, then) = self._state.step, self._seen
        now = time.perf_counter()
        if not self._corrections or step - seen < _FEWEST_SEEN or not self._is_time(now):
            return
        self._corrections.pop(0)
        self._seen = (step, now)
        cost = (now - then) / (step - seen)
        self._set(max(step + 1, step + int((self._deadline - now - self._tail) / cost)))

    def _is_time(self, now: float) -> bool:
        """Whether the next correction is due, by the main process's clock."""
        due = now - self._begin >= self._corrections[0] * (self._deadline - self._begin)
        return self._processes.on_main(lambda: due)

    def _set(self, steps: int) -> None:
        """All processes take the main one's number: their clocks differ."""
        self._set_max_steps(self._processes.on_main(lambda: min(self._most, steps)))
