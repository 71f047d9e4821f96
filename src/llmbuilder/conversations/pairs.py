"""Preference pairs in the forms in which others keep them: two answers to one question, a chosen and a rejected one.

Either the answers stand alone (a text, a message, or several), and fields say what stands before them: `prompt`,
`question`, `instruction` with `input`, `messages`, `conversations`, or `input` as OpenAI has it; beside it `system`,
`history` and `tools`. Or they are whole conversations that begin alike (messages, or the text of a dialogue of `Human:`
and `Assistant:`); a `prompt` beside them is not needed. Texts lose the blanks around them, which join them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from llmbuilder.conversations.forms import (
    PREFERENCES,
    Conversation,
    Values,
    alpaca_question,
    message_from,
    parsed,
    ranked_outputs,
    spoken,
    system_message,
    tools_of,
)
from llmbuilder.conversations.rules import checked
from llmbuilder.errors import DataError
from llmbuilder.notices import kind_of

_DIALOGUE = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
_SPEAKERS = {"Human": "user", "Assistant": "assistant"}


@dataclass(frozen=True)
class Pair:
    """Two conversations, which are the same in their first `shared` messages; an answer follows in both."""

    chosen: Conversation
    rejected: Conversation
    shared: int = 0

    @property
    def place(self) -> str:
        """Where it stands, as messages name it."""
        return self.chosen.place


def pair_of(values: Values, place: str) -> Pair:
    """Return the pair that a row holds. Raises DataError, with the reason alone, if it holds none."""
    if ranked := ranked_outputs(values):
        values = {**values, "chosen": ranked[0], "rejected": ranked[1]}
    names = next((names for names in PREFERENCES if all(name in values for name in names)), None)
    if names is None:
        raise DataError(f"it is no preference pair: it has the fields {', '.join(map(str, values)) or 'of nothing'}")
    answers = [_turns(values[name], "assistant", name) for name in names]
    whole = [answer[0]["role"] != "assistant" for answer in answers]
    if any(whole) and not all(whole):
        raise DataError(f"one of {names[0]} and {names[1]} is a whole conversation, and the other an answer alone")
    before = [] if all(whole) else _question(values)
    if (before or answers[0])[0]["role"] != "system":
        before = [*system_message(values.get("system")), *before]
    given = values.get("input")
    tools = tools_of(given if isinstance(given, Mapping) else values)
    chosen, rejected = (
        Conversation(place, [message_from(message) for message in [*before, *answer]], tools) for answer in answers
    )
    return Pair(chosen, rejected)


def checked_pair(pair: Pair, *, with_calls: bool) -> Pair:
    """Return a pair of conversations that each end with an answer, and know what they share.

    Only the answers behind that are learned: earlier ones have a weight of 0. Raises DataError, with the reason alone,
    as `rules.checked` does, for two answers that are the same, and for conversations that differ before an answer.
    """
    chosen, rejected = (_checked_side(name, side, with_calls=with_calls) for name, side in _sides(pair))
    both = list(zip(chosen.messages, rejected.messages, strict=False))
    shared = next((number for number, (one, other) in enumerate(both) if one != other), len(both))
    if shared == len(chosen.messages) == len(rejected.messages):
        raise DataError("its two answers are the same")
    if shared == len(both):
        raise DataError("one of its conversations is the beginning of the other")
    if not chosen.messages[shared]["role"] == rejected.messages[shared]["role"] == "assistant":
        raise DataError(f"its conversations differ before an answer, in message {shared + 1}")
    return Pair(_learned_from(chosen, shared), _learned_from(rejected, shared), shared)


def _sides(pair: Pair) -> tuple[tuple[str, Conversation], ...]:
    return ("chosen", pair.chosen), ("rejected", pair.rejected)


def _checked_side(name: str, side: Conversation, *, with_calls: bool) -> Conversation:
    try:
        return checked(side, with_calls=with_calls)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error


def _learned_from(conversation: Conversation, first: int) -> Conversation:
    """Return a conversation of which nothing before the message of this number is learned."""
    messages = [{**message, "weight": 0} if number < first and message["role"] == "assistant" else message
                for number, message in enumerate(conversation.messages)]  # fmt: skip
    return replace(conversation, messages=messages)


def _question(values: Values) -> list[dict[str, Any]]:
    """Return what stands before answers that are given alone: up to the last message that is no answer itself."""
    found: list[dict[str, Any]] = []
    given = values.get("input")
    if values.get("prompt"):
        found = _turns(values["prompt"], "user", "prompt")
    elif isinstance(given, Mapping):
        found = _turns(given.get("messages"), "user", "input.messages")
    elif named := next((name for name in ("messages", "conversations") if values.get(name)), None):
        found = _turns(values[named], "user", named)
    elif isinstance(values.get("instruction"), str):
        found = alpaca_question({**values, "system": None})
    elif asked := values.get("question") or given:
        found = _turns(asked, "user", "question")
    while found and found[-1]["role"] == "assistant":
        found.pop()
    if not found:
        raise DataError(
            f"nothing says what its answers are answers to: it has the fields {', '.join(map(str, values))}"
        )
    return found


def _turns(value: Any, role: str, name: str) -> list[dict[str, Any]]:
    """Return the messages that a field is: several, one, the text of one with this role, or that of a dialogue."""
    found = parsed(value)
    turns = [found] if isinstance(found, Mapping) else found
    if isinstance(turns, list) and turns and all(_is_turn(turn) for turn in turns):
        return [spoken(turn) for turn in turns]
    if not isinstance(value, str):
        raise DataError(f"its {name} is {kind_of(value)}, and neither text nor messages")
    return _dialogue(value) or [{"role": role, "content": value.strip()}]


def _is_turn(value: Any) -> bool:
    return isinstance(value, Mapping) and ("role" in value or "from" in value)


def _dialogue(text: str) -> list[dict[str, Any]]:
    """Return the messages of a text in which `Human:` and `Assistant:` take turns; none for another text."""
    _, *parts = _DIALOGUE.split(text)
    if not text.lstrip().startswith("Human:"):
        return []
    return [
        {"role": _SPEAKERS[speaker], "content": said.strip()}
        for speaker, said in zip(parts[::2], parts[1::2], strict=True)
    ]
