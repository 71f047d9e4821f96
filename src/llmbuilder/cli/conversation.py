"""`generate text -i`: prompts asked for in a terminal, each continued behind the text so far; or lines from a pipe.

With `--chat` they are questions, and go through the model's chat template.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import typer

from llmbuilder.cli.output import say
from llmbuilder.cli.sources import Sources, show_sources
from llmbuilder.errors import ConfigError

if TYPE_CHECKING:
    from llmbuilder.config.schema import GenerationConfig
    from llmbuilder.finetuning.switching import Adapters
    from llmbuilder.inference import Chat, Generator

_AFRESH, _ADAPTER = "/new", "/adapter"


def converse(generator: Generator, settings: GenerationConfig, adapters: Adapters | None = None) -> None:
    """Continue what is typed until Ctrl-D or an empty line; each line of a pipe is a prompt of its own."""
    memory = Memory(generator, settings.max_new_tokens)
    for prompt in _typed("Write the beginning of a text", "the text", memory.forget, adapters):
        if not sys.stdin.isatty():
            memory.forget()
        if settings.num_samples > 1:
            show_samples(prompt, generator.generate([memory.before(prompt)], settings)[0])
            continue
        _answer(generator, settings, memory, prompt)


def chat(
    conversation: Chat, settings: GenerationConfig, sources: Sources | None = None, adapters: Adapters | None = None
) -> None:
    """Answer what is typed until Ctrl-D or an empty line; the lines of a pipe are the questions of one conversation.

    With `sources` each question comes with what they hold on it.
    """
    has_told = False
    for question in _typed("Ask something", "the conversation", conversation.forget, adapters):
        found = sources.find(question) if sources is not None else []
        if sources is not None and not found:
            say("(nothing in the documents has a word of this: it is answered without them)")
        if settings.num_samples > 1:
            show_samples("", conversation.answers(question, settings, found))
            show_sources(conversation.sources)
            continue
        try:
            for piece in conversation.answer(question, settings, found):
                typer.echo(piece, nl=False)
        except KeyboardInterrupt:
            if not sys.stdin.isatty():
                raise
        typer.echo("\n")
        show_sources(conversation.sources)
        if conversation.has_forgotten and not has_told:
            has_told = True
            say("(the conversation is longer than the model sees: from here on its beginning is forgotten)")


def _typed(invitation: str, memory: str, forget: Callable[[], None], adapters: Adapters | None) -> Iterator[str]:
    """Yield the lines that are typed, or come from a pipe, until the end or an empty one."""
    is_terminal = sys.stdin.isatty()
    ask = _line_editor() if is_terminal else lambda: input("")
    if is_terminal:
        say(f"{invitation}. Ctrl-C stops an answer, {_AFRESH} forgets {memory} so far, Ctrl-D ends.")
        if adapters is not None:
            say(f"{_ADAPTER} lists the adapters, {_ADAPTER} NAME takes another one: {_listed(adapters)}")
    while True:
        try:
            prompt = ask()
        except EOFError:
            return
        except KeyboardInterrupt:  # an unfinished line is thrown away, as in a shell
            say("")
            continue
        if not prompt:
            return
        if prompt.strip() == _AFRESH:
            forget()
            continue
        if adapters is not None and prompt.split()[:1] == [_ADAPTER]:
            _switch(adapters, prompt.strip().removeprefix(_ADAPTER).strip())
            continue
        yield prompt


def _switch(adapters: Adapters, name: str) -> None:
    """Take the adapter of a name, if there is one; without a name list them."""
    try:
        if name:
            adapters.use(name)
    except ConfigError as error:
        say(str(error))
        return
    say(_listed(adapters))


def _listed(adapters: Adapters) -> str:
    return ", ".join(f"{name} (in use)" if name == adapters.current else name for name in adapters.names)


def _answer(generator: Generator, settings: GenerationConfig, memory: Memory, prompt: str) -> None:
    before = memory.before(prompt)
    answer = ""
    typer.echo(prompt, nl=False)
    try:
        for piece in generator.stream(before, settings):
            answer += piece
            typer.echo(piece, nl=False)
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            raise
    typer.echo("\n")
    memory.text = before + answer


class Memory:
    """The text so far, as much of it as the model sees beside an answer."""

    def __init__(self, generator: Generator, answer_tokens: int) -> None:
        self.text = ""
        self._generator = generator
        self._most = generator.room_for_prompt(answer_tokens)
        self._has_told = False

    def forget(self) -> None:
        """Begin anew."""
        self.text = ""

    def before(self, prompt: str) -> str:
        """Return what the model is to continue: the text so far and the prompt, without lines it could not see."""
        text = f"{self.text}\n{prompt}" if self.text else prompt
        tokenizer = self._generator.tokenizer
        kept = text
        while len(tokenizer.encode(kept)) > self._most and kept != prompt:
            cut = kept.find("\n", 0, len(kept) - len(prompt))
            kept = kept[cut + 1 :] if cut >= 0 else prompt
        if kept != text and not self._has_told:
            self._has_told = True
            say("(the text is longer than the model sees: from here on its beginning is forgotten)")
        return kept


def show_samples(prompt: str, continuations: list[str]) -> None:
    """Print several continuations of a prompt."""
    for number, continuation in enumerate(continuations, start=1):
        typer.echo(f"--- sample {number} ---" if len(continuations) > 1 else "---")
        typer.echo(prompt + continuation)


def _line_editor() -> Callable[[], str]:
    """Return what asks for a line: with editing and history, as far as this installation has them."""
    try:
        from prompt_toolkit import PromptSession
    except ImportError:
        with contextlib.suppress(ImportError):  # Windows, whose console edits lines itself
            import readline  # noqa: F401  # gives input() editing and history
        return lambda: input("> ")
    session: PromptSession[str] = PromptSession("> ")
    return session.prompt
