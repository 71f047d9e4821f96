"""Runs of simulated steps: the clock is moved by what they cost, so that only the budget's own arithmetic is tried."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llmbuilder.training.loop import time_budget
from llmbuilder.training.loop.anomalies import LossWatch
from llmbuilder.training.loop.run_state import RunState
from llmbuilder.training.loop.time_budget import TimeBudget, measure_costs
from llmbuilder.training.processes.distributed import Processes

SECONDS, EVALUATION = 100.0, 0.8
Cost = Callable[[float], float]  # seconds of a step, by the seconds that have passed


class Clock:
    now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time_budget, "time", clock)
    return clock


def train(clock: Clock, cost: Cost, *, most_steps: int | None = None, corrects: bool = True) -> tuple[float, int]:
    """Return the seconds and the steps of a run that evaluates every 500 steps."""
    state = RunState(1, LossWatch(0))
    budget = TimeBudget(SECONDS, most_steps, state, Processes(), lambda steps: setattr(state, "max_steps", steps))

    def step() -> None:
        clock.now += cost(clock.now)

    def evaluate() -> None:
        clock.now += EVALUATION

    budget.fit(measure_costs(lambda _: step(), evaluate), 500)
    while not state.is_complete:
        step()
        state.step += 1
        if corrects:
            budget.correct()
        if state.step % 500 == 0 or state.is_complete:
            evaluate()
    return clock.now, state.step


SPEEDS: dict[str, Cost] = {
    "even": lambda now: 0.02,
    "a slow start": lambda now: 0.1 if now < 1 else 0.02,
    "a neighbour comes early": lambda now: 0.02 if now < 10 else 0.045,
    "a neighbour comes and goes": lambda now: 0.04 if 8 < now < 25 else 0.02,
    "large steps": lambda now: 1.7,
}


@pytest.mark.parametrize("name", SPEEDS)
def test_a_run_ends_in_its_time_and_uses_it(clock: Clock, name: str) -> None:
    seconds, _ = train(clock, SPEEDS[name])
    assert 0.93 * SECONDS <= seconds <= 1.01 * SECONDS


def test_without_corrections_a_neighbour_would_be_noticed(clock: Clock) -> None:
    assert train(clock, SPEEDS["a neighbour comes early"], corrects=False)[0] > 1.5 * SECONDS


def test_no_more_steps_than_asked_for(clock: Clock) -> None:
    assert train(clock, SPEEDS["even"], most_steps=70)[1] == 70
