"""Words of a command line: what is known of them, and what only the shell that runs them can know.

A `Word` is a string that shows such parts as they were written (`out-$lr`), so that it can be compared and split like
any other, and remembers where they are, so that it is quoted in a way that keeps them alive.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

_VARIABLE = re.compile(r"\$(\w+)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SPECIAL = re.compile(r"[\\$`\"]")
_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\\": "\\\\", "'": "\\'"}


@dataclass(frozen=True)
class Expansion:
    """The part [start, end) of a word that the shell fills in.

    `default` is what it becomes where nobody says otherwise.
    """

    start: int
    end: int
    name: str
    default: str | None = None


class Word(str):
    """A word of a command line, with its expansions."""

    __slots__ = ("expansions",)
    expansions: tuple[Expansion, ...]

    def __new__(cls, text: str = "", expansions: Iterable[Expansion] = ()) -> Word:
        word = super().__new__(cls, text)
        word.expansions = tuple(expansions)
        return word

    def __reduce__(self) -> tuple[type[Word], tuple[str, tuple[Expansion, ...]]]:
        return Word, (str(self), self.expansions)

    def part(self, start: int, end: int | None = None) -> Word:
        """Return the word from `start` to `end`; an expansion that the cut runs through is plain text afterwards."""
        stop = len(self) if end is None else end
        inside = [e for e in self.expansions if start <= e.start and e.end <= stop]
        return Word(self[start:stop], (replace(e, start=e.start - start, end=e.end - start) for e in inside))

    def option(self) -> tuple[str, Word | None]:
        """Return ("name", value) of `--name=value`, and ("name", None) without a value."""
        at = self.find("=")
        return (str(self[:at]), self.part(at + 1)) if at >= 0 else (str(self), None)

    @property
    def settled(self) -> str | None:
        """What the word is where nobody says otherwise; None if only the shell knows."""
        text, at = "", 0
        for expansion in self.expansions:
            if expansion.default is None:
                return None
            text += self[at : expansion.start] + expansion.default
            at = expansion.end
        return text + self[at:]

    def given(self, values: dict[str, str]) -> Word:
        """Return the word with the expansions filled in that `values` names."""
        parts, at = [], 0
        for expansion in self.expansions:
            if expansion.name in values:
                parts += [self.part(at, expansion.start), Word(values[expansion.name])]
                at = expansion.end
        return joined([*parts, self.part(at)])

    def pieces(self) -> Iterator[tuple[str, bool]]:
        """Yield (text, whether it is an expansion)."""
        at = 0
        for expansion in self.expansions:
            if expansion.start > at:
                yield self[at : expansion.start], False
            yield self[expansion.start : expansion.end], True
            at = expansion.end
        if at < len(self):
            yield self[at:], False


def joined(words: Iterable[Word]) -> Word:
    """Return words written together as one."""
    text, expansions = "", []
    for word in words:
        expansions += [replace(e, start=e.start + len(text), end=e.end + len(text)) for e in word.expansions]
        text += word
    return Word(text, expansions)


def separated(words: Iterable[Word]) -> Word:
    """Return words with a space between them as one."""
    return joined(part for number, word in enumerate(words) for part in ([Word(" ")] * (number > 0) + [word]))


def quoted(word: str) -> str:
    """Return a word as a shell reads it back, with its expansions alive."""
    if not isinstance(word, Word) or not word.expansions:
        return f"$'{_escaped(word)}'" if _CONTROL.search(word) else shlex.quote(word)
    pieces = list(_apart(word))
    if all(is_expansion or shlex.quote(text) == text for text, is_expansion in pieces):
        return '"' + "".join(text for text, _ in pieces) + '"'
    return "".join(_inside_double_quotes(text, is_expansion) for text, is_expansion in pieces)


def _apart(word: Word) -> Iterator[tuple[str, bool]]:
    """Yield a word's pieces with braces around the name of a variable that letters follow."""
    pieces = list(word.pieces())
    for number, (text, is_expansion) in enumerate(pieces):
        follows = pieces[number + 1][0][:1] if number + 1 < len(pieces) else ""
        name = _VARIABLE.fullmatch(text) if is_expansion and re.match(r"\w", follows) else None
        yield (f"${{{name[1]}}}", True) if name is not None else (text, is_expansion)


def _escaped(text: str) -> str:
    return "".join(_ESCAPES.get(c, f"\\x{ord(c):02x}" if _CONTROL.match(c) else c) for c in text)


def _inside_double_quotes(text: str, is_expansion: bool) -> str:
    if not is_expansion and _CONTROL.search(text):
        return f"$'{_escaped(text)}'"
    return f'"{text}"' if is_expansion else '"' + _SPECIAL.sub(r"\\\g<0>", text) + '"'
