"""`find_calls`: the Python programs that a file of a legacy project starts, whatever kind of file it is."""

from __future__ import annotations

import bisect
import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath

from llmbuilder.migration.commands.build_files import batch_file, dockerfile, makefile, workflow
from llmbuilder.migration.commands.call import Call
from llmbuilder.migration.commands.documents import markdown, notebook, plain_text, python_program
from llmbuilder.migration.commands.launching import Started, started
from llmbuilder.migration.commands.shell import ShellText, SimpleCommand, read_shell
from llmbuilder.migration.commands.shell_words import ROOT, State, without_root
from llmbuilder.migration.commands.snippets import Snippet, lines_at, prose, whole
from llmbuilder.migration.commands.words import Word, joined

LARGEST_TEXT = 5_000_000  # characters; a script is never longer, and data may be
_SHELL_SUFFIXES = {".sh", ".bash", ".zsh", ".slurm", ".sbatch", ".ksh", ".job", ".pbs", ".qsub", ".command"}
_READERS: dict[str, Callable[[str], list[Snippet]]] = {
    ".md": markdown, ".markdown": markdown, ".mdx": markdown, ".rmd": markdown, ".qmd": markdown, ".ipynb": notebook,
    ".py": python_program, ".yml": workflow, ".yaml": workflow, ".bat": batch_file, ".cmd": batch_file,
    ".ps1": batch_file, ".mk": makefile, ".mak": makefile, ".rst": plain_text, ".txt": plain_text, ".org": plain_text,
    ".dockerfile": dockerfile,
}  # fmt: skip
_SHEBANG = re.compile(r"#!.*\b(?:ba|z|da|k)?sh\b")


def find_calls(file: PurePosixPath, text: str) -> list[Call]:
    """Return the calls of Python programs in a file's text, in the order in which they stand there.

    `file` is its path from the project's root; its name, or a first line that names a shell, says how it is read. A
    file of another kind has none. Calls in comments, docstrings and running text are marked as examples.
    """
    text = text[:LARGEST_TEXT].replace("\0", " ")
    place = _Place(file, text)
    snippets = _snippets(file, text)
    found: list[Call] = []
    state = State()
    for snippet in snippets:
        own = state if snippet.cwd == "." else State(cwd=snippet.cwd)
        own = own if snippet.keeps_state and not snippet.is_example else own.copy()
        own.variables |= {name: (Word(value),) for name, value in snippet.variables.items()}
        shell = read_shell(snippet.text, posixpath.dirname(str(file)) or ".", own, snippet.written)
        found += _calls(place, snippet, shell)
    return sorted(_distinct(found), key=lambda call: (call.line, call.span or (0, 0)))


def _snippets(file: PurePosixPath, text: str) -> list[Snippet]:
    suffix, name = file.suffix.lower(), file.name.lower()
    if name.startswith(("makefile", "gnumakefile")):
        return makefile(text)
    if name.startswith(("dockerfile", "containerfile")):
        return dockerfile(text)
    if suffix in _SHELL_SUFFIXES or _SHEBANG.match(text[:200].partition("\n")[0]):
        return [whole(text)]
    if suffix in _READERS:
        return _READERS[suffix](text)
    return plain_text(text) if not suffix and name.startswith(("readme", "usage", "howto")) else []


class _Place:
    """A file with its text and where the lines of it begin."""

    def __init__(self, file: PurePosixPath, text: str) -> None:
        self.file = file
        self.text = text
        self._lines = [found.end() for found in re.finditer("\n", text)]

    def line(self, snippet: Snippet, at: int) -> int:
        """Return the line of the file in which a character of a snippet stands."""
        start = snippet.position(at)
        if start is None:
            return snippet.line + snippet.text.count("\n", 0, at)
        return bisect.bisect_right(self._lines, start) + 1


def _calls(place: _Place, snippet: Snippet, shell: ShellText) -> Iterator[Call]:
    for command in shell.commands:
        program = started(command.words)
        if program is not None:
            yield _call(place, snippet, command, program)
    lines = [pair for start, comment in shell.comments for pair in lines_at(comment, start)]
    for example in _commented(lines, snippet.text):
        at = example.pieces[0].at or 0
        inner = read_shell(example.text, posixpath.dirname(str(place.file)) or ".")
        for command in inner.commands:
            program = started(command.words)
            if program is not None:
                line = place.line(snippet, at + command.start)
                old = example.text[command.start : command.end]
                yield _made(place.file, line, old, command, program, True, None)


def _commented(lines: list[tuple[int, str]], text: str) -> list[Snippet]:
    """Return commands in comments, which go on in the next comment behind a backslash."""
    runs: list[list[tuple[int, str]]] = [[]]
    before = 0
    for at, line in lines:
        if line.startswith(("#SBATCH", "#PBS", "#BSUB", "#!")):
            continue
        if text.count("\n", before, at) > 1:
            runs.append([])
        before = at
        end = text.find("\n", at)
        runs[-1].append((at, line.rstrip("\n") + ("\n" if end >= 0 else "")))
    return [snippet for run in runs for snippet in prose(run)]


def _call(place: _Place, snippet: Snippet, command: SimpleCommand, program: Started) -> Call:
    start, last = snippet.position(command.start), snippet.position(max(command.start, command.end - 1))
    span = (start, last + 1) if start is not None and last is not None and command.is_exact else None
    old = place.text[span[0] : span[1]] if span is not None else snippet.written[command.start : command.end]
    line = place.line(snippet, command.start)
    return _made(place.file, line, old, command, program, snippet.is_example, span)


def _made(
    file: PurePosixPath, line: int, old: str, command: SimpleCommand, program: Started, is_example: bool,
    span: tuple[int, int] | None,
) -> Call:  # fmt: skip
    cwd = command.cwd
    path = program.script.replace(".", "/") + ".py" if program.is_module else program.script
    script = without_root(posixpath.normpath(posixpath.join(cwd, path)))
    return Call(
        file, line, old, script, tuple(_from_here(word, cwd) for word in program.arguments), program.launcher,
        tuple((name, _from_here(value, cwd)) for name, value in command.assignments), program.prefix,
        program.dropped, cwd, is_example,
        tuple(loop for loop in command.loops if loop.variable), span,
    )  # fmt: skip


def _from_here(word: Word, cwd: str) -> Word:
    """Return a word whose path begins at the project's root as one that begins at the current folder."""
    at = word.find(ROOT)
    if at < 0 or posixpath.isabs(cwd):
        return word
    end = at + len(ROOT)
    back = posixpath.relpath(".", cwd)
    front = "" if back == "." and word[end : end + 1] == "/" else back
    rest = word.part(end + 1 if not front and word[end : end + 1] == "/" else end)
    return joined([word.part(0, at), Word(front), rest])


def _distinct(calls: list[Call]) -> list[Call]:
    """Leave out what was read twice, such as a function's body that several calls go through."""
    seen: set[tuple[object, ...]] = set()
    found = []
    for call in calls:
        key = (call.line, call.span or call.old, call.arguments, call.script)
        if key not in seen:
            seen.add(key)
            found.append(call)
    return found
