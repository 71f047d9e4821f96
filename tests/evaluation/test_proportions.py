"""Shares with their intervals, and whether two differ."""

from __future__ import annotations

import pytest

from llmbuilder.evaluation.proportions import Proportion, chance_of_difference


def test_wilson_intervals() -> None:
    found = Proportion.count([True] * 40 + [False] * 60)
    assert (found.share, found.of) == (0.4, 100)
    assert (found.low, found.high) == pytest.approx((0.3094, 0.4980), abs=1e-4)
    none = Proportion.count([False] * 20)
    assert none.low == 0.0 and none.high == pytest.approx(0.1611, abs=1e-4)
    assert Proportion.count([]).share == 0.0


def test_only_questions_that_tell_two_apart_count() -> None:
    assert chance_of_difference([True, False] * 5, [True, False] * 5) == 1.0
    assert chance_of_difference([True] * 10, [False] * 10) == pytest.approx(2 / 2**10)
    mixed = ([True] * 9 + [False] * 1 + [True] * 50, [False] * 9 + [True] * 1 + [True] * 50)
    assert chance_of_difference(*mixed) == pytest.approx(2 * 11 / 2**10)
    assert chance_of_difference(*mixed) == chance_of_difference(*reversed(mixed))
    assert chance_of_difference([], []) == 1.0
