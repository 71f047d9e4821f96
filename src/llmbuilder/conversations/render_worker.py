"""Renders conversations in a process of its own, so that a template that loops or grows costs only itself.

Usage: python -m llmbuilder.conversations.render_worker MEMORY_BYTES
The first line of standard input is a JSON object with `source`, `with_tools` (another template for conversations with
tools, or null), `variables` and `now`, each other a list of requests
with `messages`, `tools` and `add_generation_prompt`. Each line of standard output is the answer: `error`, or for the
requests a list of `text` and `spans`, or `error`. It ends with its input.
"""

from __future__ import annotations

import datetime
import json
import sys
from typing import Any

from llmbuilder.conversations.rendering import Renderer
from llmbuilder.errors import DataError
from llmbuilder.workers import begin_work


def main() -> None:
    """Answer requests until the input ends."""
    begin_work()
    given = json.loads(sys.stdin.readline())
    try:
        now = datetime.datetime.fromisoformat(given["now"])
        usual, with_tools = (
            None if source is None else Renderer(source, given["variables"], now)
            for source in (given["source"], given["with_tools"])
        )
    except DataError as error:
        _say({"error": str(error)})
        return
    _say({})
    for line in sys.stdin:
        _say(
            [_answer(with_tools if with_tools and request["tools"] else usual, request) for request in json.loads(line)]
        )


def _answer(renderer: Renderer | None, request: dict[str, Any]) -> dict[str, Any]:
    assert renderer is not None
    try:
        text, spans = renderer.render(**request)
    except DataError as error:
        return {"error": str(error)}
    return {"text": text, "spans": spans}


def _say(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
