"""Pieces of shell text inside of other files, each with the way back to where it stands there."""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

# What a line of prose may have in front of a command: a list's mark, a comment's, a prompt, "Usage:".
_PROMPT = re.compile(
    r"^(?:\([\w.-]+\)\s*)?(?:[\w.-]+@[\w.-]+[^$#\n]*)?(?:\$|%|>|>>>|❯|□|☐|➜)\s+|^(?:PS [^>]*|[A-Z]:\\[^>]*)>\s*"
)
_LEAD = re.compile(
    r"^(?:[-*+•]\s+|\d+[.)]\s+)?(?:(?:[A-Z][\w ,()/'-]{0,60}|e\.g\.?|i\.e\.?)[:,]\s+)?(?:\$\s+|>>>\s*!?|>\s+|!)?"
)
_PLACEHOLDER = re.compile(r"<([A-Za-z][\w .|/-]*)>")
_COMMAND = re.compile(
    r"(?:[A-Z_][A-Z0-9_]*=\S*\s+)*(?:(?:nohup|time|srun|sudo|CUDA\S+)\s+(?:-\S+\s+)*)?"
    r"(?:[\w./~-]*/)?(?:python[\d.]*|torchrun|accelerate\s+launch|deepspeed|uv\s+run|poetry\s+run|pipenv\s+run|"
    r"\./[\w./-]+\.py)\s"
)


@dataclass(frozen=True)
class Piece:
    """A run of characters: `text` for a shell to read, which stands at `at` of the file as `written`, if it does."""

    text: str
    at: int | None = None
    written: str | None = None


@dataclass
class Snippet:
    """A shell text from a file. `line` is where it begins, for pieces that stand nowhere as they are.

    `variables` are those set outside of it; `cwd` is the folder it runs in; `keeps_state`: the next snippet of the file
    goes on with its folder and variables, as blocks of a README do. `text` is what a shell would read, `written` the
    same as its author wrote it, of the same length.
    """

    pieces: list[Piece]
    line: int = 1
    is_example: bool = False
    cwd: str = "."
    keeps_state: bool = True
    variables: dict[str, str] = field(default_factory=dict)
    text: str = field(init=False)
    written: str = field(init=False)
    _starts: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self._starts = [0, *itertools.accumulate(len(piece.text) for piece in self.pieces)]
        self.text = "".join(piece.text for piece in self.pieces)
        self.written = "".join(piece.text if piece.written is None else piece.written for piece in self.pieces)

    def position(self, at: int) -> int | None:
        """Return where a character of the text stands in the file, or None if it does not stand there."""
        number = min(bisect.bisect_right(self._starts, at) - 1, len(self.pieces) - 1)
        start = self.pieces[number].at if number >= 0 else None
        return start + at - self._starts[number] if start is not None else None


def whole(text: str) -> Snippet:
    """Return a text that is shell from beginning to end."""
    return Snippet([Piece(text, 0)])


def lines_at(text: str, start: int = 0) -> list[tuple[int, str]]:
    """Return the lines of a text with where they begin, their ends kept."""
    found, at = [], start
    for line in re.split(r"(?<=\n)", text):
        if line:
            found.append((at, line))
        at += len(line)
    return found


def continued(lines: Iterable[tuple[int, str]]) -> list[list[tuple[int, str]]]:
    """Group lines with those that a backslash at their end goes on with."""
    groups: list[list[tuple[int, str]]] = []
    is_open = False
    for at, line in lines:
        if is_open:
            groups[-1].append((at, line))
        else:
            groups.append([(at, line)])
        is_open = line.rstrip("\r\n").endswith("\\")
    return groups


def block(lines: list[tuple[int, str]], *, is_example: bool = False) -> Snippet | None:
    """Return a block of a document: what stands behind prompts if there are any, else all of it."""
    groups = continued(lines)
    prompts = [_PROMPT.match(group[0][1].lstrip(" \t")) for group in groups]
    has_prompts = any(found is not None for found in prompts)
    pieces = []
    for group, prompt in zip(groups, prompts, strict=True):
        if has_prompts and prompt is None:
            continue
        for number, (at, line) in enumerate(group):
            indent = len(line) - len(line.lstrip(" \t")) if line.strip() else 0
            cut = indent + (len(prompt[0]) if has_prompts and prompt is not None and number == 0 else 0)
            if number and has_prompts and line[indent:].startswith("> "):
                cut = indent + 2
            pieces.append(Piece(line[cut:], at + cut))
    return Snippet(readable(pieces), is_example=is_example) if pieces else None


def prose(lines: Iterable[tuple[int, str]]) -> list[Snippet]:
    """Return the commands that lines of prose, such as a comment's, begin with or hold between backticks."""
    found = []
    for group in continued(lines):
        at, line = group[0]
        for span in re.finditer(r"(`+)([^`]+)\1", line):
            # `Sentence with python train.py` in it names a file more often than it shows a command.
            if _COMMAND.match(span[2].strip().removeprefix("$ ") + " "):
                cut = len(span[2]) - len(span[2].lstrip().removeprefix("$ "))
                piece = Piece(span[2][cut:], at + span.start(2) + cut)
                found.append(Snippet(readable([piece]), is_example=True))
        stripped = line.lstrip(" \t#/*;")
        lead = _LEAD.match(stripped)
        cut = len(line) - len(stripped) + (lead.end() if lead is not None else 0)
        if not _COMMAND.match(line[cut:]) or "`" in line:
            continue
        pieces = [Piece(line[cut:], at + cut)]
        for more, text in group[1:]:
            more_prompt = re.match(r"[ \t#]*(?:\.\.\.[ \t]+)?", text)
            inner = more_prompt.end() if more_prompt is not None else 0
            pieces.append(Piece(text[inner:], more + inner))
        found.append(Snippet(readable(pieces), is_example=True))
    return found


def readable(pieces: Iterable[Piece]) -> list[Piece]:
    """Return pieces in which <what a reader fills in> is a word, and not two redirections."""
    return [
        replace(piece, text=_PLACEHOLDER.sub("‹\\1›", piece.text), written=piece.written or piece.text)
        for piece in pieces
    ]


def with_variables(snippet: Snippet, variables: dict[str, str], cwd: str | None = None) -> Snippet:
    """Return a snippet that knows what was set outside of it."""
    return replace(snippet, variables=dict(variables), cwd=snippet.cwd if cwd is None else cwd)
