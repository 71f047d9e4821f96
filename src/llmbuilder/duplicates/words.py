"""The words of texts as numbers: a 64-bit hash of each.

Texts are lower-cased and lose their ASCII punctuation. The words of many texts are hashed together, eight bytes of each
at a time: a few passes over arrays instead of a loop over words. In scripts without blanks each character is a word of
its own, and `widths` says how many of them stand for one.
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from llmbuilder.refining.scripts import WITHOUT_BLANKS, has_characters_without_blanks

_MIX = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)
_SPACE = ord(" ")
_TO_SPACES = bytes.maketrans(b"\t\n\r\v\f", b"     ")
_PUNCTUATION = string.punctuation.encode()
_LARGEST_PART = 1 << 20  # bytes hashed in one pass
_LONG_WORD = 128  # bytes; longer ones are rare and hashed one by one
_FIRST_BYTES = np.array([(1 << 8 * count) - 1 for count in range(9)], np.uint64)
# The punctuation of scripts without blanks: first and last character.
_TO_BLANKS = ((0x0F0B, 0x0F14), (0x104A, 0x104F), (0x17D4, 0x17DA), (0x3000, 0x3004), (0x3008, 0x301F),
              (0x30FB, 0x30FB), (0xFF01, 0xFF0F), (0xFF1A, 0xFF20), (0xFF3B, 0xFF40), (0xFF5B, 0xFF65))  # fmt: skip
_BLANK = 255


@dataclass(frozen=True)
class Words:
    """Hashes of words, where each text's begin and end among them, and what each word is.

    `widths` is 0 for a word between blanks, else how many characters like this one make a word; None if no text has
    such characters.
    """

    codes: np.ndarray
    edges: np.ndarray
    widths: np.ndarray | None


def mix_in(hashes: np.ndarray, values: np.ndarray) -> None:
    """Mix one value into each hash, in place."""
    hashes ^= values
    hashes *= _MIX
    hashes ^= hashes >> _SHIFT


def hash_words(texts: Sequence[str]) -> Words:
    """Return the words of some texts as numbers."""
    return _hash(texts, [has_characters_without_blanks(text) for text in texts])


def hash_words_of_piece(piece: str, *, has_without_blanks: bool) -> Words:
    """Return the words of a piece of a text, of which it is known whether any script without blanks is in it."""
    return _hash([piece], [has_without_blanks])


def _hash(texts: Sequence[str], spread: Sequence[bool]) -> Words:
    plain = [_plain(_spread(text) if has else text) for text, has in zip(texts, spread, strict=True)]
    codes, starts, widths = _hash_joined(b" " + b" ".join(plain) + b" ", any(spread))
    lengths = np.fromiter(map(len, plain), np.int64, len(plain))
    edges = np.searchsorted(starts, np.concatenate([[0], np.cumsum(lengths + 1)]) + 1)
    return Words(codes, edges, widths)


def _plain(text: str) -> bytes:
    return text.lower().encode("utf-8", "surrogatepass").translate(_TO_SPACES, delete=_PUNCTUATION)


def _spread(text: str) -> str:
    """Return a text with blanks around each character of a script without them."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").copy()
    kinds = _kinds()[np.minimum(codes, len(_kinds()) - 1)]
    codes[kinds == _BLANK] = _SPACE
    alone = (kinds > 0) & (kinds < _BLANK)
    followed = alone.copy()
    followed[:-1] |= alone[1:]
    counts = 1 + followed.astype(np.int64)
    wide = np.repeat(codes, counts)
    wide[np.cumsum(counts)[followed] - 1] = _SPACE
    return wide.tobytes().decode("utf-32-le", "surrogatepass")


@lru_cache(maxsize=1)
def _kinds() -> np.ndarray:
    """By character: how many make a word in a script without blanks, `_BLANK` for its punctuation, 0 for others."""
    kinds = np.zeros(WITHOUT_BLANKS[-1][1] + 2, np.uint8)
    for first, last, number in (*WITHOUT_BLANKS, *((first, last, _BLANK) for first, last in _TO_BLANKS)):
        kinds[first : last + 1] = number
    return kinds


def _hash_joined(text: bytes, has_single: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return a hash of each word of a text that begins and ends with a space, where it begins, and its width."""
    parts: list[tuple[np.ndarray, ...]] = []
    begin = 0
    while begin < len(text) - 1:
        end = text.find(b" ", begin + _LARGEST_PART)
        end = len(text) - 1 if end < 0 else end
        part = text if (begin, end) == (0, len(text) - 1) else text[begin : end + 1]
        codes, starts, widths = _hash_part(part, has_single)
        parts.append((codes, starts + begin, *((widths,) if has_single else ())))
        begin = end
    joined = parts[0] if len(parts) == 1 else tuple(map(np.concatenate, zip(*parts, strict=True)))
    return joined[0], joined[1], joined[2] if has_single else None


def _hash_part(text: bytes, has_single: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    is_space = np.frombuffer(text, np.uint8) == _SPACE
    edges = np.flatnonzero(is_space[1:] != is_space[:-1]) + 1
    starts, ends = edges[0::2], edges[1::2]
    lengths = ends - starts
    eights = np.ndarray((len(text),), "<u8", text + bytes(8), strides=(1,))  # the eight bytes from each place on
    codes = lengths.astype(np.uint64)
    firsts = eights[starts] & _FIRST_BYTES[np.minimum(lengths, 8)]
    mix_in(codes, firsts)
    longer, place = np.flatnonzero((lengths > 8) & (lengths <= _LONG_WORD)), 8
    while len(longer):
        part = eights[starts[longer] + place] & _FIRST_BYTES[np.minimum(lengths[longer] - place, 8)]
        mixed = codes[longer]
        mix_in(mixed, part)
        codes[longer] = mixed
        place += 8
        longer = longer[lengths[longer] > place]
    for word in np.flatnonzero(lengths > _LONG_WORD).tolist():
        content = text[starts[word] : ends[word]]
        codes[word] = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
    return codes, starts, _widths(firsts, lengths) if has_single else lengths


def _widths(firsts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the widths of words by their first bytes: characters of scripts without blanks have three or four."""
    widths = np.zeros(len(firsts), np.int64)
    kinds = _kinds()
    for length in (3, 4):
        chosen = np.flatnonzero(lengths == length)
        character = firsts[chosen] & np.uint64((1 << 7 - length) - 1)  # what the first byte has of it
        for place in range(1, length):
            character = character << np.uint64(6) | firsts[chosen] >> np.uint64(8 * place) & np.uint64(0x3F)
        # A word of two shorter characters, or one that begins with ASCII, is none of these.
        first = firsts[chosen] & np.uint64(0xFF)
        is_one = first >> np.uint64(7 - length) == np.uint64((1 << length + 1) - 2)
        found = kinds[np.where(is_one, np.minimum(character, len(kinds) - 1), 0)]
        widths[chosen] = np.where(found == _BLANK, 0, found)
    return widths
