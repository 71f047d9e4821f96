"""A run that ends when its time is over: how far it is follows from the clock, and the schedule from how far it is."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from llmbuilder.training.loop.run_state import RunState
from llmbuilder.training.processes.distributed import Processes

logger = logging.getLogger("llmbuilder")
USEFUL_STEPS = 20  # fewer teach a model next to nothing
_MEASURED_STEPS = 12
_FEWEST_MEASURED, _MEASURING_SHARE = 3, 0.03  # of steps that are long, and of the time that measuring them may take
_SEEN_SHARE = 0.05  # of the time: so much of the latest past tells how fast steps are
_FEWEST_SEEN = 3  # steps
_RESERVE_SECONDS = 1.0  # to write the model
_MOST_SLOWDOWN = 1.5  # that the reserve follows: the steps of a crowded moment say little about what comes later


@dataclass(frozen=True)
class Costs:
    """Seconds that a step and an evaluation take."""

    step: float
    evaluation: float


def measure_costs(
    take_step: Callable[[int], object],
    evaluate: Callable[[], object] | None,
    note: Callable[[float], None] = lambda seconds: None,
    seconds: float = math.inf,
) -> Costs:
    """Take a few steps, by their numbers, and evaluate, if there is something to evaluate; return the times.

    Of a run of `seconds` they take a small part, unless three steps are more. `note` is told what each step took and
    may make the next ones faster: what counts is the time of the fast ones.
    """
    times = []
    for step in range(_MEASURED_STEPS):
        times.append(_seconds(partial(take_step, step)))
        note(times[-1])
        if len(times) >= _FEWEST_MEASURED and sum(times) > _MEASURING_SHARE * seconds:
            break
    return Costs(sorted(times)[len(times) // 4], _seconds(evaluate) if evaluate is not None else 0.0)


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


class TimeBudget:
    """Keeps a run of `seconds`, of at most `most_steps`, in time.

    After every step the rest of the course is divided among the steps that the time left allows at the speed of the
    latest ones. So the schedule reaches its end when the time does, whatever the speed did, and never turns back.
    A run that goes on has spent `state.seconds` of its time already. `reserve` are the seconds for what comes after it,
    at the speed that the first steps have: when steps become slower, that will take longer, too.
    """

    def __init__(
        self, seconds: float, most_steps: int | None, state: RunState, processes: Processes, reserve: float = 0.0
    ) -> None:
        self._state = state
        self._processes = processes
        self._begin = time.perf_counter() - state.seconds
        self._deadline = self._begin + seconds - _RESERVE_SECONDS
        self._most = most_steps or 1 << 62
        self._reserve = reserve
        self._first_cost: float | None = None  # seconds of a step
        self._window = _SEEN_SHARE * seconds
        self._steps: deque[float] = deque()  # seconds of the latest ones
        self._evaluation = 0.0
        self._evaluations = 0.0  # over the whole course, but for the last
        self._then = self._begin

    def fit(self, costs: Costs, steps_per_evaluation: int) -> None:
        """Choose the length of the course by what a step costs, and its share of an evaluation."""
        cost = costs.step + costs.evaluation / max(1, steps_per_evaluation)
        left = self._deadline - time.perf_counter() - costs.evaluation - self._reserve
        planned = self._processes.on_main(lambda: max(1, min(self._most, int(left / cost))))
        self._state.planned = planned
        if planned < min(USEFUL_STEPS, self._most):
            least = math.ceil(USEFUL_STEPS * cost + costs.evaluation + time.perf_counter() - self._begin)
            logger.warning(
                f"the time budget leaves {planned} {'step' if planned == 1 else 'steps'} of {costs.step:.1f} s, which "
                f"teach next to nothing: {USEFUL_STEPS} take {least + _RESERVE_SECONDS:.0f} s"
            )
        self._first_cost = costs.step
        self._steps.extend([costs.step] * _FEWEST_SEEN)
        self.start(steps_per_evaluation, costs.evaluation)

    def start(self, steps_per_evaluation: int, evaluation: float) -> None:
        """Begin to count steps, of a course whose length is chosen; an evaluation takes `evaluation` seconds."""
        planned = self._state.planned or 1
        self._evaluation = evaluation
        self._evaluations = planned / steps_per_evaluation if steps_per_evaluation else 0.0
        self._state.max_steps = self._state.step if self._state.is_complete else max(planned, self._state.step + 1)
        self._then = time.perf_counter()

    def note_evaluation(self, seconds: float) -> None:
        """Learn what an evaluation takes now; it is no part of a step."""
        self._evaluation = seconds
        self._then += seconds

    def advance(self) -> None:
        """Move on by the step that was just taken; all processes take the main one's clock."""
        state = self._state
        now = time.perf_counter()
        self._note_step(now - self._then)
        self._then = now
        state.seconds = now - self._begin
        remaining = self._processes.on_main(lambda: min(self._most - state.step, self._affordable(now)))
        state.max_steps = state.step + max(0, remaining)
        state.progress = 1.0 if remaining < 1 else state.progress + (1 - state.progress) / (remaining + 1)

    def seconds_left(self) -> float:
        """Return the seconds until the run will have ended."""
        return max(0.0, self._deadline - self._reserve * self._slowdown() - time.perf_counter())

    def _note_step(self, seconds: float) -> None:
        steps = self._steps
        steps.append(seconds)
        while len(steps) > _FEWEST_SEEN and sum(steps) - steps[0] >= self._window:
            steps.popleft()

    def _affordable(self, now: float) -> int:
        """Return how many more steps there is time for, after that for evaluations."""
        evaluations = self._evaluations * (1 - self._state.progress) + 1
        left = self._deadline - now - evaluations * self._evaluation - self._reserve * self._slowdown()
        return int(left / self._cost())

    def _cost(self) -> float:
        return sum(self._steps) / len(self._steps)

    def _slowdown(self) -> float:
        """Return how many times longer than at first a step takes now, as far as the reserve follows it."""
        return (
            min(_MOST_SLOWDOWN, max(1.0, self._cost() / self._first_cost)) if self._steps and self._first_cost else 1.0
        )
