"""Shell scripts as the simple commands in them, with what is known where each stands.

Scripts are parsed by tree-sitter's grammar for Bash, which goes on after what it does not understand. Nothing is run:
variables are followed where they are assigned once and unconditionally, and everything else stays as it is written.
"""

from __future__ import annotations

import bisect
import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from llmbuilder.migration.commands.call import Loop
from llmbuilder.migration.commands.shell_words import State, Words
from llmbuilder.migration.commands.words import Expansion, Word, joined

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

_DEEPEST = 150
_CONDITIONAL = {"if_statement", "case_statement", "elif_clause", "else_clause", "case_item"}
_OWN_PROCESS = {"subshell", "command_substitution", "process_substitution"}
_SHELLS = {"bash", "sh", "zsh", "dash"}


@dataclass(frozen=True)
class SimpleCommand:
    """Words of a command at [start, end) of a text; `is_exact`: it stands there as it is, and could be replaced."""

    words: tuple[Word, ...]
    assignments: tuple[tuple[str, Word], ...]
    start: int
    end: int
    cwd: str
    loops: tuple[Loop, ...]
    is_exact: bool = True


@dataclass
class ShellText:
    """What was found in a text: its commands, and its comments as (start, text)."""

    commands: list[SimpleCommand] = field(default_factory=list)
    comments: list[tuple[int, str]] = field(default_factory=list)


def read_shell(text: str, here: str, state: State | None = None, written: str | None = None) -> ShellText:
    """Return the commands and comments of a shell text; `state` is what is known before, and is changed.

    `here` is the folder of the file. `written` is the text as its author wrote it where `text`, of the same length,
    was made readable for a shell.
    """
    return _Walk(text, text if written is None else written, here).read(State() if state is None else state)


@functools.cache
def _parser() -> Parser:
    import tree_sitter
    import tree_sitter_bash

    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_bash.language()))


