"""What words of a shell script become, as far as that can be known without running it."""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from llmbuilder.migration.commands.call import Loop
from llmbuilder.migration.commands.words import Expansion, Word, joined, separated

if TYPE_CHECKING:
    from tree_sitter import Node

ROOT = "/\N{BLACK SQUARE}"  # stands for the project's folder, wherever it is
LONGEST_WORD = 20_000  # a variable made of itself twice, again and again, is not followed further
_BRACES = re.compile(r"\$\{(?P<name>\w+|[@*])(?:\[(?P<index>[^\]]*)\])?(?P<operator>:?[-=+?]|%%?|##?|//?|,,?|)"
                     r"(?P<rest>.*)\}", re.DOTALL)  # fmt: skip
_SUM = re.compile(r"\$\(\(\s*\$?(\w+)\s*([-+*/%])\s*\$?(\w+)\s*\)\)")
_ANSI = re.compile(r"\\(x[0-9a-fA-F]{1,2}|u[0-9a-fA-F]{1,4}|[0-7]{1,3}|.)", re.DOTALL)
_ANSI_NAMED = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "e": "\x1b", "f": "\f", "v": "\v"}
_RANGE = re.compile(r"\{(-?\d{1,9})\.\.(-?\d{1,9})(?:\.\.(-?\d{1,9}))?\}")
_MOST_VALUES = 200


def from_root(folder: str) -> str:
    """Return a folder of the project, or one named so already, as a path that does not depend on the current one."""
    return posixpath.normpath(posixpath.join(ROOT, folder))


def without_root(path: str) -> str:
    """Return a path as seen from the project's folder."""
    return "." if path == ROOT else path.removeprefix(f"{ROOT}/")


@dataclass
class State:
    """What is known at a place of a script: variables (an array has several words), the folder, the loops around."""

    variables: dict[str, tuple[Word, ...]] = field(default_factory=dict)
    cwd: str = "."
    earlier: list[str] = field(default_factory=list)  # folders that popd and `cd -` go back to
    roots: set[str] = field(default_factory=set)  # names under which the project itself was cloned
    loops: tuple[Loop, ...] = ()

    def copy(self) -> State:
        """Return a state that can change without this one."""
        return replace(self, variables=dict(self.variables), earlier=list(self.earlier), roots=set(self.roots))

    def forget_made_of(self, is_changed: Callable[[str], bool]) -> None:
        """Forget variables whose values have others in them that are not the same any more."""
        for name, words in list(self.variables.items()):
            if any(is_changed(expansion.name) for word in words for expansion in word.expansions):
                del self.variables[name]

    def enter(self, folder: str) -> None:
        """Change to a folder, as `cd` does."""
        self.earlier.append(self.cwd)
        if folder.startswith(("~", "$")):
            self.cwd = folder
            return
        is_root = folder.rstrip("/") in self.roots
        self.cwd = "." if is_root else without_root(posixpath.normpath(posixpath.join(self.cwd, folder)))

    def leave(self) -> None:
        """Go back to the folder before."""
        self.cwd = self.earlier.pop() if self.earlier else self.cwd


def split_fields(word: Word) -> list[Word]:
    """Split at white space, as a shell does with a variable that stands outside of quotes."""
    inside = [(e.start, e.end) for e in word.expansions]
    fields, start = [], None
    for at in range(len(word) + 1):
        is_gap = at == len(word) or (word[at].isspace() and not any(a <= at < b for a, b in inside))
        if is_gap and start is not None:
            fields.append(word.part(start, at))
            start = None
        elif not is_gap and start is None:
            start = at
    return fields


