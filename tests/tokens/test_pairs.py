"""Preference pairs as sequences of a batch: which, in which order, and what is known of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from llmbuilder.data import TextDataset
from llmbuilder.errors import DataError
from llmbuilder.tokens.pairs import PairRows, PairWriter, has_pairs
from llmbuilder.tokens.samples import IGNORED, SampleRows, SampleWriter

LENGTHS = [(5, 3), (2, 9), (4, 4), (10, 6), (3, 2)]


def write(path: Path, writer: type[SampleWriter] = PairWriter) -> list[np.ndarray]:
    """Write pairs of these lengths, of which the last tokens are learned, and return their tokens."""
    ids = [np.arange(length) + 10 * number for number, pair in enumerate(LENGTHS) for length in pair]
    with writer(path, 100, tokenizer=None) as file:
        for sample in ids:
            file.add(sample, np.arange(len(sample)) > len(sample) // 2 - 1, 0)
    return ids


def test_a_pair_has_two_rows_and_its_answers_are_what_is_predicted(tmp_path: Path) -> None:
    ids = write(tmp_path / "train.bin")
    assert has_pairs(tmp_path / "train.bin")
    rows = PairRows(tmp_path / "train.bin", 9, seed=1)
    assert len(rows) == len(LENGTHS) and rows.sequence_tokens == 18
    for number, (inputs, targets) in enumerate(rows.in_order(1)):
        assert inputs.shape == targets.shape == (2, max(LENGTHS[number]) - 1)
        for row, sample in enumerate(ids[2 * number : 2 * number + 2]):
            length = len(sample) - 1
            assert inputs[row, :length].tolist() == sample[:-1].tolist()
            learned = np.arange(1, length + 1) > len(sample) // 2 - 1
            assert targets[row, :length].tolist() == np.where(learned, sample[1:], IGNORED).tolist()
            assert (targets[row, length:] == IGNORED).all()
    assert all(torch.equal(one, other) for one, other in zip(rows[3], rows[-2], strict=True))
    with pytest.raises(IndexError):
        rows[5]


def test_the_reference_goes_with_its_pair(tmp_path: Path) -> None:
    write(tmp_path / "train.bin")
    rows = PairRows(tmp_path / "train.bin", 9, seed=1)
    rows.reference = np.array([[-number, -3.0 * number] for number in range(len(rows))], np.float32)
    names = rows.starts_at(0, 10)  # two epochs, shuffled
    inputs, _, between = rows.gather(names)
    assert (inputs[::2, 0] // 10 * 2).tolist() == between.tolist()
    assert sorted(between.tolist()) == sorted([0.0, 2.0, 4.0, 6.0, 8.0] * 2)
    assert between.tolist() != sorted(between.tolist())
    assert rows.count_targets(names) == 10


def test_files_tell_what_they_hold(tmp_path: Path) -> None:
    write(tmp_path / "train.bin")
    dataset = TextDataset(tmp_path, 9)
    assert dataset.holds_pairs and isinstance(dataset.train, PairRows) and len(dataset) == 5
    moved = dataset.move_to
    moved(tmp_path / "moved")
    assert dataset.holds_pairs and dataset.train.path.parent == tmp_path / "moved"
    (tmp_path / "plain").mkdir()
    write(tmp_path / "plain" / "train.bin", SampleWriter)
    plain = TextDataset(tmp_path / "plain", 9)
    assert not plain.holds_pairs and type(plain.train) is SampleRows


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "train.bin")
    with pytest.raises(DataError, match="longer than 8 tokens"):
        PairRows(tmp_path / "train.bin", 8, seed=1)
    (tmp_path / "train.chosen.bin").write_bytes(bytes([0, 1] * 5))
    with pytest.raises(DataError, match="do not belong together"):
        PairRows(tmp_path / "train.bin", 9, seed=1)
