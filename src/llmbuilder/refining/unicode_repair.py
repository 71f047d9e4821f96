"""Undoing mis-decoded text with ftfy, where a quick look does not prove that there is nothing to undo.

ftfy looks at a text line by line (at a long line in pieces), with some forty alternatives tried at each character.
Nearly every line of nearly every text needs nothing, which a few searches for sets of characters can prove: they find
every line that ftfy would change, and some more. Only those are given to ftfy, so the result is what ftfy makes of the
whole text.
"""

from __future__ import annotations

import heapq
import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache

from llmbuilder.refining.pieces import composed, iter_pieces

# Two characters that tell of mis-decoded text are never further apart, nor is the sign of it longer (ftfy.badness).
_REACH = 6
_BAD_AT_BEGIN = "ÃÂ"  # of a line, where ftfy wants nothing before them
_PIECE = 1_000_000  # characters of a line that ftfy looks at together


def repair(text: str) -> str:
    """Return the text with mis-decoded parts ("cafÃ©") undone, and with characters composed (NFC)."""
    if text.isascii() and not _ASCII_CONTROLS.search(text):
        return text
    is_composed = all(unicodedata.is_normalized("NFC", piece) for piece in iter_pieces(text))
    pieces: list[str] = []
    done = 0
    for begin, end in _doubtful_pieces(text, is_composed):
        pieces += (text[done:begin], _by_ftfy(text[begin:end]))
        done = end
    if not pieces:
        return text if is_composed else composed(text)
    pieces.append(text[done:])
    text = "".join(pieces)
    pieces.clear()
    return composed(text)


def _by_ftfy(line: str) -> str:
    import ftfy

    # Entities and quotes are left alone: in code and markup they are content.
    return ftfy.fix_text(line, unescape_html=False, uncurl_quotes=False, fix_character_width=False)


def _doubtful_pieces(text: str, is_composed: bool) -> Iterator[tuple[int, int]]:
    """Yield where lines, or pieces of long ones, begin and end that ftfy may change, in order."""
    changed, candidate, looks_bad = _patterns()
    signs = [
        (match.start() for match in changed.finditer(text)),
        (
            match.start()
            for match in candidate.finditer(text)
            if match.group()[0] in _BAD_AT_BEGIN
            or looks_bad.search(text[max(0, match.start() - _REACH) : match.end() + _REACH])
        ),
        () if is_composed else _not_composed(text),
    ]
    end = 0
    for place in heapq.merge(*signs):
        if place >= end:
            line = max(end, text.rfind("\n", end, place) + 1)
            begin = line + (place - line) // _PIECE * _PIECE
            end = min(text.find("\n", place, begin + _PIECE) + 1 or len(text), begin + _PIECE)
            yield begin, end


def _not_composed(text: str) -> Iterator[int]:
    begin = 0
    while begin < len(text):
        end = min(text.find("\n", begin, begin + _PIECE) + 1 or len(text), begin + _PIECE)
        if not unicodedata.is_normalized("NFC", text[begin:end]):
            yield begin
        begin = end


_ASCII_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@lru_cache(maxsize=1)
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    """Return what ftfy changes wherever it stands, what may belong to mis-decoded text, and what surely looks so.

    Each alternative of the last, which is ftfy's own, needs one of the second: two neighbours of which one is neither a
    small letter nor a common capital, or one of the few sequences that are spelled out.
    """
    from ftfy import chardata
    from ftfy.badness import BADNESS_RE, MOJIBAKE_CATEGORIES

    changed = re.compile(
        rf"[\r\x80-\x9f\u2028\u2029\ud800-\udfff{_escaped(chardata.LIGATURES)}{_escaped(chardata.CONTROL_CHARS)}]"
    )
    named = MOJIBAKE_CATEGORIES
    letters = named["lower_common"] + named["upper_common"]
    rare = "".join(named[name] for name in ("bad", "law", "currency", "start_punctuation", "end_punctuation", "numeric",
                                            "upper_accented", "box")) + "Ù°"  # fmt: skip
    known = rare + named["common"] + named["lower_accented"] + named["kaomoji"]
    candidate = re.compile(
        rf"[{rare}](?:(?<=[{known}].)|(?=[{known}])|(?<=[ÃÂ])(?= )|(?<=[ВГРСΒΓΞΟ].)(?=[ВГРСΒΓΞΟ])"
        rf"|(?<=[{letters}][{named['bad']}{named['upper_accented']}])|(?=[{letters}])(?<=[{named['bad']}])|(?<=β€))"
        r"|[œŒ](?![A-Za-z])|вЂ|ГўВЂВ",
        re.DOTALL,
    )
    return changed, candidate, BADNESS_RE


def _escaped(characters: Iterable[int]) -> str:
    return "".join(map(re.escape, map(chr, characters)))
