"""Names and numbers in texts: words that a reader who knows the text could say, and others could only guess.

A name is a word with a capital first letter which the texts hardly write without one; besides there are words in
capitals, and identifiers as programs have them. Numbers have two digits at least. A language without capitals has
numbers only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from llmbuilder.refining.scripts import has_characters_without_blanks

NAME, CAPITALS, IDENTIFIER, NUMBER = "name", "capitals", "identifier", "number"
_WORD = re.compile(r"(?<![\w.:/@\\-])[^\W\d](?:\w|::(?=\w)|[.-](?=\w))*")
# Letters of other scripts may stand beside a number: Chinese puts no blank there.
_NUMBER = re.compile(r"(?<![A-Za-z_.,:/-])(?<!\d)\d{2,}(?:[.,:/-]\d+)*(?![A-Za-z_])(?!\d)")
_CAMEL = re.compile(r"[a-z][A-Z]")
_DOTTED = re.compile(r"[A-Za-z]{3,}(?:\.[a-z0-9]+)+")
_BOUNDARY = re.compile(r"[.!?…।]+[\"')\]»”’]*\s+|[。！？]|\n[ \t]*\n\s*")
_LONG_WORD = re.compile(r"[^\W\d_]{2,}")
_LONGEST = 40  # characters
_BEFORE, _WORDS_BEFORE, _UNSPACED_BEFORE = 20, 3, 10  # of the sentence, in front of the mention
_MOST_LOWER = 0.1  # of how often a name is written with a capital


@dataclass(frozen=True)
class Mention:
    """A word at `begin` of the text with this number, and where its prompt begins."""

    text: int
    begin: int
    prompt_begin: int


@dataclass
class Mentions:
    """The words of some texts that can be asked for: their kinds, their places, and how often each word is written."""

    kinds: dict[str, str] = field(default_factory=dict)
    places: dict[str, list[Mention]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def known_names(self, counts: Counter[str]) -> list[str]:
        """Return the words that can be asked for in order, without those that `counts` knows in small letters, too."""
        return [word for word in sorted(self.places)
                if self.kinds[word] != NAME or counts[word.lower()] <= _MOST_LOWER * counts[word]]  # fmt: skip


def kind_of_word(word: str) -> str | None:
    """Return what kind of name a word is, None if it is none."""
    if len(word) > _LONGEST or (word.islower() and word.isalpha()):
        return None
    letters = [character for character in word if character.isalpha()]
    if word.isascii() and len(word) > 2:
        has_digit = any(character.isdigit() for character in word)
        if has_digit or "_" in word.strip("_") or "::" in word or _CAMEL.search(word) or _DOTTED.fullmatch(word):
            return IDENTIFIER if len(letters) > 1 else None
    if not all(part.isalpha() for part in word.split("-")):
        return None
    if len(letters) > 1 and word.isupper():
        return CAPITALS
    is_name = len(letters) > 2 and all(part[:1].isupper() and part[1:].islower() for part in word.split("-"))
    return NAME if is_name else None


def find_mentions(texts: Iterable[str], characters: int) -> Mentions:
    """Find the names and numbers that texts mention far enough within a sentence, with prompts of `characters` at most.

    The word itself stands nowhere in its prompt.
    """
    found = Mentions()
    for number, text in enumerate(texts):
        for begin, word, kind in _words(text, found.counts):
            if kind is None:
                continue
            prompt_begin = _begin_prompt(text, begin, characters)
            if prompt_begin is None or word.lower() in text[prompt_begin:begin].lower():
                continue
            found.kinds[word] = kind
            found.places.setdefault(word, []).append(Mention(number, begin, prompt_begin))
    return found


def _words(text: str, counts: Counter[str]) -> Iterator[tuple[int, str, str | None]]:
    """Yield the words and numbers of a text, and count them."""
    for match in _WORD.finditer(text):
        word = match.group()
        counts[word] += 1
        yield match.start(), word, kind_of_word(word)
    for match in _NUMBER.finditer(text):
        if len(match.group()) <= _LONGEST:
            counts[match.group()] += 1
            yield match.start(), match.group(), NUMBER


def _begin_prompt(text: str, begin: int, characters: int) -> int | None:
    """Return where the prompt of a mention begins; None where it stands too early in its sentence, or begins a line."""
    earliest = max(0, begin - characters)
    before = text[earliest:begin]
    if not before.endswith((" ", "\t")) and before[-1:].isspace():
        return None
    blank = len(before) - len(before.rstrip())
    if blank > 1 or before.rstrip(" \t")[-1:] in ("", "\n"):
        return None
    ends = [found.end() for found in _BOUNDARY.finditer(before)]
    sentence = before[ends[-1] if ends else 0 :]
    words = [word for word in _LONG_WORD.findall(sentence) if not word[0].isupper()]  # a list of names tells nothing
    if len(words) < _WORDS_BEFORE or len(sentence) < _BEFORE:
        is_unspaced = len(sentence) >= _UNSPACED_BEFORE and has_characters_without_blanks(sentence)
        if not is_unspaced:
            return None
    if not earliest:
        return 0
    return earliest + _first_break(before, ends)


def _first_break(before: str, ends: list[int]) -> int:
    """Return where a text that was cut anywhere is best begun: with a sentence, or else with a word."""
    if ends:
        return ends[0]
    blank = re.search(r"\s", before[: len(before) // 2])
    return blank.end() if blank is not None else 0
