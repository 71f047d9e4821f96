from __future__ import annotations

import itertools
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbuilder.tokens.shuffling import Shuffled
from llmbuilder.tokens.windows import TokenWindows


@given(count=st.integers(1, 3000), seed=st.integers(0, 1 << 32))
def test_every_number_stands_in_one_place(count: int, seed: int) -> None:
    found = Shuffled(count, np.random.default_rng(seed))[np.arange(count)]
    assert sorted(found.tolist()) == list(range(count))


@given(count=st.integers(1, 1 << 62), number=st.integers(0, 1 << 62))
def test_huge_counts_need_no_memory(count: int, number: int) -> None:
    shuffled = Shuffled(count, np.random.default_rng(1))
    assert 0 <= shuffled[np.array([number % count])][0] < count


@pytest.mark.parametrize("count", [3, 4, 6, 12])
def test_every_number_is_as_likely_in_every_place(count: int) -> None:
    """By chi-squared: 5,000 draws deviate from even ones no more than chance lets them (5 standard deviations)."""
    draws = 5_000
    random = np.random.default_rng(0)
    orders = np.stack([Shuffled(count, random)[np.arange(count)] for _ in range(draws)])
    for place in range(count):
        seen = Counter(orders[:, place].tolist())
        statistic = sum((seen[number] - draws / count) ** 2 / (draws / count) for number in range(count))
        assert statistic < count - 1 + 5 * (2 * (count - 1)) ** 0.5


def test_neighbours_are_torn_apart() -> None:
    found = Shuffled(100_000, np.random.default_rng(3))[np.arange(100_000)]
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 0.02
    assert abs(np.corrcoef(found, np.arange(len(found)))[0, 1]) < 0.02
    assert (abs(np.diff(found)) == 1).sum() < 20  # 2 are to be expected


def test_windows_of_a_huge_file_are_shuffled_in_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "train.bin"
    with open(path, "wb") as file:
        file.truncate(1 << 33)  # a file of zeros that takes no room on the disk: 4 billion windows
    windows = TokenWindows(path, 16, 1, seed=0)
    windows.starts_at(0, 1)  # what is imported on first use is not counted
    tracemalloc.start()
    starts = windows.starts_at(len(windows) - 4, 8)  # the end of a pass and the beginning of the next
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(set(starts.tolist())) == 8
    assert starts.min() >= 0 and starts.max() < len(windows)
    assert peak < 1 << 20


def test_another_pass_is_another_order(tmp_path: Path) -> None:
    path = tmp_path / "train.bin"
    np.zeros(4000, dtype=np.uint16).tofile(path)
    windows = TokenWindows(path, 16, None, seed=0)
    first, second = windows.starts_at(0, len(windows)), windows.starts_at(len(windows), len(windows))
    assert sorted(first.tolist()) == list(range(0, 16 * len(windows), 16))
    assert len({int(start) % 16 for start in second}) == 1  # every window is moved alike
    assert (np.argsort(first) != np.argsort(second)).any()
    assert windows.starts_at(5, 3).tolist() == first[5:8].tolist()


def test_a_limited_evaluation_is_spread_over_the_whole_text(tmp_path: Path) -> None:
    np.arange(1000, dtype=np.uint16).tofile(tmp_path / "val.bin")
    windows = TokenWindows(tmp_path / "val.bin", 10, None, seed=0)
    whole = [int(row[0]) for inputs, _ in windows.in_order(4) for row in inputs]
    assert whole == list(range(0, 990, 10))
    few = [int(row[0]) for inputs, _ in windows.in_order(4, 3) for row in inputs]
    assert len(few) == 12 and set(few) < set(whole)
    assert few[0] < 100 and few[-1] > 850
    assert max(later - earlier for earlier, later in itertools.pairwise(few)) <= 100