class _Walk:
    def __init__(self, text: str, written: str, here: str) -> None:
        self._bytes = text.encode("utf-8", "replace")
        self._written = written
        self._is_ascii = text.isascii()
        self._starts = [] if self._is_ascii else _byte_starts(text)
        self._words = Words(self._text_of, here)
        self._functions: dict[str, tuple[Node, State]] = {}
        self._calls: dict[str, list[tuple[Word, ...]]] = {}
        self._changed: set[str] = set()
        self._found = ShellText()
        self._here = here
        self._is_nested = False

    def read(self, state: State) -> ShellText:
        # The tree has to live as long as its nodes are looked at.
        tree = _parser().parse(self._bytes)
        self._visit(tree.root_node, state, 0)
        self._read_functions(state)
        self._found.commands.sort(key=lambda command: (command.start, command.end))
        self._found.comments.sort()
        return self._found

    def _position(self, byte: int) -> int:
        return byte if self._is_ascii else bisect.bisect_left(self._starts, byte)

    def _text_of(self, node: Node) -> str:
        return self._written[self._position(node.start_byte) : self._position(node.end_byte)]

    def _read_functions(self, end: State) -> None:
        """Read bodies once, knowing what the whole script assigns, with the arguments of all their calls."""
        done: set[str] = set()
        while waiting := [name for name in self._functions if name not in done]:
            for name in waiting:
                done.add(name)
                body, at_definition = self._functions[name]
                state = at_definition.copy()
                state.variables = {key: value for key, value in end.variables.items() if key not in self._changed}
                state.loops = (*state.loops, *_arguments(self._calls.get(name, [])))
                for loop in state.loops:
                    state.variables.pop(loop.variable, None)
                if len(self._calls.get(name, [])) == 1:
                    words = self._calls[name][0]
                    state.variables |= {str(number): (word,) for number, word in enumerate(words, 1)}
                    state.variables["@"] = words
                    state.loops = at_definition.loops
                self._visit(body, state, 0)

    def _visit(self, node: Node, state: State, depth: int) -> None:
        if depth > _DEEPEST:
            return
        kind = node.type
        go_on: Callable[[Node, State], None] = functools.partial(self._visit, depth=depth + 1)
        if kind == "command":
            self._command(node, state, node.start_byte, node.end_byte, [], go_on)
        elif kind == "redirected_statement":
            self._redirected(node, state, go_on)
        elif kind == "variable_assignment":
            self._assign(node, state)
        elif kind in ("declaration_command", "unset_command"):
            self._declare(node, state, go_on)
        elif kind == "comment":
            self._found.comments.append((self._position(node.start_byte), self._text_of(node)))
        elif kind == "function_definition":
            self._define(node, state)
        elif kind in ("for_statement", "c_style_for_statement", "while_statement"):
            self._loop(node, state, go_on)
        elif kind in _CONDITIONAL:
            self._branches(node, state, go_on)
        elif kind == "pipeline":
            for child in node.children:
                go_on(child, state.copy())
        elif kind in _OWN_PROCESS:
            inner = state.copy()
            for child in node.children:
                go_on(child, inner)
        else:
            for child in node.children:
                go_on(child, state)

    def _define(self, node: Node, state: State) -> None:
        name, body = node.child_by_field_name("name"), node.child_by_field_name("body")
        if name is not None and body is not None:
            self._functions[self._text_of(name)] = (body, state.copy())

    def _assign(self, node: Node, state: State) -> None:
        name, value = node.child_by_field_name("name"), node.child_by_field_name("value")
        if name is None or name.type != "variable_name":
            return
        key = self._text_of(name)
        if key in state.variables:
            self._changed.add(key)
        state.forget_made_of(lambda variable: variable == key)
        if value is not None and value.type == "array":
            found = tuple(word for child in value.named_children for word in self._words.fields(child, state))
        else:
            found = (self._words.value(value, state) if value is not None else Word(""),)
        if "+=" in self._text_of(node)[len(key) : len(key) + 2]:
            before = state.variables.get(key)
            is_array = value is not None and value.type == "array"
            if before is None or (not is_array and len(before) != 1):
                state.variables.pop(key, None)
                return
            found = (*before, *found) if is_array else (joined([before[0], found[0]]),)
        if any(re.match(r"\$\(|`", expansion.name) for word in found for expansion in word.expansions):
            state.variables.pop(key, None)  # computed once, when the script runs: the variable has to stay
        else:
            state.variables[key] = tuple(_kept(key, word, state) for word in found) if len(found) == 1 else found
        for child in [value] if value is not None else []:
            self._substitutions(child, state, 0)

    def _declare(self, node: Node, state: State, go_on: Callable[[Node, State], None]) -> None:
        for child in node.named_children:
            if child.type == "variable_assignment":
                go_on(child, state)
            elif node.type == "unset_command":
                state.variables.pop(self._text_of(child), None)

    def _loop(self, node: Node, state: State, go_on: Callable[[Node, State], None]) -> None:
        inner = state.copy()
        for name in self._assigned_in(node):
            inner.variables.pop(name, None)
            self._changed.add(name)
        if node.type == "for_statement":
            variable = node.child_by_field_name("variable")
            name = self._text_of(variable) if variable is not None else ""
            found = [self._words.values(child, state) for child in node.children_by_field_name("value")]
            known = [value for values in found for value in values] if all(found) else []
            inner.variables.pop(name, None)
            inner.loops = (*inner.loops, Loop(name, tuple(known[:200])))
            state.variables.pop(name, None)
        else:
            inner.loops = (*inner.loops, Loop(""))
        for child in node.children:
            go_on(child, inner)
        for name in self._assigned_in(node):
            state.variables.pop(name, None)

    def _branches(self, node: Node, state: State, go_on: Callable[[Node, State], None]) -> None:
        inner = state.copy()
        for child in node.children:
            go_on(child, inner if child.type not in _CONDITIONAL else (inner := state.copy()))
        for name, values in self._assigned_in(node).items():
            self._changed.add(name)
            before = state.variables.pop(name, None)
            only = values[0] if len(values) == 1 and before is None and not self._adds(values[0]) else None
            default = self._words.value(only, state).settled if only is not None and only.type != "array" else None
            if default is not None:
                text = f"${{{name}:-{default}}}"
                state.variables[name] = (Word(text, [Expansion(0, len(text), name, default)]),)
            elif before is not None and values and all(value.type == "array" and self._adds(value) for value in values):
                text = f"${{{name}[@]:{len(before)}}}"  # what was added to the array, if it was
                state.variables[name] = (*before, Word(text, [Expansion(0, len(text), text)]))

    def _adds(self, value: Node) -> bool:
        return value.prev_sibling is not None and value.prev_sibling.type == "+="

    def _assigned_in(self, node: Node) -> dict[str, list[Node]]:
        """Return, by variable, what is assigned to it in a part of a script."""
        found: dict[str, list[Node]] = {}
        waiting = [node]
        while waiting:
            current = waiting.pop()
            name, value = current.child_by_field_name("name"), current.child_by_field_name("value")
            if current.type == "variable_assignment" and name is not None:
                found.setdefault(self._text_of(name), []).extend([value] if value is not None else [])
            elif current.type == "command" and self._text_of(current).startswith("read "):
                found.update({word: [] for word in self._text_of(current).split()[1:] if word.isidentifier()})
            if current.type not in ("command", "function_definition"):
                waiting += current.children
        return found

    def _redirected(self, node: Node, state: State, go_on: Callable[[Node, State], None]) -> None:
        """Read `command > file words`, where the grammar counts the words behind the file as files."""
        body = node.child_by_field_name("body")
        redirects = [child for child in node.children if child.type == "file_redirect"]
        more = [extra for r in redirects for extra in r.children_by_field_name("destination")[1:]]
        for child in node.children:
            if child.type == "heredoc_redirect" and self._is_script(node):
                self._heredoc(child, state)
            if body is not None and child.id == body.id and body.type == "command" and more:
                self._command(body, state, body.start_byte, more[-1].end_byte, more, go_on)
            else:
                go_on(child, state)

    def _is_script(self, node: Node) -> bool:
        """Whether what follows `<<EOF` is given to a shell or a scheduler, or written to a script."""
        first = self._text_of(node).partition("\n")[0]
        return re.match(r"(?:\S*/)?(?:bash|sh|zsh|sbatch|qsub|bsub|ssh)\b", first) is not None or (
            re.search(r">\s*\S+\.(?:sh|bash|slurm|sbatch|job|pbs)\b", first) is not None
        )

    def _heredoc(self, node: Node, state: State) -> None:
        for body in node.children:
            if body.type == "heredoc_body" and not self._is_nested:
                walk = _Walk(self._text_of(body), self._text_of(body), self._here)
                walk._is_nested = True
                start = self._position(body.start_byte)
                for found in walk.read(state.copy()).commands:
                    self._found.commands.append(replace(found, start=start + found.start, end=start + found.end))

    def _command(
        self, node: Node, state: State, start: int, end: int, more: list[Node], go_on: Callable[[Node, State], None]
    ) -> None:
        parts = [child for child in node.children if "redirect" not in child.type]
        assignments: list[tuple[str, Word]] = []
        words: list[Word] = []
        for child in [*parts, *more]:
            name, value = child.child_by_field_name("name"), child.child_by_field_name("value")
            if child.type == "variable_assignment" and name is not None:
                assigned = self._words.value(value, state) if value is not None else Word("")
                assignments.append((self._text_of(name), assigned))
            else:
                words += self._words.fields(child, state)
            self._substitutions(child, state, 0)
        if words:
            found = SimpleCommand(tuple(words), tuple(assignments), self._position(start), self._position(end),
                                  state.cwd, state.loops, not self._is_nested and not more)  # fmt: skip
            self._take(found, state)

    def _substitutions(self, node: Node, state: State, depth: int) -> None:
        """Read commands inside of words."""
        if node.type in ("command_substitution", "process_substitution"):
            self._visit(node, state, depth)
        elif depth < _DEEPEST:
            for child in node.named_children:
                self._substitutions(child, state, depth + 1)

    def _take(self, command: SimpleCommand, state: State) -> None:
        """Keep a command, or carry out what it does to the state."""
        name, arguments = command.words[0], command.words[1:]
        if name in ("cd", "pushd"):
            target = next((word.settled for word in arguments if not re.fullmatch(r"-[LPe@]*[LPe@]|--", word)), None)
            if target == "-":
                state.leave()
            elif target is not None:
                state.enter(target)
        elif name == "popd":
            state.leave()
        elif name == "git" and arguments[:1] == ("clone",):
            state.roots.update(_clone_names(arguments[1:]))
        elif name == "shift":
            for known in [key for key in state.variables if key.isdecimal() or key == "@"]:
                del state.variables[known]
            state.forget_made_of(lambda variable: variable.isdecimal() or variable == "@")
            state.loops = tuple(loop for loop in state.loops if not loop.variable.isdecimal())
        elif name in ("read", "unset"):
            for word in arguments:
                state.variables.pop(str(word), None)
        elif name in self._functions:
            self._calls.setdefault(str(name), []).append(arguments)
        elif _nested_script(command.words) is not None:
            self._nested(command, state)
        else:
            self._found.commands.append(command)

    def _nested(self, command: SimpleCommand, state: State) -> None:
        """Read the script in `bash -c "..."`, which stands inside of quotes."""
        script = _nested_script(command.words)
        if script is None or self._is_nested:
            return
        walk = _Walk(script, script, self._here)
        walk._is_nested = True
        for found in walk.read(state.copy()).commands:
            self._found.commands.append(replace(found, start=command.start, end=command.end))


