"""The forms in which conversations are kept, each made into the messages that chat templates take.

| form | its fields |
| --- | --- |
| messages | `messages`: role and content, as OpenAI and Hugging Face have them; beside it `tools` |
| ShareGPT | `conversations`: from and value; beside it `system` and `tools` |
| Alpaca | `instruction`, `input`, `output`; beside it `system` and `history` |
| prompt | `prompt` and `completion`, each a text or messages |
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmbuilder.errors import DataError
from llmbuilder.notices import kind_of

Values = Mapping[str, Any]
_SPEAKERS = {"human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant",
             "model": "assistant", "assistant": "assistant", "system": "system", "tool": "tool",
             "observation": "tool", "function_response": "tool", "function_call": "assistant"}  # fmt: skip
# Fields of the better and the worse answer of a preference pair, as they are called by whom.
PREFERENCES = (("chosen", "rejected"),  # TRL, Anthropic, LLaMA-Factory, Intel
               ("preferred_output", "non_preferred_output"),  # OpenAI
               ("chosen_response", "rejected_response"),  # Argilla
               ("response_j", "response_k"))  # Stack Exchange  # fmt: skip


@dataclass(frozen=True)
class Conversation:
    """Messages and the tools that they may call; `place` is where it stands, as messages name it."""

    place: str
    messages: list[dict[str, Any]]
    tools: list[Any] | None = None


def form_of(values: Any) -> str | None:
    """Return the name of the form that a row has; None for what is no conversation."""
    if not isinstance(values, Mapping):
        return None
    if any(all(name in values for name in names) for names in PREFERENCES) or ranked_outputs(values):
        return "preferences"
    if isinstance(parsed(values.get("messages")), list):
        return "messages"
    if isinstance(parsed(values.get("conversations")), list):
        return "ShareGPT"
    if isinstance(values.get("instruction"), str) and "output" in values:
        return "Alpaca"
    if "prompt" in values and "completion" in values:
        return "prompt"
    return None


def ranked_outputs(values: Values) -> list[str] | None:
    """Return the better and the worse answer where `output` is a list of two, as LLaMA-Factory once had them."""
    found = values.get("output")
    is_ranked = isinstance(found, list) and len(found) == 2 and all(isinstance(text, str) for text in found)
    return found if is_ranked and isinstance(values.get("instruction"), str) else None


def conversation_of(values: Values, place: str) -> Conversation:
    """Return the conversation that a row holds. Raises DataError, with the reason alone, if it holds none."""
    form = form_of(values)
    if form is None:
        raise DataError(f"it is no conversation: it has the fields {', '.join(map(str, values)) or 'of nothing'}")
    if form == "preferences":
        raise DataError("it is a pair of answers, of which one is preferred, and not a conversation to learn from")
    if form in ("messages", "prompt") and values.get("label") is False:
        raise DataError("its answer is marked as a bad one (label: false)")  # rows of KTO, good and bad ones mixed
    messages = _READERS[form](values)
    return Conversation(place, [message_from(message) for message in messages], tools_of(values))


def tools_of(values: Values) -> list[Any] | None:
    """Return the tools that stand beside a conversation; None if there are none. Raises DataError for no list."""
    tools = parsed(values.get("tools") or values.get("functions"))
    if tools is not None and not isinstance(tools, list):
        raise DataError(f"its tools are {kind_of(tools)} and not a list")
    return tools or None


def _from_messages(values: Values) -> list[Any]:
    return list(parsed(values["messages"]))


def _from_sharegpt(values: Values) -> list[Any]:
    found = [spoken(turn) for turn in parsed(values["conversations"])]
    return [*system_message(values.get("system")), *found]


def spoken(turn: Any) -> dict[str, Any]:
    """Return a turn in the form of ShareGPT, or a message, as a message."""
    if not isinstance(turn, Mapping):
        raise DataError(f"a turn is {kind_of(turn)} and not an object")
    if "role" in turn:
        return dict(turn)
    speaker = str(turn.get("from", "")).strip().lower()
    if speaker not in _SPEAKERS:
        raise DataError(f"a turn is from {turn.get('from')!r}: known are {', '.join(sorted(_SPEAKERS))}")
    own = {name: value for name, value in turn.items() if name not in ("from", "value")}
    if speaker == "function_call" and isinstance(call := parsed(turn.get("value")), Mapping):
        return {**own, "role": "assistant", "tool_calls": [{"type": "function", "function": dict(call)}]}
    return {**own, "role": _SPEAKERS[speaker], "content": turn.get("value")}


def _from_alpaca(values: Values) -> list[Any]:
    return [*alpaca_question(values), {"role": "assistant", "content": values["output"]}]


def alpaca_question(values: Values) -> list[Any]:
    """Return what stands before the answer of a row in Alpaca's form."""
    given = values.get("input")
    if given is not None and not isinstance(given, str):
        raise DataError(f"its input is {kind_of(given)} and no text")
    asked = "\n\n".join(text for text in (values["instruction"], given) if text)
    before = [turn for pair in _pairs_of(values.get("history")) for turn in _exchange(*pair)]
    return [*system_message(values.get("system")), *before, {"role": "user", "content": asked}]


