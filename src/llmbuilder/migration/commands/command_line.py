"""A new command line under construction, with what could not go into it."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import dataclass, field

from llmbuilder.migration.commands.arguments import Arguments
from llmbuilder.migration.commands.call import Call
from llmbuilder.migration.commands.looping import mapped
from llmbuilder.migration.commands.places import Places, ScriptFacts
from llmbuilder.migration.commands.words import Word, joined, quoted


@dataclass(frozen=True)
class Trained:
    """A run that a command trained: its folder, that without the number that keeps it apart, and the command."""

    run: Word
    base: str
    call: Call


Written = dict[str, Trained]  # by out_dir, or by the run folder where there is none


@dataclass
class Draft:
    """What is being translated: a call, the facts about its program, its arguments, and the folder it starts in."""

    call: Call
    facts: ScriptFacts
    places: Places
    arguments: Arguments
    base: str = "."
    written: Written = field(default_factory=dict)
    words: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def say(self, *words: str) -> None:
        """Add words to the command as they are."""
        self.words += words

    def option(self, name: str, value: str) -> None:
        """Add an option with its value, quoted for a shell."""
        self.words += [name, quoted(value)]

    def note(self, text: str) -> None:
        """Add what a reader should know, once."""
        if text not in self.notes:
            self.notes.append(text)

    def path(self, word: Word) -> Word:
        """Return a path as seen from the project's root."""
        if word.startswith(("/", "~", "$")):
            return word
        if word.settled is None:
            return word if self.base == "." else joined([Word(f"{self.base}/"), word])
        return Word(posixpath.normpath(posixpath.join(self.base, word.settled))) if word else word

    def mapped(self, word: Word, function: Callable[[str], str | None]) -> Word | None:
        """Return a new name for a legacy one, inside of the call's loops."""
        for expansion in word.expansions:
            if expansion.default is not None:
                self.note(
                    f"{word[expansion.start : expansion.end]} is taken to be {expansion.default!r}, as it is by itself"
                )
        return mapped(word, self.call.loops, function)
