"""How models answer: the likeliest continuation, and a proof that knowing the answers shows."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from llmbuilder.config import Config
from llmbuilder.data import TextDataset
from llmbuilder.evaluation.answering import choose_options, score_options
from llmbuilder.evaluation.questions import CHANCE, Question, make_questions
from llmbuilder.model import LanguageModel, build_model
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.training import train_model
from tests.evaluation.test_questions import harbour_texts


def a_model(bpe: Tokenizer, window: int = 64) -> LanguageModel:
    config = Config()
    config.model = config.model.model_copy(update={
        "model_type": "llama", "vocab_size": len(bpe), "num_layers": 2, "num_heads": 2, "embedding_dim": 64, "max_seq_length": window})  # fmt: skip
    torch.manual_seed(0)
    return build_model(config)


def directly(model: LanguageModel, tokenizer: Tokenizer, prompt: str, option: str) -> float:
    """Score a continuation by reading the whole text."""
    context, whole = tokenizer.encode(prompt), tokenizer.encode(prompt + option)
    logits = model(torch.tensor([whole[:-1]]))[0].detach()
    known = logits[0].log_softmax(-1)
    return sum(float(known[place - 1, whole[place]]) for place in range(len(context), len(whole)))


def test_scores_are_those_of_the_whole_texts(bpe: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    model = a_model(bpe)
    torch.nn.init.normal_(model.lm_head.weight, std=0.3)
    asked = [
        ("The ship", [" sails", " waits", " is"]),
        ("A much longer beginning of a text than the others have", [" 1712", " 1713", " 99"]),
        ("x", [" y", " z", " w"]),
    ]
    for cache_bytes in (1.0, 1e9):  # one after the other, and together
        monkeypatch.setattr("llmbuilder.evaluation.answering._CACHE_BYTES", cache_bytes)
        found = score_options(model, bpe, asked)
        for (prompt, options), scores in zip(asked, found, strict=True):
            expected = [directly(model, bpe, prompt, option) for option in options]
            assert scores == pytest.approx(expected, abs=1e-4)


def test_of_a_long_prompt_the_end_is_seen(bpe: Tokenizer) -> None:
    model = a_model(bpe, window=16)
    asked = "zero one two three four five six seven eight nine ten"
    (long,) = score_options(model, bpe, [("far away and long ago " * 20 + asked, [" a", " b"])])
    (same,) = score_options(model, bpe, [("something else altogether " * 20 + asked, [" a", " b"])])
    assert long == pytest.approx(same)


@pytest.fixture(scope="module")
def known(bpe: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> tuple[LanguageModel, list[Question]]:
    """A model that has learned some texts by heart, and questions about them."""
    texts = harbour_texts(40)
    config = Config()
    config.model = a_model(bpe).config
    config.training = config.training.model_copy(update={
        "max_steps": 400, "batch_size": 16, "learning_rate": 0.01, "warmup_steps": 20, "eval_every": 0,
        "sample_every": 0, "optimizer": "muon",
    })  # fmt: skip
    model = a_model(bpe)
    train_model(model, TextDataset(texts, 64, tokenizer=bpe), config, tmp_path_factory.mktemp("knows") / "run", [])
    return model, make_questions(texts, [], bpe, most=100).trained


def share(model: LanguageModel, tokenizer: Tokenizer, questions: list[Question]) -> float:
    right = choose_options(model, tokenizer, [(one.prompt, one.options) for one in questions])
    return sum(right) / len(right)


def test_who_knows_the_answers_scores_higher(known: tuple[LanguageModel, list[Question]], bpe: Tokenizer) -> None:
    model, questions = known
    assert len(questions) > 60
    knowing, ignorant = share(model, bpe, questions), share(a_model(bpe), bpe, questions)
    assert knowing > 0.8
    assert ignorant < CHANCE + 0.15


def test_shuffled_answers_score_at_chance(known: tuple[LanguageModel, list[Question]], bpe: Tokenizer) -> None:
    model, questions = known
    lots = random.Random(5)
    shuffled = []
    for question in questions:
        answer, *others = lots.sample(question.options, len(question.options))
        shuffled.append(replace(question, answer=answer, others=tuple(others)))
    assert abs(share(model, bpe, shuffled) - CHANCE) < 0.15


def test_equal_scores_are_no_answer(bpe: Tokenizer) -> None:
    model = a_model(bpe)
    torch.nn.init.zeros_(model.lm_head.weight)
    assert choose_options(model, bpe, [("The ship", [" a", " b"])]) == [False]
