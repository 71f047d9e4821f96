"""`Chat`: a conversation with a model through its chat template, as long as the model sees."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from llmbuilder.config.schema import GenerationConfig
from llmbuilder.conversations.masking import Masks
from llmbuilder.conversations.template import ChatTemplate, template_from
from llmbuilder.errors import DataError, GenerationError
from llmbuilder.inference.generation import Generator
from llmbuilder.retrieval.passages import Passage, fit_passages, join_passages
from llmbuilder.tokenizer.growing import ending_with


class Chat:
    """A conversation: questions in, answers out, each seen with those before it.

    When it gets longer than the model sees, its first questions are forgotten with their answers; `system`, which says
    how to answer, stays. Answers end with the token with which the template ends them. Passages of documents that come
    with a question stand before it in the user's turn, as many as there is room for (`sources`), and only then.
    Raises GenerationError for a model without a chat template, and for a template that fails.
    """

    def __init__(self, generator: Generator, system: str | None = None) -> None:
        found = template_from(generator.model.metadata, generator.tokenizer)
        if found is None:
            raise GenerationError(
                "this model has no chat template, and knows no conversations: leave out --chat to continue texts"
            )
        self._template: ChatTemplate = found
        self._generator = generator
        self._system: list[dict[str, Any]] = [] if system is None else [{"role": "system", "content": system}]
        self._turns: list[dict[str, Any]] = []
        self.has_forgotten = False
        self.sources: list[Passage] = []  # the passages that the last question came with
        with contextlib.suppress(DataError):  # a template that cannot be learned from can still be talked through
            end = generator.tokenizer.tokens()[Masks(found).turn_end]
            generator.tokenizer = ending_with(generator.tokenizer, str(end))

    def close(self) -> None:
        """End the process that renders the template."""
        self._template.close()

    def forget(self) -> None:
        """Begin a new conversation."""
        self._turns, self.has_forgotten = [], False

    def answer(self, question: str, settings: GenerationConfig, passages: Sequence[Passage] = ()) -> Iterator[str]:
        """Yield the answer piece by piece; it is remembered as far as it was taken.

        Raises GenerationError for a question that the model cannot see whole, or that the template refuses.
        """
        tokens = self._prompt(question, settings.max_new_tokens, passages)
        written = ""
        try:
            for piece in self._generator.stream_from(tokens, settings):
                written += piece
                yield piece
        finally:
            self._turns.append({"role": "assistant", "content": written})

    def answers(self, question: str, settings: GenerationConfig, passages: Sequence[Passage] = ()) -> list[str]:
        """Return `settings.num_samples` answers; none of them is remembered."""
        before = list(self._turns)
        tokens = self._prompt(question, settings.max_new_tokens, passages)
        self._turns = before
        return self._generator.generate_from([tokens], settings)[0]

    def _prompt(self, question: str, new_tokens: int, passages: Sequence[Passage]) -> list[int]:
        """Return the tokens of the conversation with a question, without the first ones that leave no room."""
        window = self._generator.model.config.max_seq_length
        most = self._generator.room_for_prompt(new_tokens)
        self.sources = fit_passages(passages, question, lambda text: len(self._encode([_asks(text)])) <= most)
        turns = [*self._turns, _asks(join_passages(self.sources, question))]
        while len(tokens := self._encode(turns)) > most:
            if len(turns) < 3:
                if len(tokens) > window:
                    raise GenerationError(
                        f"the question has {len(tokens):,} tokens with what the template adds, and the model sees "
                        f"{window:,}: shorten it"
                    )
                break
            turns, self.has_forgotten = turns[2:], True
        self._turns = [*turns[:-1], _asks(question)]
        return tokens

    def _encode(self, turns: list[dict[str, Any]]) -> list[int]:
        try:
            return self._template.encode([*self._system, *turns], add_generation_prompt=True)
        except DataError as error:
            raise GenerationError(str(error)) from error


def _asks(question: str) -> dict[str, Any]:
    return {"role": "user", "content": question}