def _kept(name: str, value: Word, state: State) -> Word:
    """Return what stands for a variable: its name where its value has the script's own arguments in it.

    `$1` is something else inside of a function, and behind `shift`. A function's arguments stay: its calls say them.
    """
    known = {loop.variable for loop in state.loops}
    if not any(e.name in ("@", "*") or (e.name.isdecimal() and e.name not in known) for e in value.expansions):
        return value
    text = f"${name}"
    return Word(text, [Expansion(0, len(text), name, value.settled)])


def _nested_script(words: tuple[Word, ...]) -> str | None:
    if words[0] == "eval":
        return " ".join(words[1:])
    for at, word in enumerate(words[:-1]):
        is_command = re.fullmatch(r"-[a-z]*c", word) is not None
        if is_command and at and any(w.rpartition("/")[2] in _SHELLS for w in words[:at]):
            return words[at + 1]
    return None


def _clone_names(arguments: tuple[Word, ...]) -> Iterator[str]:
    places = [str(word) for word in arguments if not word.startswith("-")]
    for number, place in enumerate(places):
        if "/" in place and (place.endswith(".git") or "://" in place or "@" in place):
            named = place.rstrip("/").removesuffix(".git").rpartition("/")[2]
            yield places[number + 1] if number + 1 < len(places) else named


def _arguments(calls: list[tuple[Word, ...]]) -> Iterator[Loop]:
    """Yield the arguments of a function's calls as what a loop over them would give."""
    for number in range(min(map(len, calls), default=0)):
        values = [arguments[number].settled for arguments in calls]
        yield Loop(str(number + 1), tuple(value for value in values if value is not None) if None not in values else ())


def _byte_starts(text: str) -> list[int]:
    starts, at = [], 0
    for character in text:
        starts.append(at)
        at += len(character.encode("utf-8", "replace"))
    return [*starts, at]
