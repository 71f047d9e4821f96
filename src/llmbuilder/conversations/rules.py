"""Which conversations can be learned from: who speaks after whom, and how long a turn may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from llmbuilder.conversations.forms import Conversation
from llmbuilder.errors import DataError

LONGEST_TURN = 1_000_000  # characters; far more than a window holds
# Who may speak before whom; "" is the beginning.
_BEFORE = {
    "system": ("",), "developer": ("", "system"), "user": ("", "system", "developer", "assistant"),
    "assistant": ("user", "tool"), "tool": ("assistant", "tool"),
}  # fmt: skip
_SAME = {"function": "tool", "ipython": "tool"}  # other names of a role


def checked(conversation: Conversation, *, with_calls: bool) -> Conversation:
    """Return a conversation that ends with an answer: what follows the last one is left out.

    `with_calls` says that an answer may be nothing but calls of tools. Raises DataError, with the reason alone, for
    roles in the wrong order, empty turns, turns of more than a million characters, and where nobody answers.
    """
    messages = conversation.messages
    last = max((number for number, message in enumerate(messages) if message["role"] == "assistant"), default=None)
    if last is None:
        raise DataError("it has no assistant turn, from which a model could learn")
    before = ""
    for number, message in enumerate(messages[: last + 1], 1):
        role = _SAME.get(message["role"], message["role"])
        if role not in _BEFORE:
            raise DataError(f"message {number} has the role {role!r}: known are {', '.join(_BEFORE)}")
        if before not in _BEFORE[role]:
            after = f"after {before!r}" if before else "at the beginning"
            raise DataError(f"its roles are in the wrong order: {role!r} {after} (message {number})")
        _require_text(message, number, with_calls=with_calls)
        before = role
    return replace(conversation, messages=messages[: last + 1])


def _require_text(message: Mapping[str, Any], number: int, *, with_calls: bool) -> None:
    text = message.get("content", "")
    if len(text) > LONGEST_TURN:
        raise DataError(f"message {number} has {len(text):,} characters, more than the {LONGEST_TURN:,} of a turn")
    calls = with_calls and message.get("tool_calls")
    if not text.strip() and not calls and message["role"] not in ("tool", "system", "developer"):
        raise DataError(f"message {number} ({message['role']}) is empty")


def is_learned(message: Mapping[str, Any]) -> bool:
    """Whether a message is an answer to learn from: a weight of 0, or `train` set to false, says that one is not."""
    return message["role"] == "assistant" and message.get("weight") != 0 and message.get("train") is not False
