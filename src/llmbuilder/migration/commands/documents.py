"""Commands in documents: Markdown and other text, notebooks, Python programs."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import re
import tokenize
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from llmbuilder.migration.commands.snippets import Piece, Snippet, block, lines_at, prose

_FENCE = re.compile(r"^(?P<indent>(?:[ \t]|>)*(?:(?:[-*+]|\d+[.)])[ \t]+)?)(?P<fence>`{3,}|~{3,})(?P<info>[^`\n]*)$")
_SHELL_LANGUAGES = {
    "", "sh", "bash", "shell", "zsh", "console", "shell-session", "shellsession", "shell script", "terminal", "cmd",
    "text", "txt", "plaintext", "plain", "commandline", "command", "command-line", "powershell", "ps1", "bat", "batch",
    "slurm", "bash session", "sh-session", "none", "fish", "session",
}  # fmt: skip
_PYTHON_LANGUAGES = {"python", "py", "ipython", "python3", "jupyter"}
_CELL = re.compile(r"^\s*%%(?:bash|sh|shell|script\s+(?:bash|sh))\b.*$")


def markdown(text: str) -> list[Snippet]:
    """Return the code blocks of a Markdown document, and commands between backticks."""
    found: list[Snippet] = []
    lines = lines_at(text)
    number = 0
    waiting: list[tuple[int, str]] = []  # indented lines, or prose
    is_code = False
    while number < len(lines):
        at, line = lines[number]
        fence = _FENCE.match(line.rstrip("\r\n"))
        if fence is not None:
            found += _outside(waiting, is_code)
            waiting = []
            number, inside = _fenced(lines, number + 1, fence)
            found += _language(fence["info"], inside)
            continue
        was_blank = number == 0 or not lines[number - 1][1].strip()
        indented = re.match(r" {4}|\t", line) is not None and (is_code or was_blank)
        if line.strip() and indented != is_code:
            found += _outside(waiting, is_code)
            waiting, is_code = [], indented
        waiting.append((at, line))
        number += 1
    return found + _outside(waiting, is_code)


def _fenced(lines: list[tuple[int, str]], start: int, fence: re.Match[str]) -> tuple[int, list[tuple[int, str]]]:
    """Return the number of the line behind a fenced block, and the block's lines without its indentation."""
    quote = fence["indent"].count(">")
    width = len(fence["indent"].expandtabs(4))
    inside: list[tuple[int, str]] = []
    for number in range(start, len(lines)):
        at, line = lines[number]
        stripped = line.strip().lstrip("> ") if quote else line.strip()
        if stripped.startswith(fence["fence"]) and not stripped.strip(fence["fence"][0]):
            return number + 1, inside
        cut = 0
        if quote:
            found = re.match(r"(?:[ \t]*>[ \t]?)+", line)
            cut = found.end() if found is not None else 0
        else:
            cut = min(width, len(line) - len(line.lstrip(" \t")))
        inside.append((at + cut, line[cut:]))
    return len(lines), inside


def _language(info: str, lines: list[tuple[int, str]]) -> list[Snippet]:
    name = info.strip().strip("{}.").lower()
    first = name if name in _SHELL_LANGUAGES else re.split(r"[\s,{:]", name)[0].strip(".")
    if first in _SHELL_LANGUAGES:
        found = block(lines)
        return [found] if found is not None else []
    if first in _PYTHON_LANGUAGES:
        marked = [(at, line, line.index("!") + 1) for at, line in lines if line.lstrip().startswith("!")]
        pieces = [Piece(line[cut:], at + cut) for at, line, cut in marked]
        return [
            *([Snippet(pieces)] if pieces else []),
            *(replace(s, is_example=False) for s in prose(lines)),
        ]
    return []


def _outside(lines: list[tuple[int, str]], is_code: bool) -> list[Snippet]:
    if is_code:
        found = block(lines)
        return [found] if found is not None else []
    return prose(lines)


def plain_text(text: str) -> list[Snippet]:
    """Return the commands that lines of any text begin with."""
    return prose(lines_at(text))


