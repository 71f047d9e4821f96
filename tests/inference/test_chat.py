"""Conversations with a model: what it is shown of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from llmbuilder.config import Config
from llmbuilder.errors import GenerationError
from llmbuilder.inference import Chat, GenerationConfig, Generator
from llmbuilder.model import build_model
from llmbuilder.retrieval import Passage
from llmbuilder.tokenizer import Tokenizer
from tests.conversations.templates import CHATML_TOOLS, INSTRUCT, marked_tokenizer

SETTINGS = GenerationConfig(max_new_tokens=8, seed=1)


def generator(config: Config, bpe: Tokenizer, template: str | None = CHATML_TOOLS) -> Generator:
    tokenizer = marked_tokenizer(bpe)
    config.model.vocab_size, config.model.max_seq_length = len(tokenizer), 64
    model = build_model(config)
    model.tokenizer = tokenizer
    model.metadata = {} if template is None else {"chat_template": template}
    return Generator(model)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The prompts that the model was given."""
    prompts: list[list[int]] = []

    def noted(self: Generator, prompt: list[int], config: GenerationConfig) -> Iterator[str]:
        prompts.append(prompt)
        yield from ("so", "me")

    monkeypatch.setattr(Generator, "stream_from", noted)
    return prompts


def test_questions_are_seen_with_those_before(tiny_config: Config, bpe: Tokenizer, seen: list[list[int]]) -> None:
    made = generator(tiny_config, bpe)
    chat = Chat(made, "Be brief.")
    assert ["".join(chat.answer(question, SETTINGS)) for question in ("a", "b")] == ["some", "some"]
    said = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"
    assert made.tokenizer.decode(seen[0]) == said
    assert made.tokenizer.decode(seen[1]) == (
        said + "some<|im_end|>\n<|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\n"
    )
    chat.forget()
    next(iter(chat.answer("a", SETTINGS)))
    assert seen[2] == seen[0]


def test_what_is_forgotten_are_whole_turns(tiny_config: Config, bpe: Tokenizer, seen: list[list[int]]) -> None:
    made = generator(tiny_config, bpe)
    chat = Chat(made, "Be brief.")
    for number in range(12):
        list(chat.answer(f"question {number}", SETTINGS))
    text = made.tokenizer.decode(seen[-1])
    assert chat.has_forgotten and len(seen[-1]) <= 64 - 8
    assert text.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nquestion ")
    assert "question 11" in text and "question 0<" not in text


def test_a_question_that_the_model_cannot_see_is_refused(tiny_config: Config, bpe: Tokenizer) -> None:
    chat = Chat(generator(tiny_config, bpe))
    with pytest.raises(GenerationError, match="the model sees 64"):
        chat.answers("why " * 200, SETTINGS)


def test_an_answer_ends_where_the_template_ends_it(tiny_config: Config, bpe: Tokenizer) -> None:
    made = generator(tiny_config, bpe)
    assert made.tokenizer.id_of("<|im_end|>") not in made.tokenizer.ending_ids
    Chat(made).close()
    assert made.tokenizer.id_of("<|im_end|>") in made.tokenizer.ending_ids


def test_what_a_template_refuses_is_said(tiny_config: Config, bpe: Tokenizer) -> None:
    with pytest.raises(GenerationError, match="no chat template"):
        Chat(generator(tiny_config, bpe, None))
    chat = Chat(
        generator(tiny_config, bpe, INSTRUCT.replace("roles must", "roles must").replace("!= (loop", "== (loop"))
    )
    with pytest.raises(GenerationError, match="roles must take turns"):
        chat.answers("a", SETTINGS)


def test_passages_stand_before_their_question_and_are_not_remembered(
    tiny_config: Config, bpe: Tokenizer, seen: list[list[int]]
) -> None:
    made = generator(tiny_config, bpe)
    chat = Chat(made)
    passages = [Passage("The sea.", "a.txt", 3), Passage("A tide.", "b.txt"), Passage("word " * 100, "long.txt")]
    list(chat.answer("a", SETTINGS, passages))
    assert made.tokenizer.decode(seen[0]) == (
        "<|im_start|>user\nA tide.\n\nThe sea.\n\na<|im_end|>\n<|im_start|>assistant\n"
    )
    assert chat.sources == passages[:2], "the best ones, as many as there is room for"
    list(chat.answer("b", SETTINGS))
    assert "The sea" not in made.tokenizer.decode(seen[1]) and chat.sources == []
    assert "user\na<|im_end|>" in made.tokenizer.decode(seen[1])
    with pytest.raises(GenerationError, match="too little text for a passage"):
        list(chat.answer("c", SETTINGS, passages[2:]))
