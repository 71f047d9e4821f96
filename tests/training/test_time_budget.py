"""Runs of simulated steps: the clock is moved by what they cost, so that only the budget's own arithmetic is tried."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest

import llmbuilder as lb
from llmbuilder.config import Config
from llmbuilder.data import TextDataset
from llmbuilder.training import Callback, TrainingResults
from llmbuilder.training.loop import time_budget
from llmbuilder.training.loop.anomalies import LossWatch
from llmbuilder.training.loop.run_state import RunState
from llmbuilder.training.loop.schedules import is_due, learning_rate_factor
from llmbuilder.training.loop.time_budget import TimeBudget, measure_costs
from llmbuilder.training.processes.distributed import Processes

SECONDS, EVALUATION, EVERY = 100.0, 0.8, 500
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


def train(
    clock: Clock, cost: Cost, *, most_steps: int | None = None, advances: bool = True, state: RunState | None = None,
    stops_at: float = float("inf"),
) -> tuple[RunState, list[float]]:  # fmt: skip
    """Return the state of a run that evaluates every 500 steps, and where on its course each step was taken."""
    is_new, state = state is None, state or RunState(1, LossWatch(0))
    budget = TimeBudget(SECONDS, most_steps, state, Processes())

    def step() -> None:
        clock.now += cost(clock.now)

    def evaluate() -> None:
        clock.now += EVALUATION

    if is_new:
        budget.fit(measure_costs(lambda _: step(), evaluate), EVERY)
    else:
        budget.start(EVERY, EVALUATION)
    places = []
    while not state.is_complete and clock.now < stops_at:
        before, length = state.course
        places.append(before / length)
        step()
        state.step += 1
        if advances:
            budget.advance()
        else:
            state.progress = state.step / length
        if is_due(EVERY, before, state.course[0]) or state.is_complete:
            evaluate()
            budget.note_evaluation(EVALUATION)
    return state, places


SPEEDS: dict[str, Cost] = {
    "even": lambda now: 0.02,
    "a slow start": lambda now: 0.1 if now < 1 else 0.02,
    "a neighbour comes early": lambda now: 0.02 if now < 10 else 0.045,
    "a neighbour comes and goes": lambda now: 0.04 if 8 < now < 25 else 0.02,
    "a neighbour comes late": lambda now: 0.02 if now < 80 else 0.2,
    "twenty times slower": lambda now: 0.02 if now < 30 else 0.4,
    "uneven": lambda now: 0.01 + 0.03 * ((now * 7919) % 1),
    "large steps": lambda now: 1.7,
}


@pytest.mark.parametrize("name", SPEEDS)
def test_a_run_ends_in_its_time_and_uses_it(clock: Clock, name: str) -> None:
    state, _ = train(clock, SPEEDS[name])
    assert 0.96 * SECONDS <= clock.now <= 1.01 * SECONDS
    assert state.progress == 1


@pytest.mark.parametrize("name", SPEEDS)
def test_the_rate_never_rises_while_it_should_fall_and_ends_at_its_end(clock: Clock, name: str) -> None:
    """However the speed changes, no step turns back on the course or leaps along it."""
    _, places = train(clock, SPEEDS[name])
    config = Config().training
    config.lr_schedule, config.min_learning_rate, config.warmup_steps = "linear", 0.0, 10
    rates = [learning_rate_factor(place * 1000, 1000, config) for place in places]
    falling = rates[rates.index(max(rates)) :]
    assert all(after <= before for before, after in itertools.pairwise(falling))
    assert max(before - after for before, after in itertools.pairwise(falling)) < 0.08
    assert falling[-1] < 0.06


def test_without_looking_at_the_clock_a_neighbour_would_be_noticed(clock: Clock) -> None:
    train(clock, SPEEDS["a neighbour comes early"], advances=False)
    assert clock.now > 1.5 * SECONDS


def test_no_more_steps_than_asked_for(clock: Clock) -> None:
    assert train(clock, SPEEDS["even"], most_steps=70)[0].step == 70


def test_a_run_that_goes_on_has_only_the_rest_of_its_time(clock: Clock) -> None:
    state, first = train(clock, SPEEDS["even"], stops_at=40)
    clock.now += 1000  # nobody trains
    begin = clock.now
    state, second = train(clock, SPEEDS["even"], state=state)
    assert clock.now - begin == pytest.approx(60, abs=1.5)
    assert first[-1] < second[0]
    assert state.progress == 1


def test_too_little_time_is_said(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    train(clock, lambda now: 4.0)
    assert "leaves 12 steps of 4.0 s, which teach next to nothing: 20 take 1" in caplog.text


class _Slows(Callback):
    """Moves the clock as a machine would whose speed halves in the middle."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def on_step(self, metrics: dict) -> None:
        self._clock.now += 1.0 if self._clock.now < 100 else 2.0


def test_a_speed_that_halves_costs_what_the_missing_steps_cost(
    clock: Clock, tmp_path: Path, prose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The validation loss is within 2% of that of runs which knew their number of steps from the start, over three seeds."""
    monkeypatch.setattr(time_budget, "measure_costs", lambda *_: time_budget.Costs(1.0, 0.0))
    monkeypatch.setattr("llmbuilder.training.loop.trainer.measure_costs", lambda *_: time_budget.Costs(1.0, 0.0))
    (tmp_path / "a.txt").write_text(prose)

    def run(name: str, seed: int, **settings: object) -> TrainingResults:
        config = lb.load_config(preset="tiny", overrides={
            "model.num_layers": 2, "model.embedding_dim": 32, "model.num_heads": 2, "model.max_seq_length": 32,
            "tokenizer.algorithm": "char", "training.batch_size": 8, "training.eval_every": 20,
            "system.deterministic": True, "system.seed": seed,
            **{f"training.{key}": value for key, value in settings.items()}})  # fmt: skip
        dataset = TextDataset.from_config(
            tmp_path / "a.txt", config, lb.tokenizer.train_tokenizer([prose], algorithm="char")
        )
        config.model.vocab_size = len(dataset.tokenizer or "")
        clock.now = 0.0
        return lb.train_model(lb.build_model(config), dataset, config, tmp_path / name, [_Slows(clock)])

    losses: list[list[float]] = []
    for seed in (1, 2, 3):
        by_clock = run(f"clock{seed}", seed, time_budget_seconds=200.0, max_steps=None)
        assert by_clock.planned_steps == pytest.approx(200, abs=3)
        assert by_clock.steps == pytest.approx(150, abs=4)
        by_steps = run(f"steps{seed}", seed, max_steps=by_clock.steps)
        losses.append([[line["validation_loss"] for line in found.history if "validation_loss" in line][-1]
                       for found in (by_clock, by_steps)])  # fmt: skip
    clocked, stepped = (statistics.mean(column) for column in zip(*losses, strict=True))
    assert clocked == pytest.approx(stepped, rel=0.02)
