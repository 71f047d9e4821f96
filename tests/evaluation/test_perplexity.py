from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from llmbuilder.config import ModelConfig
from llmbuilder.errors import DataError
from llmbuilder.evaluation import evaluate_model, score_tokens
from llmbuilder.model import LanguageModel, build_model
from llmbuilder.tokenizer import Tokenizer


@pytest.fixture
def model() -> LanguageModel:
    config = ModelConfig(vocab_size=512, num_layers=1, num_heads=2, embedding_dim=32, max_seq_length=16, dropout=0.0)
    built = build_model(config).eval()
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return built


@pytest.mark.parametrize("length", [2, 16, 17, 50])
@torch.no_grad()
def test_stride_one_scores_each_token_with_its_longest_context(model: LanguageModel, length: int) -> None:
    tokens = np.random.default_rng(0).integers(0, 512, length)
    expected = 0.0
    for position in range(1, length):
        context = torch.from_numpy(tokens[max(0, position - 16) : position])[None]
        expected -= float(F.log_softmax(model(context)[0][0, -1], dim=-1)[tokens[position]])
    assert score_tokens(model, tokens, stride=1) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("stride", [3, 8, 16, 99])
def test_every_token_is_scored_once_at_any_stride(model: LanguageModel, stride: int) -> None:
    for parameter in model.parameters():
        parameter.data.zero_()  # every prediction is uniform, so the total counts the tokens
    tokens = np.arange(100)
    assert score_tokens(model, tokens, stride=stride) == pytest.approx(99 * math.log(512), rel=1e-5)


def test_measures_agree_with_each_other(tmp_path: Path, model: LanguageModel, bpe: Tokenizer) -> None:
    (tmp_path / "text.txt").write_text("The quick brown fox jumps. " * 30)
    found = evaluate_model(model, tmp_path / "text.txt", bpe)
    assert found.perplexity == pytest.approx(math.exp(found.loss))
    assert found.bits_per_byte == pytest.approx(found.loss * (found.tokens - 1) / math.log(2) / found.bytes_of_text)


def test_a_trained_model_beats_an_untrained_one(tmp_path: Path, trained_run: Path, topics: list[str]) -> None:
    (tmp_path / "text.txt").write_text(topics[10])
    found = evaluate_model(trained_run, tmp_path / "text.txt")
    assert found.loss < 4.5
    assert found.bits_per_byte < 3.5


def test_no_text_is_an_error(tmp_path: Path, model: LanguageModel, bpe: Tokenizer) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(DataError, match="holds no text"):
        evaluate_model(model, tmp_path / "empty.txt", bpe)
    with pytest.raises(DataError, match="at least 2 tokens"):
        score_tokens(model, np.array([1]))