def _pairs_of(history: Any) -> list[Any]:
    """Return the questions and answers before a row's own. Raises DataError for what is no list of two each."""
    pairs = history or []
    if not isinstance(pairs, list) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise DataError("its history is no list of questions with their answers")
    return pairs


def _from_prompt(values: Values) -> list[Any]:
    asked, answer = said(values["prompt"], "user"), said(values["completion"], "assistant")
    return [*system_message(values.get("system")), *asked, *answer]


def said(value: Any, role: str) -> list[Any]:
    """Return the messages that a value is, or the one whose text it is: a list in JSON can be an answer, too."""
    found = parsed(value)
    are_messages = isinstance(found, list) and all(isinstance(item, Mapping) and "role" in item for item in found)
    return found if are_messages and found else [{"role": role, "content": value}]


_READERS = {"messages": _from_messages, "ShareGPT": _from_sharegpt, "Alpaca": _from_alpaca, "prompt": _from_prompt}


def _exchange(question: Any, answer: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def system_message(text: Any) -> list[dict[str, Any]]:
    """Return the message that a system prompt is; none for an empty one."""
    return [{"role": "system", "content": text}] if text else []


def parsed(value: Any) -> Any:
    """Return what a text of JSON says, as tables store lists and objects; another value as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def message_from(message: Any) -> dict[str, Any]:
    """Return a message as templates take it: its text in one piece, what it calls as values and not as their JSON."""
    if not isinstance(message, Mapping):
        raise DataError(f"a message is {kind_of(message)} and not an object")
    made = {str(name): value for name, value in message.items() if value is not None}
    if not isinstance(made.get("role"), str):
        raise DataError("a message has no role")
    if isinstance(made.get("content"), list):
        made["content"] = "".join(map(_text_of_part, made["content"]))
    if not isinstance(made.get("content", ""), str):
        raise DataError(f"the content of a message is {kind_of(made['content'])} and no text")
    if made.get("tool_calls"):
        if not isinstance(made["tool_calls"], list | tuple):
            raise DataError(f"the tool calls of a message are {kind_of(made['tool_calls'])} and no list")
        made["tool_calls"] = [_call(call) for call in made["tool_calls"]]
    else:
        made.pop("tool_calls", None)
    return made


def with_written_arguments(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return messages in which the arguments of tool calls are the JSON that they came from."""

    def written(call: dict[str, Any]) -> dict[str, Any]:
        if isinstance(call.get("function"), dict):
            return {**call, "function": written(call["function"])}
        given = call.get("arguments")
        return call if given is None else {**call, "arguments": json.dumps(given, ensure_ascii=False)}

    return [
        {**message, "tool_calls": [written(call) for call in message["tool_calls"]]}
        if message.get("tool_calls") else message for message in messages
    ]  # fmt: skip


def _text_of_part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping) and isinstance(part.get("text"), str):
        return part["text"]
    which = f"of the type {part.get('type')!r}" if isinstance(part, Mapping) else f"that is {kind_of(part)}"
    raise DataError(f"a message has a part {which}: only text is read")


def _call(call: Any) -> dict[str, Any]:
    if not isinstance(call, Mapping):
        raise DataError(f"a tool call is {kind_of(call)} and not an object")
    made = dict(call)
    if isinstance(made.get("function"), Mapping):
        return {**made, "function": _call(made["function"])}
    return {**made, "arguments": parsed(made["arguments"])} if "arguments" in made else made
