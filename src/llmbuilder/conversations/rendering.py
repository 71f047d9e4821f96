"""Chat templates rendered as transformers renders them: the same sandbox, filters and functions.

A template is a program that came with somebody's model: the sandbox keeps it from attributes, and it runs in a process
of its own (`render_worker`), which bounds what no sandbox does: time and memory.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.runtime
import jinja2.sandbox
import jinja2.utils

from llmbuilder.errors import DataError

# Around what a template marks as generated: characters that Unicode reserves for such use and that no text has.
_BEGIN, _END = "\ufdd0", "\ufdd1"
_MARKS = re.compile(f"[{_BEGIN}{_END}]")
_REASONING = ("reasoning_content", "thinking", "reasoning")  # names of one thing; templates read the first two
_LARGEST = 64 << 20  # characters of a rendered conversation


class _GenerationMarks(jinja2.ext.Extension):
    """`{% generation %}` ... `{% endgeneration %}`: what stands between is the model's."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja has it

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

    def _marked(self, caller: jinja2.runtime.Macro) -> str:
        return f"{_BEGIN}{caller()}{_END}" if self.environment.marks else str(caller())  # type: ignore[attr-defined]


class _Namespace(jinja2.utils.Namespace):
    """Jinja's, without names that begin with an underscore: those lead to Python's own parts."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, given = args[0], dict(*args[1:], **kwargs)
        for name in given:
            _require_public(name)
        jinja2.utils.Namespace.__init__(self, given)

    def __setitem__(self, name: str, value: Any) -> None:
        _require_public(name)
        super().__setitem__(name, value)


def _require_public(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace has no attribute {name!r}")


class Renderer:
    """A compiled template; `variables` are the special tokens that it may name, `now` what it takes for the time.

    Raises DataError for a text that is no template.
    """

    def __init__(self, source: str, variables: Mapping[str, Any], now: datetime.datetime) -> None:
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationMarks, jinja2.ext.loopcontrols]
        )
        environment.extend(marks=False)
        environment.filters["tojson"] = _to_json
        environment.globals.update({
            "raise_exception": _raise, "strftime_now": now.strftime, "namespace": _Namespace,
            "dict": lambda *args, **kwargs: dict(*args, **kwargs),
        })  # fmt: skip
        self._environment = environment
        self._variables = dict(variables)
        self._has_marks = "endgeneration" in source
        try:
            self._template = environment.from_string(source)
        except (jinja2.TemplateError, RecursionError, SyntaxError, ValueError) as error:
            raise DataError(f"the chat template is no Jinja template: {error}") from error

    def render(
        self, messages: Sequence[Mapping[str, Any]], tools: Any, add_generation_prompt: bool
    ) -> tuple[str, list[tuple[int, int]] | None]:
        """Return the text, and where in it the parts are that the template marks as generated; None if it marks none.

        Raises DataError if the template raises, or gives more text than a conversation has.
        """
        given = {
            **self._variables, "messages": [_with_reasoning(message) for message in messages], "tools": tools,
            "documents": None, "add_generation_prompt": add_generation_prompt,
        }  # fmt: skip
        text = self._text(given)
        if not self._has_marks or _MARKS.search(text):
            return text, None
        self._environment.marks = True  # type: ignore[attr-defined]
        try:
            marked = self._text(given)
        finally:
            self._environment.marks = False  # type: ignore[attr-defined]
        # A template that looks at what it has written can write something else when there are marks in it.
        return text, list(_spans(marked)) if _MARKS.sub("", marked) == text else None

    def _text(self, given: Mapping[str, Any]) -> str:
        pieces, length = [], 0
        try:
            for piece in self._template.generate(**given):
                pieces.append(piece)
                length += len(piece)
                if length > _LARGEST:
                    raise DataError(f"the chat template writes more than {_LARGEST:,} characters")
        except jinja2.exceptions.SecurityError as error:
            raise DataError(f"the chat template reaches for what it may not have: {error}") from error
        except jinja2.TemplateError as error:
            raise DataError(f"the chat template refuses it: {error}") from error
        except MemoryError:
            raise DataError("the chat template needs more memory than it may have") from None
        except DataError:
            raise
        except Exception as error:  # a template can make Python raise anything
            raise DataError(f"the chat template fails: {type(error).__name__}: {error}") from error
        return "".join(pieces)


def _with_reasoning(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message without empty fields, its reasoning under the names that templates know."""
    present = {name: value for name, value in message.items() if value is not None}
    reasoning = next((present[name] for name in _REASONING if name in present), None)
    return present if reasoning is None else {"thinking": reasoning, **present, "reasoning_content": reasoning}


def _spans(marked: str) -> Iterator[tuple[int, int]]:
    """Yield where the marked parts are in the text without marks; one inside another belongs to it."""
    begin, depth = 0, 0
    for number, mark in enumerate(_MARKS.finditer(marked)):
        place = mark.start() - number
        if mark.group() == _BEGIN:
            begin = begin if depth else place
            depth += 1
        else:
            depth -= 1
            if not depth and place > begin:
                yield begin, place


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)
