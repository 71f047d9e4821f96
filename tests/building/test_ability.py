"""What a build says of a model is what the model does, and in doubt less."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from llmbuilder.building.ability import describe_ability
from llmbuilder.building.passages import Comparison, Writing, compare_writing, split_words
from llmbuilder.config import Config
from llmbuilder.data import TextDataset
from llmbuilder.inference import Generator
from llmbuilder.model import build_model

PEOPLE = Writing(words=1600, known_words=0.95, known_phrases=0.4, repetition=0.01, coherence=0.1)


def said(bits: float | None = 1.0, copied: float = 0.0, **model: float) -> str:
    return describe_ability(Comparison(replace(PEOPLE, **{"words": 400, **model}), PEOPLE, copied), bits)


@pytest.mark.parametrize(
    ("sentence", "bits", "model"),
    [
        ("It writes too little", 1.0, {"words": 3}),
        ("It repeats itself", 1.0, {"repetition": 0.6}),
        ("It strings letters", 1.0, {"known_words": 0.6}),
        ("It strings letters", 2.8, {}),
        ("It forms words, but no sentences", 1.0, {"known_phrases": 0.1}),
        ("It forms words, but no sentences", 2.2, {"known_words": 0.85}),
        ("It forms words and short phrases", 2.17, {"known_words": 0.93}),
        ("It forms words and short phrases", None, {}),
        ("It forms sentences, but does not keep a topic", 1.5, {}),
        ("It forms sentences, but does not keep a topic", 1.0, {"coherence": 0.01}),
        ("It forms sentences and keeps a topic", 1.0, {}),
    ],
)
def test_each_level_has_its_sentence(sentence: str, bits: float | None, model: dict[str, float]) -> None:
    found = said(bits, **model)
    assert found.startswith(sentence)
    assert found.endswith(".")


def test_a_model_that_copies_is_not_praised() -> None:
    assert said(copied=0.8) == "It recites: 80% of what it writes stands word for word in its documents."


def test_better_numbers_never_lower_what_is_said() -> None:
    order = ["It strings letters", "It forms words, but", "It forms words and", "It forms sentences, but", "It forms sentences and"]  # fmt: skip

    def level(bits: float, **model: float) -> int:
        found = said(bits, **model)
        return next(number for number, start in enumerate(order) if found.startswith(start))

    numbers = random.Random(0)
    for _ in range(300):
        bits, known, phrases, coherence = (numbers.uniform(0.5, 3), numbers.uniform(0.5, 1), numbers.random(), 0.2 * numbers.random())  # fmt: skip
        here = level(bits, known_words=known, known_phrases=phrases, coherence=coherence)
        assert level(0.9 * bits, known_words=known, known_phrases=phrases, coherence=coherence) >= here
        assert level(bits, known_words=min(1, known + 0.1), known_phrases=phrases, coherence=coherence) >= here
        assert level(bits, known_words=known, known_phrases=phrases + 0.2, coherence=coherence) >= here
        assert level(bits, known_words=known, known_phrases=phrases, coherence=coherence + 0.1) >= here


def test_an_untrained_model_strings_letters(tiny_config: Config, prose: str) -> None:
    dataset = TextDataset([prose], 32, train_split=0.9)
    dataset.learn_tokenizer(vocab_size=300)
    dataset.prepare()
    tiny_config.model.vocab_size = 300
    model = build_model(tiny_config)
    found = compare_writing(Generator(model, dataset.tokenizer), dataset)
    assert found.people.known_words > 0.5 > found.model.known_words
    assert describe_ability(found, 3.0).startswith("It strings letters")
    assert compare_writing(Generator(model, dataset.tokenizer), dataset) == found


def test_words_of_scripts_without_spaces() -> None:
    assert split_words("It's 3 Apples, süß!") == ["it", "s", "apples", "süß"]
    assert split_words("软件包 apt 图") == ["软件", "件包", "apt", "图"]
