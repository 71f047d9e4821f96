"""A model's chat template: conversations in, the text and the tokens that the model knows them by out.

It is rendered in a process of its own with a limit of time and memory, which is ended with `close`, or with this one.
"""

from __future__ import annotations

import datetime
import functools
import json
import math
import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from llmbuilder.errors import DataError
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.tokenizer.marked import MarkedEncoder

_SECONDS = 20.0  # for the renderings of one conversation, which take milliseconds
_LOOKED_AFTER = 0.1  # seconds between looks at whether a rendering takes too long
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
    """A conversation's text; `spans` are where the template marks it as generated, None if it marks nothing."""

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
        self._process: subprocess.Popen[str] | None = None
        self._took_too_long = False
        self._deadline = math.inf

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
        found = self.render_all([Request(messages, tools, add_generation_prompt)])[0]
        if isinstance(found, DataError):
            raise found
        return found.text

    def encode(
        self, messages: Sequence[Message], tools: Sequence[Any] | None = None, *, add_generation_prompt: bool = False
    ) -> list[int]:
        """Return a conversation's tokens. Raises DataError as `render`."""
        text = self.render(messages, tools, add_generation_prompt=add_generation_prompt)
        return self.encode_text(text)[0]

    def encode_text(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Return the tokens of a rendered text, and where in it each one begins and ends."""
        return self._encoder.encode(text)

    @functools.cached_property
    def _encoder(self) -> MarkedEncoder:
        return MarkedEncoder(self.tokenizer)

    def render_all(self, requests: Sequence[Request]) -> list[Rendering | DataError]:
        """Return the renderings, an error in the place of each one that failed.

        Raises DataError if the template is none, or takes too much time or memory.
        """
        asked = [vars(request) for request in requests]
        return [
            DataError(answer["error"]) if "error" in answer else
            Rendering(answer["text"], None if answer["spans"] is None else [(a, b) for a, b in answer["spans"]])
            for answer in self._ask(self._started(), asked)
        ]  # fmt: skip

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._took_too_long, self._deadline = False, math.inf
            self._process = subprocess.Popen(
                [sys.executable, "-m", "llmbuilder.conversations.render_worker", str(_MEMORY)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8",
            )  # fmt: skip
            threading.Thread(target=self._watch, args=[self._process], daemon=True).start()
            named = {"source": self.source, "with_tools": self.with_tools,
                     "variables": _named_tokens(self.tokenizer), "now": self._now.isoformat()}  # fmt: skip
            answer = self._ask(self._process, named)
            if "error" in answer:
                raise DataError(answer["error"])
        return self._process

    def _ask(self, process: subprocess.Popen[str], request: Any) -> Any:
        assert process.stdin is not None
        assert process.stdout is not None
        self._deadline = time.monotonic() + self._seconds
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            self._deadline = math.inf
        if not line.endswith("\n"):
            process.wait()
            why = (f"does not come to an end within {self._seconds:g} seconds" if self._took_too_long
                   else "ended the process that rendered it: it needs too much memory, or nests too deep")  # fmt: skip
            raise DataError(f"the chat template {why}")
        return json.loads(line)

    def _watch(self, process: subprocess.Popen[str]) -> None:
        """End a process that has not answered in time; one thread for all answers, as starting one takes longer."""
        while process.poll() is None:
            if time.monotonic() > self._deadline:
                self._took_too_long = True
                process.kill()
            time.sleep(_LOOKED_AFTER)

    def close(self) -> None:
        """End the process that renders; the next rendering starts another."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):  # a request that was never read
                    pipe.close()
        self._process = None

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
