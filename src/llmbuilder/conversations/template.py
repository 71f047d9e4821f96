"""A model's chat template: conversations in, the text and the tokens that the model knows them by out.

It is rendered in a process of its own with a limit of time and memory, which is ended with `close`, or with this one.
"""

from __future__ import annotations

import datetime
import functools
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from llmbuilder.errors import DataError
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.tokenizer.marked import MarkedEncoder, without_marks
from llmbuilder.workers import Worker, WorkerEndedError

_SECONDS = 20.0  # for the renderings of one conversation, which take milliseconds
_MEMORY = 2 << 30  # bytes of the process that renders

Message = Mapping[str, Any]


@dataclass(frozen=True)
class Request:
    """A conversation to be rendered, or its beginning, with the head of an answer behind it or not."""

    messages: Sequence[Message]
    tools: Sequence[Any] | None = None
    add_generation_prompt: bool = False


@dataclass(frozen=True)
class Rendering:
    """A conversation's text; `spans` are where the template marks it as generated, None if it marks nothing.

    In the text are the marks of `tokenizer.marked`, where somebody's words spell a special token.
    """

    text: str
    spans: list[tuple[int, int]] | None = None


class ChatTemplate:
    """A template with the tokenizer of its model; `with_tools` is another one that it has for conversations with tools.

    Raises DataError, when it is first used, for a text that is no template or does not come to an end.
    """

    def __init__(
        self, source: str, tokenizer: Tokenizer, *, with_tools: str | None = None, seconds: float = _SECONDS
    ) -> None:
        self.source = source
        self.with_tools = with_tools
        self.tokenizer = tokenizer
        self._seconds = seconds
        self._now = datetime.datetime.now().replace(microsecond=0)  # one time for all that it renders
        self._worker = Worker("llmbuilder.conversations.render_worker", _MEMORY, seconds)

    @property
    def uses_tools(self) -> bool:
        """Whether the template looks at the tools that a conversation has."""
        return self._names("tools")

    @property
    def uses_tool_calls(self) -> bool:
        """Whether the template writes what an answer calls."""
        return self._names("tool_calls")

    def _names(self, name: str) -> bool:
        return re.search(rf"\b{name}\b", self.source + (self.with_tools or "")) is not None

    def render(
        self, messages: Sequence[Message], tools: Sequence[Any] | None = None, *, add_generation_prompt: bool = False
    ) -> str:
        """Return a conversation's text. Raises DataError if the template refuses it or fails."""
        return without_marks(self._rendered(Request(messages, tools, add_generation_prompt)).text)

    def encode(
        self, messages: Sequence[Message], tools: Sequence[Any] | None = None, *, add_generation_prompt: bool = False
    ) -> list[int]:
        """Return a conversation's tokens. Raises DataError as `render`."""
        return self.encode_text(self._rendered(Request(messages, tools, add_generation_prompt)).text)[0]

    def encode_text(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Return the tokens of a rendering's text, and where in it each one begins and ends."""
        return self._encoder.encode(text)

    @functools.cached_property
    def _encoder(self) -> MarkedEncoder:
        return MarkedEncoder(self.tokenizer)

    def _rendered(self, request: Request) -> Rendering:
        found = self.render_all([request])[0]
        if isinstance(found, DataError):
            raise found
        return found

    def render_all(self, requests: Sequence[Request]) -> list[Rendering | DataError]:
        """Return the renderings, an error in the place of each one that failed.

        Raises DataError if the template is none, or takes too much time or memory.
        """
        as_text = self._encoder.as_text
        asked = [
            {**vars(request), "messages": as_text(request.messages), "tools": as_text(request.tools)}
            for request in requests
        ]
        return [
            DataError(answer["error"]) if "error" in answer else
            Rendering(answer["text"], None if answer["spans"] is None else [(a, b) for a, b in answer["spans"]])
            for answer in self._ask(asked)
        ]  # fmt: skip

    def _ask(self, request: Any) -> Any:
        try:
            if self._worker.start():
                named = {"source": self.source, "with_tools": self.with_tools,
                         "variables": _named_tokens(self.tokenizer), "now": self._now.isoformat()}  # fmt: skip
                answer = self._worker.ask(named)
                if "error" in answer:
                    raise DataError(answer["error"])
            return self._worker.ask(request)
        except WorkerEndedError as error:
            why = (f"does not come to an end within {self._seconds:g} seconds" if error.took_too_long
                   else "ended the process that rendered it: it needs too much memory, or nests too deep")  # fmt: skip
            raise DataError(f"the chat template {why}") from None

    def close(self) -> None:
        """End the process that renders; the next rendering starts another."""
        self._worker.stop()

    def __enter__(self) -> ChatTemplate:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with suppress(Exception):
            self.close()


def template_from(metadata: Mapping[str, Any], tokenizer: Tokenizer) -> ChatTemplate | None:
    """Return the template that a model came with, by its metadata; None for one without."""
    source = metadata.get("chat_template")
    if not isinstance(source, str) or not source.strip():
        return None
    return ChatTemplate(source, tokenizer, with_tools=_template_for_tools(metadata))


def _template_for_tools(metadata: Mapping[str, Any]) -> str | None:
    """Return the template that models of Hugging Face call `tool_use`, as it came from a folder or a GGUF file."""
    folder, file = metadata.get("huggingface"), metadata.get("gguf")
    named = folder.get("chat_templates") if isinstance(folder, Mapping) else None
    found = named.get("tool_use") if isinstance(named, Mapping) else None
    if found is None and isinstance(file, Mapping):
        found = file.get("tokenizer.chat_template.tool_use")
    return found if isinstance(found, str) and found.strip() else None


def _named_tokens(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the special tokens by the names that templates use."""
    settings = tokenizer.special.settings()
    return {name: value for name, value in settings.items() if name != "add_bos_token"}
