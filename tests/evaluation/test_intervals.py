"""Intervals hold what they promise, on text of which more can be drawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbuilder.evaluation.intervals import Blocks, Intervals, change_interval, ratio_interval


def drawn(seed: int, *, tokens: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Return nats and bytes of tokens that are alike in stretches of a few hundred, 2 nats each on average."""
    generator = np.random.default_rng(seed)
    levels = np.repeat(generator.gamma(4.0, 0.5, tokens // 200), 200)
    return levels * generator.uniform(0.5, 1.5, tokens), generator.integers(1, 8, tokens)


def blocks_of(nats: np.ndarray, sizes: np.ndarray, *cuts: int) -> Blocks:
    blocks = Blocks()
    for some_nats, some_sizes in zip(np.split(nats, cuts), np.split(sizes, cuts), strict=True):
        blocks.add(some_nats, some_sizes)
    return blocks


def test_nineteen_intervals_of_twenty_hold_the_true_average() -> None:
    held = 0
    for seed in range(300):
        found = Intervals.of(blocks_of(*drawn(seed))).loss
        assert found is not None
        held += found[0] < 2.0 < found[1]
    assert 0.90 < held / 300 < 0.985


def test_a_difference_is_seen_that_the_texts_own_spread_would_hide() -> None:
    nats, sizes = drawn(1)
    before, after = blocks_of(nats, sizes), blocks_of(0.98 * nats, sizes)
    one, other = Intervals.of(before).bits_per_byte, Intervals.of(after).bits_per_byte
    assert one is not None and other is not None and one[0] < other[1], "apart they tell nothing"
    change = change_interval(before, after)
    assert change is not None and change == pytest.approx((-0.02, -0.02), abs=1e-9)


def test_no_difference_is_seen_where_there_is_none() -> None:
    nats, sizes = drawn(2)
    noise = np.random.default_rng(3).uniform(0.5, 1.5, len(nats))
    change = change_interval(blocks_of(nats, sizes), blocks_of(nats * noise, sizes))
    assert change is not None and change[0] < 0 < change[1]


def test_short_texts_tell_nothing() -> None:
    blocks = blocks_of(np.ones(1000), np.full(1000, 7))
    assert Intervals.of(blocks) == Intervals(None, None)
    assert Intervals.of(Blocks()) == Intervals(None, None)


@given(st.lists(st.integers(0, 3000), max_size=4).map(sorted), st.integers(0, 5))
def test_batches_do_not_matter(cuts: list[int], seed: int) -> None:
    nats, sizes = drawn(seed, tokens=3000)
    sizes = np.where(sizes == 7, -1, sizes)  # some stand for no text
    assert blocks_of(nats, sizes, *cuts).stretches() == pytest.approx(blocks_of(nats, sizes).stretches())


def test_tokenizers_that_count_bytes_otherwise_are_compared_by_what_a_byte_takes() -> None:
    nats, sizes = drawn(4)
    change = change_interval(blocks_of(nats, sizes), blocks_of(nats, 2 * sizes))
    assert change is not None and -0.56 < change[0] < -0.5 < change[1] < -0.44


def test_a_ratio_that_is_the_same_everywhere_is_sure() -> None:
    assert ratio_interval([2.0] * 10, [4.0] * 10) == (0.5, 0.5)
