"""Windows over running text: which documents see each other."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from llmbuilder.config import Config
from llmbuilder.data import TextDataset
from llmbuilder.model import build_model
from llmbuilder.tokenizer import Tokenizer

WINDOW = 24
TEXTS = [f"The {number}th fox sleeps. " * (1 + number % 3) for number in range(40)]


def windows(tokenizer: Tokenizer, *, apart: bool) -> TextDataset:
    return TextDataset(TEXTS, WINDOW, tokenizer=tokenizer, documents_apart=apart).prepare()


def test_documents_in_a_window_are_computed_as_if_alone(tiny_config: Config, bpe: Tokenizer) -> None:
    tiny_config.model.vocab_size, tiny_config.model.max_seq_length = len(bpe), WINDOW
    torch.manual_seed(0)
    model = build_model(tiny_config).eval()
    for weight in model.parameters():  # a fresh model looks at nothing that was before
        torch.nn.init.normal_(weight, std=0.3)
    rows = windows(bpe, apart=True).train
    inputs, targets, positions = rows.gather(np.arange(0, 8 * WINDOW, WINDOW))
    losses = model.losses(inputs, targets, positions)
    separators = 0
    for row in range(len(inputs)):
        begins = np.flatnonzero(inputs[row].numpy() == bpe.end_of_text_id).tolist()
        separators += len(begins)
        for begin, end in itertools.pairwise([*sorted({0, *begins}), WINDOW]):
            alone = model.losses(inputs[row : row + 1, begin:end], targets[row : row + 1, begin:end])
            torch.testing.assert_close(losses[row, begin:end], alone[0], rtol=1e-5, atol=1e-5)
    assert separators > 4
    assert not torch.allclose(losses, model.losses(inputs, targets), rtol=1e-3), "the check can fail"


def test_each_target_counts_once_and_what_meets_nothing_needs_no_positions(bpe: Tokenizer) -> None:
    rows, together = windows(bpe, apart=True).train, windows(bpe, apart=False).train
    starts = rows.starts_at(0, len(rows))
    for ours, theirs in zip(rows.gather(starts)[:2], together.gather(starts), strict=True):
        assert torch.equal(ours, theirs)
    assert len(together.gather(starts)) == 2
    assert rows.count_targets(starts) == together.count_targets(starts)
    one = TextDataset(["The fox sleeps under the tree. " * 30], WINDOW, tokenizer=bpe, documents_apart=True).prepare()
    assert {len(batch) for batch in one.train.in_order(2)} == {2}


def test_windows_keep_documents_apart_when_they_change(bpe: Tokenizer) -> None:
    dataset = windows(bpe, apart=False)
    dataset.set_windows(WINDOW // 2, None, documents_apart=True)
    assert 3 in {len(batch) for batch in dataset.train.in_order(8)}
    dataset.set_windows(WINDOW, None)
    assert {len(batch) for batch in dataset.train.in_order(8)} == {2}


def test_documents_begin_with_the_token_that_prompts_begin_with(
    bpe: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = bpe.encode("T")[0]
    monkeypatch.setattr(Tokenizer, "beginning_ids", [begin])
    inputs, _, positions = windows(bpe, apart=True).train.gather(np.arange(0, 8 * WINDOW, WINDOW))
    begins = positions.numpy() == 0
    assert (inputs.numpy()[begins & (np.arange(WINDOW) > 0)] == begin).all()
    assert begins.sum() > 12