def notebook(text: str) -> list[Snippet]:
    """Return the shell lines and cells of a Jupyter notebook; none if it is not one."""
    try:
        content = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return []
    cells = content.get("cells") if isinstance(content, dict) else None
    found: list[Snippet] = []
    searched = 0
    for cell in cells if isinstance(cells, list) else []:
        source = cell.get("source") if isinstance(cell, dict) else None
        lines = _source_lines(source)
        if not lines:
            continue
        first = next((line for line in lines if line.strip()), "")
        searched, numbers = _line_numbers(text, lines, searched)
        if cell.get("cell_type") == "markdown":
            # Markdown's places are those in the cell, which are not the file's.
            for piece in markdown("".join(lines)):
                at = piece.pieces[0].at or 0
                line = "".join(lines)[:at].count("\n")
                found.append(_placeless(piece.text, numbers[min(line, len(numbers) - 1)], True))
        elif cell.get("cell_type") == "code" and _CELL.match(first):
            at = lines.index(first) + 1
            if at < len(lines):
                found.append(_placeless("".join(lines[at:]), numbers[at], False))
        elif cell.get("cell_type") == "code":
            found += _shell_lines(lines, numbers)
    return found


def _placeless(text: str, line: int, is_example: bool) -> Snippet:
    return Snippet([Piece(text)], line, is_example, keeps_state=False)


def _source_lines(source: Any) -> list[str]:
    if isinstance(source, list):
        source = "".join(part for part in source if isinstance(part, str))
    return re.split(r"(?<=\n)(?=.)", source, flags=re.DOTALL) if isinstance(source, str) and source else []


def _line_numbers(text: str, lines: list[str], start: int) -> tuple[int, list[int]]:
    """Return where the search for the next cell goes on, and the line of the file each line of a cell stands in."""
    numbers, at = [], start
    for line in lines:
        for form in (json.dumps(line.rstrip("\n"), ensure_ascii=False)[1:-1], json.dumps(line.rstrip("\n"))[1:-1]):
            place = text.find(form, at)
            if place >= 0:
                at = place
                break
        numbers.append(at)
    counted, line_number, before = [], 1 + text.count("\n", 0, start), start
    for place in numbers:
        line_number += text.count("\n", before, place)
        before = place
        counted.append(line_number)
    return at, counted


def _shell_lines(lines: list[str], numbers: list[int]) -> Iterator[Snippet]:
    """Yield `!` lines, which IPython gives to a shell each, and `%cd`, which moves all that follow."""
    number = 0
    while number < len(lines):
        line = lines[number]
        mark = re.match(r"\s*(?:\w+\s*=\s*)?(!{1,2}|%cd\b|%(?:sx|sc|system)\b|%run\b)", line)
        end = number + 1
        if mark is not None:
            while lines[end - 1].rstrip("\n").endswith("\\") and end < len(lines):
                end += 1
            body = "".join(lines[number:end])[mark.end() :]
            body = {"%cd": "cd", "%run": "python "}.get(mark[1], "") + body
            body = re.sub(r"(?<![\w$}{])\{(\w+)\}", r"${\1}", body)
            yield Snippet([Piece(body)], numbers[number], keeps_state=mark[1] == "%cd")
        elif line.lstrip().startswith("#"):
            for example in prose([(0, line)]):
                yield _placeless(example.text, numbers[number], True)
        number = end


def python_program(text: str) -> list[Snippet]:
    """Return the commands that the comments and docstrings of a Python program show, as examples."""
    found: list[tuple[int, Snippet]] = []
    lines = lines_at(text.replace("\\\\\n", " \\\n"))  # a backslash at a line's end is written twice in a string
    for first, last in (*_docstrings(text), *_comments(text)):
        for snippet in prose(lines[first - 1 : last]):
            found.append((snippet.pieces[0].at or 0, snippet))
    return [snippet for _, snippet in sorted(found, key=lambda pair: pair[0])]


def _docstrings(text: str) -> Iterator[tuple[int, int]]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.end_lineno or node.lineno


def _comments(text: str) -> Iterator[tuple[int, int]]:
    """Yield (first, last) line of each run of comments that have lines of their own."""
    lines: list[int] = []
    with contextlib.suppress(tokenize.TokenError, SyntaxError):  # what stands before a fault is read all the same
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT and not token.line[: token.start[1]].strip():
                lines.append(token.start[0])
    start = None
    for number, line in enumerate(lines):
        start = line if start is None else start
        if number + 1 == len(lines) or lines[number + 1] != line + 1:
            yield start, line
            start = None
