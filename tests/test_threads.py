"""Steps with simulated times: which way to use threads is kept when the machine gets busy and quiet again."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch

from llmbuilder import threads
from llmbuilder.threads import FairThreads, Way

QUIET = {Way(2): 0.10, Way(2, True): 0.15, Way(1): 0.17}
CROWDED = {Way(2): 2.0, Way(2, True): 0.25, Way(1): 0.30}
ONE_NEIGHBOUR = {Way(2): 0.35, Way(2, True): 0.20, Way(1): 0.17}


@pytest.fixture(autouse=True)
def _all_ways_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(threads, "others_running", lambda: 0)


def simulate(seconds: float, load: Callable[[float], dict[Way, float]], *, number: bool = True) -> list[Way]:
    """Return the way in which each step of a run was taken."""
    fair = FairThreads(2, may_change_number=number, apply=lambda way: None)
    taken, now = [], 0.0
    while now < seconds:
        taken.append(fair.way)
        cost = load(now)[fair.way]
        now += cost
        fair.note(cost)
    return taken


def share(taken: list[Way], way: Way) -> float:
    return taken.count(way) / len(taken)


def test_a_quiet_machine_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_waited_for_a_processor", lambda: 0.0)
    assert set(simulate(100, lambda now: QUIET)) == {Way(2)}


def test_beside_others_the_fastest_way_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_waited_for_a_processor", lambda: None)  # not told: it is tried
    assert share(simulate(100, lambda now: CROWDED), Way(2, True)) > 0.9
    assert share(simulate(100, lambda now: ONE_NEIGHBOUR), Way(1)) > 0.9
    assert share(simulate(100, lambda now: QUIET), Way(2)) > 0.95
    assert Way(1) not in simulate(100, lambda now: ONE_NEIGHBOUR, number=False)


def test_beside_others_a_run_begins_calmly_and_never_spins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "others_running", lambda: 4)
    monkeypatch.setattr(threads, "_waited_for_a_processor", lambda: 0.0)
    crowded = simulate(60, lambda now: CROWDED)
    assert crowded[0] == Way(2, True)
    assert Way(2) not in crowded


def test_a_wrong_guess_at_the_beginning_costs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = iter([1])
    monkeypatch.setattr(threads, "others_running", lambda: next(seen, 0))
    monkeypatch.setattr(threads, "_waited_for_a_processor", lambda: 0.0)
    taken = simulate(60, lambda now: QUIET)
    assert taken[0] == Way(2, True)
    assert share(taken, Way(2)) > 0.95


def test_a_neighbour_that_comes_and_goes_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_waited_for_a_processor", lambda: 0.0)
    taken = simulate(400, lambda now: CROWDED if 50 < now < 150 else QUIET)
    quiet = taken[: int(45 / 0.1)]
    assert set(quiet) == {Way(2)}
    assert Way(2, True) in taken
    assert share(taken[-1000:], Way(2)) > 0.95


def test_a_machine_whose_speed_wavers_by_itself_is_not_tried_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_waited_for_a_processor", lambda: 0.0)
    slow = {way: 1.5 * seconds for way, seconds in QUIET.items()}
    taken = simulate(600, lambda now: slow if now % 10 < 4 else QUIET)
    assert share(taken, Way(2)) > 0.96
    assert len(set(taken)) > 1  # it is looked at, now and then


@pytest.mark.skipif(torch.get_num_threads() < 2, reason="one thread waits for nobody")
def test_how_threads_wait_changes_no_bit_and_leaves_nothing_behind() -> None:
    before = torch.get_num_threads()
    x, w = torch.randn(512, 300), torch.randn(700, 300)
    expected = (x @ w.T).softmax(-1).sum(0)
    with FairThreads(before, may_change_number=False) as fair:
        fair._use(Way(before, is_calm=True))
        calm = (x @ w.T).softmax(-1).sum(0)
        assert any(thread.name == threads.IDLE for thread in threads.threading.enumerate())
    assert torch.equal(expected, calm)
    assert torch.get_num_threads() == before
    assert not any(thread.name == threads.IDLE for thread in threads.threading.enumerate())


def test_more_threads_than_processors_are_enough_to_be_calm(monkeypatch: pytest.MonkeyPatch) -> None:
    before, failed = torch.get_num_threads(), []
    monkeypatch.setattr(threads.threading, "excepthook", failed.append)
    with FairThreads(threads.cpu_count() + 2, may_change_number=False) as fair:
        fair._use(Way(threads.cpu_count() + 2, is_calm=True))
    torch.set_num_threads(before)
    assert not failed
