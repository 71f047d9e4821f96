"""The arguments of a call as the program that is called reads them, each used once or left over."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from llmbuilder.migration.commands.places import ScriptFacts
from llmbuilder.migration.commands.words import Word, separated

_SECTIONS = re.compile(r"^(?:model|trainer|training|train|system|data|optimizer|sampling|generation)\.")


@dataclass
class Given:
    """One argument: the name its value is kept under ("" for a positional one), its value, and how it is written."""

    name: str
    value: Word
    written: tuple[Word, ...]
    is_taken: bool = False
    place: int = 0  # among all arguments

    @property
    def shown(self) -> str:
        """The argument as it was written."""
        return " ".join(self.written)


@dataclass
class Arguments:
    """The arguments of a call. What is never taken is left over."""

    given: list[Given] = field(default_factory=list)

    def find(self, *names: str) -> Given | None:
        """Return the argument of one of these names, the first name before the others; the last one that was given."""
        for name in names:
            for given in reversed(self.given):
                if given.name == name and not given.is_taken:
                    return given
        return None

    def take(self, *names: str) -> Word | None:
        """Return the value of an argument, which is accounted for from then on."""
        found = self.find(*names)
        if found is None:
            return None
        found.is_taken = True
        return found.value

    def positional(self) -> list[Given]:
        """Return what has no name and is not taken."""
        return [given for given in self.given if not given.name and not given.is_taken]

    def options(self) -> list[Given]:
        """Return what has a name and is not taken."""
        return [given for given in self.given if given.name and not given.is_taken]

    def left(self) -> list[str]:
        """Return what nobody took, as it was written."""
        return [given.shown for given in self.given if not given.is_taken]

    def overridden(self) -> list[Given]:
        """Take and return arguments that a later one of the same name makes useless."""
        last = {given.name: given.place for given in self.given if given.name}
        found = [given for given in self.given if given.name and given.place < last[given.name]]
        for given in found:
            given.is_taken = True
        return found


def read_arguments(words: Sequence[Word], facts: ScriptFacts) -> Arguments:
    """Return arguments by the names that a program keeps them under: those of argparse, or nanoGPT's `--key=value`."""
    found = Arguments()
    at = 0
    while at < len(words):
        word = words[at]
        is_option = re.match(r"--?[A-Za-z]", word) is not None and not _is_number(word)
        if not is_option:
            found.given.append(_positional(word, at))
            at += 1
            continue
        flag, value = word.option()
        used = 1
        name, is_negative = _name(flag, facts)
        if value is None and is_negative:
            value = Word("False")
        elif value is None:
            count = _values(words[at + 1 :], facts, name)
            value = separated(words[at + 1 : at + 1 + count]) if count else Word("True")
            used += count
        found.given.append(Given(name, value, tuple(words[at : at + used]), place=at))
        at += used
    return found


def _positional(word: Word, at: int) -> Given:
    """Return `key=value` without dashes, as Hydra takes it, as an option."""
    name, value = word.option()
    if value is not None and re.fullmatch(r"\+?[a-z][\w.]*", name):
        return Given(_SECTIONS.sub("", name.lstrip("+")), value, (word,), place=at)
    return Given("", word, (word,), place=at)


def _name(flag: str, facts: ScriptFacts) -> tuple[str, bool]:
    """Return the name a flag's value is kept under, and whether the flag is the negative form of a switch."""
    name = facts.options.get(flag)
    bare = flag.lstrip("-")
    positive = re.sub(r"^no[-_]", "", bare).replace("-", "_")
    is_negative = re.match(r"--no[-_]", flag) is not None and (
        name == positive or (name is None and (positive in facts.defaults or f"--{positive}" in facts.options))
    )
    if name is None:
        unique = [known for known in facts.options if known.startswith(flag)] if flag.startswith("--") else []
        name = facts.options[unique[0]] if len(unique) == 1 else positive if is_negative else bare.replace("-", "_")
    return _SECTIONS.sub("", name), is_negative


def _values(following: Sequence[Word], facts: ScriptFacts, name: str) -> int:
    """Return how many of the words behind a flag are its values."""
    values = 0
    for word in following:
        if re.match(r"--?[A-Za-z]", word) and not _is_number(word):
            break
        values += 1
    default = facts.defaults.get(name)
    if isinstance(default, bool):
        says = values and following[0].lower() in ("true", "false", "1", "0", "yes", "no")
        return 1 if says else 0
    return values if isinstance(default, list | tuple) else min(values, 1)


def _is_number(word: str) -> bool:
    return re.fullmatch(r"-?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", word, re.IGNORECASE) is not None


def literal(text: str) -> Any:
    """Return what nanoGPT's configurator makes of a value: a Python literal, or the text; true, false in any case."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text) if len(text) < 1000 else text
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return text
