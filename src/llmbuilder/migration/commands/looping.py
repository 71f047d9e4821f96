"""Names of files that a loop's variable is part of: translated for each of its values, and written with it again."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence

from llmbuilder.migration.commands.call import Loop
from llmbuilder.migration.commands.words import Expansion, Word, joined

_MOST_WAYS = 64
_Function = Callable[[str], "str | None"]


def mapped(word: Word, loops: Sequence[Loop], function: _Function) -> Word | None:
    """Return what `function` makes of a name; with the loop's variable in it where that is right for all its values.

    None if the function knows no answer, or has answers that differ by more than the variable.
    """
    settled = word.settled
    if settled is not None:
        result = function(settled)
        return None if result is None else Word(result)
    known = {loop.variable: loop.values for loop in loops if loop.values}
    names = list(dict.fromkeys(e.name for e in word.expansions if e.default is None))
    if not all(name in known for name in names):
        return _unchanged(word, names, function)
    ways = [dict(zip(names, values, strict=True)) for values in itertools.product(*(known[name] for name in names))]
    results = [function(word.given(values).settled or "") for values in ways[:_MOST_WAYS]]
    found = [result for result in results if result is not None]
    if len(found) < len(results) or len(ways) > _MOST_WAYS:
        return None
    if len(set(found)) == 1:
        return Word(found[0])
    expansions = {e.name: word.part(e.start, e.end) for e in word.expansions}
    for template in _templates(found[0], ways[0], expansions):
        filled = [template.given(values).settled for values in ways]
        if filled == found:
            return template
    return None


def _templates(text: str, values: dict[str, str], expansions: dict[str, Word]) -> Iterator[Word]:
    """Yield texts with a loop's values replaced by its variables: everywhere, or where they stand last."""
    everywhere = Word(text)
    last = Word(text)
    for name in sorted(values, key=lambda key: -len(values[key])):
        everywhere = _put(everywhere, values[name], expansions[name], only_last=False)
        last = _put(last, values[name], expansions[name], only_last=True)
    yield everywhere
    yield last


def _put(word: Word, value: str, expansion: Word, *, only_last: bool) -> Word:
    if not value:
        return word
    taken = [(e.start, e.end) for e in word.expansions]
    spots = [m.start() for m in re.finditer(re.escape(value), word) if
             not any(a < m.end() and m.start() < b for a, b in taken)]  # fmt: skip
    parts, at = [], 0
    for spot in spots[-1:] if only_last else spots:
        parts += [word.part(at, spot), expansion]
        at = spot + len(value)
    return joined([*parts, word.part(at)])


def _unchanged(word: Word, names: list[str], function: _Function) -> Word | None:
    """Try a name with something unheard of in place of the variables, which must come out as it went in."""
    stand_in = {name: f"Value{number}Of" for number, name in enumerate(names)}
    result = function(word.given(stand_in).settled or "")
    if result is None or not all(result.count(text) == 1 for text in stand_in.values()):
        return None
    found = Word(result)
    for name, text in stand_in.items():
        expansion: Expansion = next(e for e in word.expansions if e.name == name)
        found = _put(found, text, word.part(expansion.start, expansion.end), only_last=True)
    return found


def choices(word: Word, loops: Sequence[Loop]) -> list[str]:
    """Return some texts that a word becomes, none if that is not known."""
    if word.settled is not None:
        return [word.settled]
    known = {loop.variable: loop.values for loop in loops if loop.values}
    names = list(dict.fromkeys(e.name for e in word.expansions if e.default is None))
    if not all(name in known for name in names):
        return []
    ways = itertools.islice(itertools.product(*(known[name] for name in names)), _MOST_WAYS)
    return [word.given(dict(zip(names, values, strict=True))).settled or "" for values in ways]
