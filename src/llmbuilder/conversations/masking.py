"""Which tokens of a conversation a model learns: those that it would have to write itself, and nothing else.

A template either says so (`{% generation %}`), or it is found by comparing renderings: an answer is what follows the
conversation before it with the head of an answer behind. Where a template writes an earlier answer otherwise than the
last one (without its reasoning, for example), each such answer becomes a sample of its own, ending with it.

The token that ends a turn is found once for a template, from two renderings that differ in nothing but the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmbuilder.conversations.forms import Conversation, with_written_arguments
from llmbuilder.conversations.rules import is_learned
from llmbuilder.conversations.template import ChatTemplate, Message, Rendering, Request
from llmbuilder.errors import DataError

# Two answers without a letter in common at either end, so that what they share is the template's.
_PROBES = ("alpha beta", "Omega delt")
_QUESTION = "What is it?"
_NO_MASK = "which tokens its answers are cannot be told from what it writes, so that nothing would say what is learned"


@dataclass(frozen=True)
class Sample:
    """The tokens of a conversation, which of them are learned, and the places of the tokens that end an answer."""

    ids: np.ndarray
    is_learned: np.ndarray
    ends: tuple[int, ...]
    place: str = ""


@dataclass(frozen=True)
class _Encoded:
    """A rendered text with its tokens and where each one ends."""

    text: str
    ids: np.ndarray
    begins: np.ndarray
    ends: np.ndarray


class Masks:
    """Finds what is learned of conversations in the form of one template.

    Raises DataError, at once, for a template whose answers cannot be found in what it writes, or have no end.
    """

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template
        self._special = np.array(sorted(template.tokenizer.special_ids() | template.tokenizer.word_ids()), np.int64)
        self.turn_end = self._find_turn_end()

    def samples(self, conversation: Conversation) -> list[Sample]:
        """Return what is learned of a conversation, one sample or several.

        Raises DataError, with the reason alone, if the template refuses it or its answers cannot be found.
        """
        tools = conversation.tools if self._template.uses_tools else None
        messages = conversation.messages
        turns = [number for number, message in enumerate(messages) if is_learned(message)]
        if not turns:
            raise DataError("none of its tokens is learned: all of its answers are left out by their weight")
        whole = self._template.render_all([Request(messages, tools)])[0]
        if isinstance(whole, DataError) and any(message.get("tool_calls") for message in messages):
            messages = with_written_arguments(messages)  # which is how some templates want them
            whole = self._template.render_all([Request(messages, tools)])[0]
        whole = _require(whole)
        if whole.spans is not None:
            return [self._marked(whole, turns, messages, conversation.place)]
        return self._compared(messages, tools, turns, whole, conversation.place)

    def _marked(self, whole: Rendering, turns: Sequence[int], messages: Sequence[Message], place: str) -> Sample:
        """Return the sample of a template that marks what is generated: one part for each assistant message."""
        assert whole.spans is not None
        answers = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
        spans = whole.spans
        if len(turns) < len(answers):
            if len(spans) != len(answers):
                raise DataError("some of its answers are left out, and the template marks another number of them")
            spans = [span for number, span in zip(answers, spans, strict=True) if number in turns]
        encoded = self._encode(whole.text)
        parts = [self._tokens_of(encoded, begin, end, may_grow=True) for begin, end in spans]
        return _sample(encoded, [part for part in parts if part is not None], place)

    def _compared(
        self, messages: Sequence[Message], tools: Any, turns: Sequence[int], whole: Rendering, place: str
    ) -> list[Sample]:
        asked = [Request(messages[:turn], tools, True) for turn in turns]
        answered = [Request(messages[: turn + 1], tools) for turn in turns]
        found = [_require(rendering) for rendering in self._template.render_all([*asked, *answered])]
        encoded = self._encode(whole.text)
        together: list[tuple[int, int]] = []
        alone: list[Sample] = []
        for turn, before, after in zip(turns, found, found[len(turns) :], strict=False):
            own = encoded if after.text == whole.text else self._encode(after.text)
            begin = self._beginning(messages, tools, turn, before.text, after.text)
            shared = _shared(own.ids, encoded.ids)
            part = self._tokens_of(own, begin, len(own.text), shared=shared)
            if part is None:
                raise DataError(f"the template writes no token that ends the answer in message {turn + 1}")
            if np.isin(own.ids[part[0] : part[1]], self._special).all():
                raise DataError(f"the template writes nothing of the answer in message {turn + 1}")
            if part[1] <= shared:
                together.append(part)
            else:
                alone.append(_sample(own, [part], place))
        return [*([_sample(encoded, together, place)] if together else []), *alone]

    def _beginning(self, messages: Sequence[Message], tools: Any, turn: int, before: str, after: str) -> int:
        """Return where in `after` the answer begins that follows `before`.

        Where a template asks for an answer otherwise than it writes one (it opens a reasoning that is not kept), that
        is where two answers begin to differ.
        """
        if after.startswith(before):
            return len(before)
        head = self._head_and_tail([*messages[:turn]], tools, messages[turn])[0]
        if not after.startswith(head):
            raise DataError(f"the template cannot be used: {_NO_MASK}")
        return len(head)

    def _head_and_tail(self, before: list[Message], tools: Any, answer: Message) -> tuple[str, str]:
        """Return what a template writes before and behind the content of an answer."""
        requests = [Request([*before, {**answer, "content": probe}], tools) for probe in _PROBES]
        first, second = (_require(rendering).text for rendering in self._template.render_all(requests))
        head = _common_beginning(first, second)
        tail = _common_beginning(first[::-1], second[::-1])[::-1]
        if first != head + _PROBES[0] + tail:
            raise DataError(f"the template cannot be used: {_NO_MASK}")
        return head, tail

    def _find_turn_end(self) -> int:
        """Return the token that ends an answer: the first special one behind its content."""
        question: list[Message] = [{"role": "user", "content": _QUESTION}]
        head, tail = self._head_and_tail(question, None, {"role": "assistant"})
        encoded = self._encode(head + _PROBES[0] + tail)
        behind = encoded.begins >= len(head) + len(_PROBES[0])
        ends = encoded.ids[behind & np.isin(encoded.ids, self._special)]
        if not len(ends):
            raise DataError(
                "the chat template ends its answers with no token of their own, so that a model could not learn to "
                "stop: what it writes behind one is " + repr(tail[:40])
            )
        return int(ends[0])

    def _tokens_of(
        self, encoded: _Encoded, begin: int, end: int, *, may_grow: bool = False, shared: int = 0
    ) -> tuple[int, int] | None:
        """Return the range of the tokens between two places of a text, up to the one that ends the turn.

        `may_grow`: that one may stand just behind the end. `shared` is how many tokens are the same where the
        conversation goes on. None if there is no such token.
        """
        inside = np.flatnonzero((encoded.ends > begin) & (encoded.begins < end))
        if not len(inside):
            return None
        first, stop = int(inside[0]), int(inside[-1]) + 1
        if (
            may_grow
            and stop < len(encoded.ids)
            and encoded.ids[stop] in self._special
            and (encoded.ids[stop - 1] not in self._special)
        ):
            stop += 1
        ids = encoded.ids[first:stop]
        usual = np.flatnonzero(ids == self.turn_end)
        if len(usual):
            return first, first + int(usual[-1]) + 1
        # A call of tools can end otherwise than an answer, and the text then with one token more.
        closing = self._closing(encoded, first, stop)
        if not closing:
            return (first, stop) if may_grow else None
        last = next((place for place in closing if place < shared), closing[0])
        return first, last + 1

    def _closing(self, encoded: _Encoded, first: int, stop: int) -> list[int]:
        """Return the places of the special tokens that a range of tokens ends with, blanks aside, the last first."""
        found = []
        for place in range(stop - 1, first - 1, -1):
            if encoded.ids[place] in self._special:
                found.append(place)
            elif encoded.text[encoded.begins[place] : encoded.ends[place]].strip():
                break
        return found

    def _encode(self, text: str) -> _Encoded:
        ids, places = self._template.encode_text(text)
        begins, ends = np.array(places, np.int64).reshape(-1, 2).T
        return _Encoded(text, np.array(ids, np.int64), begins, ends)


def _require(rendering: Rendering | DataError) -> Rendering:
    if isinstance(rendering, DataError):
        raise rendering
    return rendering


def _common_beginning(first: str, second: str) -> str:
    length = next((n for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), None)
    return first[: min(len(first), len(second)) if length is None else length]


def _shared(first: np.ndarray, second: np.ndarray) -> int:
    """Return with how many equal tokens two texts begin."""
    length = min(len(first), len(second))
    different = np.flatnonzero(first[:length] != second[:length])
    return int(different[0]) if len(different) else length


def _sample(encoded: _Encoded, parts: Sequence[tuple[int, int]], place: str) -> Sample:
    """Return the tokens up to the last one that is learned: nothing is learned from what follows."""
    length = max((stop for _, stop in parts), default=0)
    is_learned = np.zeros(length, bool)
    for begin, stop in parts:
        is_learned[begin:stop] = True
    if length:
        is_learned[0] = False  # it follows nothing
    if not is_learned.any():
        raise DataError("none of its tokens is learned")
    return Sample(encoded.ids[:length], is_learned, tuple(stop - 1 for _, stop in parts), place)


def fitted(sample: Sample, window: int) -> Sample | None:
    """Return a sample of at most `window` tokens to predict; None if nothing of it would be learned.

    A longer one is cut behind the last answer that ends within the window, or, when none does, in the middle of its
    answer.
    """
    if len(sample.ids) <= window + 1:
        return sample
    whole = [end for end in sample.ends if end <= window]
    length = whole[-1] + 1 if whole else window + 1
    if not sample.is_learned[1:length].any():
        return None
    return Sample(sample.ids[:length], sample.is_learned[:length], tuple(whole), sample.place)
