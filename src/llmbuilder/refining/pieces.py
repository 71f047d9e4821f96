"""Large texts in pieces, so that what is computed of one at a time needs no memory for several copies of the whole."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_PIECE = 1 << 20  # characters
_STARTS_ANEW = re.compile("[ \\n\\tA-Za-z0-9\u4e00-\u9fff]")


def iter_pieces(text: str) -> Iterator[str]:
    """Yield a text in pieces of about a million characters, each beginning where no character joins one before it.

    So each can be normalized by itself: together they are the whole, normalized.
    """
    begin = 0
    while begin < len(text):
        found = _STARTS_ANEW.search(text, begin + _PIECE) if begin + _PIECE < len(text) else None
        end = len(text) if found is None else found.start()
        yield text[begin:end] if end - begin < len(text) else text
        begin = end


def composed(text: str) -> str:
    """Return a text with its characters composed (NFC); the same object if they are."""
    if all(unicodedata.is_normalized("NFC", piece) for piece in iter_pieces(text)):
        return text
    return "".join([unicodedata.normalize("NFC", piece) for piece in iter_pieces(text)])