class Words:
    """The words of one text: `text_of` returns a node's text as its author wrote it, `here` is the file's folder."""

    def __init__(self, text_of: Callable[[Node], str], here: str) -> None:
        self._text_of = text_of
        self.here = here

    def fields(self, node: Node, state: State) -> list[Word]:
        """Return the words that a node becomes: one, or none or several where variables are split."""
        if node.type == "command_name" and node.named_children:
            return self.fields(node.named_children[0], state)
        if node.type == "concatenation":
            return self._concatenated(node, state)
        if node.type in ("simple_expansion", "expansion"):
            values = self._variable(node, state)
            return [found for value in values for found in split_fields(value)]
        if node.type == "string" and len(node.named_children) == 1 and self._is_list(node.named_children[0]):
            return list(self._variable(node.named_children[0], state))
        return [self._one(node, state)]

    def value(self, node: Node, state: State) -> Word:
        """Return what a node becomes where words are not split, as on the right of an assignment."""
        if node.type == "concatenation":
            return self._limited(node, joined(self._parts(node, state)))
        if node.type in ("simple_expansion", "expansion"):
            return separated(self._variable(node, state))
        return self._one(node, state)

    def values(self, node: Node, state: State) -> tuple[str, ...]:
        """Return what a loop over a node goes through, or nothing if that is not known."""
        text = self._text_of(node)
        span = _RANGE.fullmatch(text)
        if span is not None:
            return _range(int(span[1]), int(span[2]), int(span[3] or 1))
        sequence = re.fullmatch(r"(?:\$\(|`)\s*seq((?:\s+-?\d{1,9}){1,3})\s*(?:\)|`)", text)
        if sequence is not None:
            numbers = [int(number) for number in sequence[1].split()]
            first, step = (numbers[0] if len(numbers) > 1 else 1), (numbers[1] if len(numbers) == 3 else 1)
            return _range(first, numbers[-1], step)
        found = [field.settled for field in self.fields(node, state)]
        known = [value for value in found if value is not None and not re.search(r"[*?\[]", value)]
        return tuple(known) if len(known) == len(found) else ()

    def _one(self, node: Node, state: State) -> Word:
        text = self._text_of(node)
        if node.type == "raw_string":
            return Word(text[1:-1])
        if node.type == "ansi_c_string":
            return Word(_ANSI.sub(_ansi, text[2:-1]))
        if node.type in ("string", "translated_string"):
            return self._limited(node, joined(self._parts(node, state)))
        if node.type == "arithmetic_expansion":
            return self._sum(text, state)
        if node.type == "command_substitution":
            return self._substituted(node, state)
        if node.type in ("process_substitution", "brace_expression"):
            return _unknown(text, text)
        return Word(re.sub(r"\\(\r?\n)|\\(.)", lambda found: found[2] or "", text, flags=re.DOTALL))

    def _parts(self, node: Node, state: State) -> list[Word]:
        """Return the parts of a string or concatenation; the grammar gives no node to some of a string's blanks."""
        parts, at = [], node.start_byte
        for child in node.children:
            if child.start_byte > at:
                parts.append(Word(self._between(node, at, child.start_byte)))
            at = child.end_byte
            if not child.is_named and child.type in ('"', '$"'):
                continue
            if child.type == "string_content":
                content = re.sub(r'\\(\r?\n)|\\(["\\$`])', lambda found: found[2] or "", self._text_of(child))
                parts.append(Word(content))
            elif not child.is_named:
                parts.append(Word(self._text_of(child)))
            else:
                parts.append(self.value(child, state))
        return parts

    def _between(self, node: Node, start: int, end: int) -> str:
        text = (node.text or b"")[start - node.start_byte : end - node.start_byte]
        return text.decode("utf-8", "replace").replace("\\\n", "")

    def _concatenated(self, node: Node, state: State) -> list[Word]:
        fields: list[Word] = []
        is_open = False
        for child in node.children:
            found = self.fields(child, state) if child.is_named else [Word(self._text_of(child))]
            if found and is_open:
                fields[-1] = joined([fields[-1], found[0]])
                found = found[1:]
            fields += found
            is_open = bool(fields)
        return [self._limited(node, field) for field in fields]

    def _limited(self, node: Node, word: Word) -> Word:
        text = self._text_of(node)
        return word if len(word) <= LONGEST_WORD else _unknown(text[:LONGEST_WORD], text)

    def _is_list(self, node: Node) -> bool:
        return re.match(r"\$(@|\{@|\{\w+\[@\])", self._text_of(node)) is not None

    def _variable(self, node: Node, state: State) -> tuple[Word, ...]:
        text, read = self._text_of(node), (node.text or b"").decode("utf-8", "replace")
        braces = _BRACES.fullmatch(read)
        name = braces["name"] if braces else read.removeprefix("$").strip("{}")
        if name in ("0", "BASH_SOURCE") and (braces is None or not braces["operator"]):
            return (Word(from_root(posixpath.join(self.here, "script.sh"))),)
        if name == "PWD":
            return (Word(from_root(state.cwd)),)
        known = state.variables.get(name)
        if braces is None or read.startswith("${#"):
            return known[:1] if known is not None and braces is None else (_unknown(text, name),)
        if braces["index"] is not None:
            return self._element(text, braces, known)
        value = known[0] if known else None
        return (self._changed(text, braces, value, node, state),)

    def _element(self, text: str, braces: re.Match[str], known: tuple[Word, ...] | None) -> tuple[Word, ...]:
        index = braces["index"]
        if known is not None and index in ("@", "*") and not braces["rest"]:
            return known
        if known is not None and index.isdecimal() and int(index) < len(known):
            return (known[int(index)],)
        return (_unknown(text, text),)

    def _changed(self, text: str, braces: re.Match[str], value: Word | None, node: Node, state: State) -> Word:
        """Apply what `${name-default}` and its like do to a variable's value."""
        name, operator, rest = braces["name"], braces["operator"], braces["rest"]
        if not operator:
            return value if value is not None and not rest else _unknown(text, name)
        if operator.strip(":") in ("-", "="):
            if value is not None and (value or ":" not in operator):
                return value
            default = self._default(node, rest, state)
            return Word(text, [Expansion(0, len(text), name, default)])
        if operator.endswith("+"):
            return Word(rest) if value else Word("") if value is not None else _unknown(text, name)
        if operator.endswith("?"):
            return value if value is not None else _unknown(text, name)
        settled = value.settled if value is not None else None
        if settled is None or "$" in rest:
            return _unknown(text, name)
        return Word(_edited(settled, operator, rest))

    def _default(self, node: Node, rest: str, state: State) -> str | None:
        if "$" not in rest and "`" not in rest:
            return re.sub(r"\\(.)", r"\1", rest.strip("\"'"))
        inner = node.named_children[1:]
        return joined(self.value(child, state) for child in inner).settled if inner else None

    def _sum(self, text: str, state: State) -> Word:
        found = _SUM.fullmatch(text)
        if found is not None:
            numbers = [self._number(found[group], state) for group in (1, 3)]
            if None not in numbers and (found[2] not in "/%" or numbers[1] != 0):
                left, right = (int(number or 0) for number in numbers)
                results = {"+": left + right, "-": left - right, "*": left * right}
                return Word(str(results[found[2]] if found[2] in results else
                                left // right if found[2] == "/" else left % right))  # fmt: skip
        return _unknown(text, text)

    def _number(self, text: str, state: State) -> int | None:
        known = state.variables.get(text)
        value = text if known is None else (known[0].settled if known else None)
        return int(value) if value is not None and re.fullmatch(r"\d{1,12}", value) else None

    def _substituted(self, node: Node, state: State) -> Word:
        """Folders that scripts ask for: their own, the current one, the repository's."""
        text = self._text_of(node)
        inner = text.removeprefix("$(").removeprefix("`").removesuffix(")").removesuffix("`").strip()
        if inner in ("pwd", "pwd -P"):
            return Word(from_root(state.cwd))
        if inner.startswith("git rev-parse --show-toplevel"):
            return Word(from_root("."))
        commands = [child for child in node.named_children if child.type in ("command", "list")]
        if len(commands) == 1 and commands[0].type == "list":
            parts = commands[0].named_children
            moves = len(parts) == 2 and self._text_of(parts[1]).startswith("pwd")
            target = self._only_argument(parts[0], "cd", state) if moves else None
            if target is not None:
                return Word(from_root(posixpath.normpath(posixpath.join(state.cwd, target))))
        elif len(commands) == 1:
            for name, function in (("dirname", posixpath.dirname), ("basename", posixpath.basename),
                                   ("realpath", str), ("readlink", str)):  # fmt: skip
                argument = self._only_argument(commands[0], name, state)
                if argument is not None:
                    return Word(function(argument) or ".")
        return _unknown(text, text)

    def _only_argument(self, node: Node, name: str, state: State) -> str | None:
        if node.type == "redirected_statement" and node.named_children:
            node = node.named_children[0]
        if node.type != "command":
            return None
        found = [w for child in node.named_children if "redirect" not in child.type for w in self.fields(child, state)]
        found = [word for word in found if not re.fullmatch(r"--?[a-zA-Z]*", word)]
        return found[1].settled if len(found) == 2 and found[0] == name else None


def _unknown(text: str, name: str) -> Word:
    return Word(text, [Expansion(0, len(text), name)]) if text else Word("")


def _range(first: int, last: int, step: int) -> tuple[str, ...]:
    step = abs(step) or 1
    numbers = range(first, last + 1, step) if first <= last else range(first, last - 1, -step)
    return tuple(str(number) for number in numbers) if len(numbers) <= _MOST_VALUES else ()


def _ansi(found: re.Match[str]) -> str:
    code = found[1]
    if code[0] in "xu" and len(code) > 1:
        return chr(int(code[1:], 16))
    if code[0] in "01234567":
        return chr(int(code, 8))
    return _ANSI_NAMED.get(code, code)


def _edited(value: str, operator: str, pattern: str) -> str:
    """Cut what a pattern matches off an end, replace it, or change the case."""
    pattern = pattern.strip("\"'")
    if operator.startswith(","):
        return value.lower()
    if operator.startswith("/"):
        old, _, new = pattern.partition("/")
        is_plain = bool(old) and not re.search(r"[*?\[]", old)
        return value.replace(old, new, -1 if operator == "//" else 1) if is_plain else value
    ends = range(len(value) + 1) if operator in ("#", "%%") else range(len(value), -1, -1)
    for at in ends:
        head, tail = value[:at], value[at:]
        if operator.startswith("#") and fnmatch.fnmatchcase(head, pattern):
            return tail
        if operator.startswith("%") and fnmatch.fnmatchcase(tail, pattern):
            return head
    return value
