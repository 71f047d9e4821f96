"""Duplicates by meaning: found in full and in clusters alike."""

from __future__ import annotations

import numpy as np
import pytest

from llmbuilder.duplicates import semantic as semantic_duplicates
from llmbuilder.duplicates.semantic import find_semantic_duplicates


def texts(groups: int, copies: int) -> tuple[np.ndarray, np.ndarray]:
    """Return unit vectors in tight groups, and lengths that make the last of each group the longest."""
    random = np.random.default_rng(3)
    centres = random.normal(size=(groups, 1, 32))
    vectors = (centres + 0.02 * random.normal(size=(groups, copies, 32))).reshape(-1, 32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float16), np.tile(np.arange(copies) + 10, groups)


def test_the_longest_of_each_group_stays() -> None:
    vectors, lengths = texts(40, 3)
    kept = find_semantic_duplicates(vectors, lengths, 0.97)
    assert kept == {number: number - number % 3 + 2 for number in range(120) if number % 3 != 2}
    assert find_semantic_duplicates(vectors, lengths, 1.1) == {}


def test_clusters_find_what_a_full_comparison_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, lengths = texts(200, 4)
    everything = find_semantic_duplicates(vectors, lengths, 0.97)
    monkeypatch.setattr(semantic_duplicates, "_COMPARED_IN_FULL", 100)
    monkeypatch.setattr(semantic_duplicates, "_CLUSTER", 80)
    assert find_semantic_duplicates(vectors, lengths, 0.97) == everything
    assert len(everything) == 600
