"""Samples in rows: each token once, positions anew, nothing seen of the others."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llmbuilder.config import Config
from llmbuilder.errors import DataError
from llmbuilder.model import LanguageModel, build_model
from llmbuilder.tokens.samples import SampleRows, SampleWriter, has_samples

WINDOW = 24


def written(folder: Path, lengths: list[int]) -> Path:
    random = np.random.default_rng(4)
    with SampleWriter(folder / "train.bin", 60, tokenizer="x") as writer:
        for length in lengths:
            is_learned = random.random(length) < 0.5
            is_learned[-1] = True
            writer.add(random.integers(1, 60, length), is_learned, length)
    return folder / "train.bin"


def every_length() -> list[int]:
    return [int(length) for length in np.random.default_rng(3).integers(2, WINDOW + 2, 60)]


def test_every_token_is_in_one_row_and_counts_once(tmp_path: Path) -> None:
    lengths = every_length()
    rows = SampleRows(written(tmp_path, lengths), WINDOW, seed=1)
    assert has_samples(tmp_path / "train.bin")
    starts = rows.starts_at(0, len(rows))
    assert len(set(starts.tolist())) == len(rows)
    parts = [rows.gather(starts[n : n + 1]) for n in range(len(rows))]
    targets = np.concatenate([part[1].flatten().numpy() for part in parts])
    learned = np.concatenate(
        [rows._learned[b + 1 : b + n] for b, n in zip(np.cumsum([0, *lengths[:-1]]), lengths, strict=True)]
    )
    assert (targets != -100).sum() == rows.count_targets(starts) == learned.sum()
    filled = sum(length - 1 for length in lengths)
    assert filled / (len(rows) * WINDOW) > 0.95
    assert max(part[0].shape[1] for part in parts) <= WINDOW


def test_rows_are_a_function_of_seed_and_number(tmp_path: Path) -> None:
    file = written(tmp_path, every_length())
    first, again, other = SampleRows(file, WINDOW, 1), SampleRows(file, WINDOW, 1), SampleRows(file, WINDOW, 2)
    many = 3 * len(first)
    assert (first.starts_at(0, many) == again.starts_at(0, many)).all()
    assert (first.starts_at(7, 5) == first.starts_at(0, many)[7:12]).all()
    assert (first.starts_at(0, many) != other.starts_at(0, many)).any()


def models() -> dict[str, dict[str, Any]]:
    llama = {"model_type": "llama", "num_layers": 2, "num_heads": 4, "num_key_value_heads": 2, "embedding_dim": 32}
    return {
        "gpt": {"model_type": "gpt", "num_layers": 2, "num_heads": 2, "embedding_dim": 32},
        "llama": llama,
        "window": {**llama, "sliding_window": 5, "sliding_window_layers": [0]},
        "without positions": {**llama, "layers_without_positions": [1]},
    }


def model_of(shape: dict[str, Any]) -> LanguageModel:
    config = Config()
    for name, value in {"vocab_size": 60, "max_seq_length": WINDOW, "dropout": 0.0, **shape}.items():
        setattr(config.model, name, value)
    torch.manual_seed(0)
    model = build_model(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


@pytest.mark.parametrize("name", list(models()))
def test_samples_in_a_row_are_computed_as_if_alone(tmp_path: Path, name: str) -> None:
    rows = SampleRows(written(tmp_path, [9, 5, 12, 3, 25, 7]), WINDOW, seed=1)
    inputs, targets, positions = rows.gather(rows.starts_at(0, len(rows)))
    model = model_of(models()[name]).eval()
    packed = model.summed_loss(inputs, targets, positions)
    packed.backward()
    gradients = {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    total = torch.zeros(())
    for row in range(len(inputs)):
        begins = [*np.flatnonzero(positions[row].numpy() == 0).tolist(), inputs.shape[1]]
        for begin, end in itertools.pairwise(begins):
            total = total + model.summed_loss(inputs[row : row + 1, begin:end], targets[row : row + 1, begin:end])
    total.backward()
    torch.testing.assert_close(packed, total, rtol=1e-5, atol=1e-5)
    for key, p in model.named_parameters():
        torch.testing.assert_close(gradients[key], p.grad, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(packed, model.summed_loss(inputs, targets), rtol=1e-3)  # the check can fail


def test_rows_of_one_sample_need_no_mask(tmp_path: Path) -> None:
    rows = SampleRows(written(tmp_path, [WINDOW + 1, WINDOW]), WINDOW, seed=1)
    assert [len(rows.gather(rows.starts_at(0, 2))), len(rows[0])] == [2, 2]


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    file = written(tmp_path, [5, 9])
    with pytest.raises(DataError, match="longer than 7 tokens"):
        SampleRows(file, 7, seed=1)
    (tmp_path / "train.learned.bin").write_bytes(b"\0" * 3)
    with pytest.raises(DataError, match="do not belong together"):
        SampleRows(file, WINDOW, seed=1)


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), SampleWriter(tmp_path / "train.bin", 60, tokenizer=None) as writer:
        writer.add(np.array([1, 2]), np.array([False, True]), 2)
        raise RuntimeError
    assert not list(tmp_path.iterdir())
