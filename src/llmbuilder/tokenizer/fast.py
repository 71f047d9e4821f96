"""The same tokens three times faster: byte-level BPE by tiktoken where that is proven to be exact.

tiktoken merges any neighbours that form a token, in the order of ids; a tokenizer.json merges listed pairs, in the
order of the list. Both give the same tokens if ids follow the merges and each merged token, encoded alone, is itself: a
span's merges in a text are those of the span alone, and before its last merge the span alone is the listed pair.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tokenizers

from llmbuilder.tokenizer.pretokenizing import expression_of

if TYPE_CHECKING:
    import numpy as np

_WORTH_THREADS = 1 << 16  # characters
_LEADS = ((0x80, 0, 0, 0), (0xC2, 0, 0, 0x110000), (0xE0, 0xC0, 6, 0x80), (0xF0, 0xE0, 12, 0x800),
          (0xF5, 0xF0, 18, 0x10000), (0x100, 0, 0, 0x110000))  # fmt: skip
_WITHIN_CHARACTERS = set(range(0x80, 0xC0))  # bytes of UTF-8 behind the first of a character


@dataclass(frozen=True)
class FastEncoder:
    """A tiktoken encoding; a text in which `lacking` finds a character is not for it."""

    encoding: Any
    lacking: re.Pattern[str] | None

    def takes(self, texts: Sequence[str]) -> bool:
        """Whether it gives the same ids for all of the texts."""
        return self.lacking is None or not any(map(self.lacking.search, texts))


def fast_encoder(backend: tokenizers.Tokenizer, description: dict[str, Any]) -> FastEncoder | None:
    """Return a tiktoken encoding that gives the same ids, or None if it is not installed or would not."""
    pattern = expression_of(description)
    if pattern is None or description["normalizer"] is not None or description["model"].get("dropout"):
        return None
    if _finds_added_words(backend, description):
        return None
    try:
        import tiktoken
    except ImportError:
        return None
    ranks = _ranks(backend, description)
    if ranks is None:
        return None
    encoding = tiktoken.Encoding("own", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    return FastEncoder(encoding, _characters_with({byte for byte in range(256) if bytes([byte]) not in ranks}))


def encode_fast(encoder: FastEncoder, texts: Sequence[str], threads: int | None) -> list[np.ndarray]:
    """Return the ids of each text by an encoding that `fast_encoder` made."""
    for text in texts:
        if not text.isascii():
            text.encode("utf-8")  # tiktoken would replace lone surrogates
    encode = functools.partial(encoder.encoding.encode_to_numpy, disallowed_special=())
    count = min(threads or os.cpu_count() or 1, len(texts))
    if count <= 1 or sum(map(len, texts)) < _WORTH_THREADS:
        return [encode(text) for text in texts]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(encode, texts, chunksize=max(1, len(texts) // (8 * count))))


def _finds_added_words(backend: tokenizers.Tokenizer, description: dict[str, Any]) -> bool:
    """Whether a text's words can be tokens that no merge makes.

    Added words that are not special are cut out of the text whole, before anything else. A special one is found where
    words that are tokens are taken whole and it is such a word.
    """
    added = description["added_tokens"]
    if any(not token["special"] for token in added):
        return True
    whole = [token["content"] for token in added] if description["model"].get("ignore_merges") else []
    cut: Any = backend.pre_tokenizer
    return any(token in (piece for piece, _ in cut.pre_tokenize_str(token)) for token in whole)


def _ranks(backend: tokenizers.Tokenizer, description: dict[str, Any]) -> dict[bytes, int] | None:
    model = description["model"]
    special = {token["content"] for token in description["added_tokens"]}
    vocabulary = {token: number for token, number in model["vocab"].items() if token not in special}
    merged = ["".join(merge) if isinstance(merge, list) else merge.replace(" ", "", 1) for merge in model["merges"]]
    numbers = [vocabulary.get(token, -1) for token in merged]
    increasing = all(one < other for one, other in itertools.pairwise(numbers))
    single = set(vocabulary) - set(merged)
    alphabet = byte_alphabet()
    missing = {byte for sign, byte in alphabet.items() if sign not in single}
    if not increasing or -1 in numbers or not single <= set(alphabet) or missing & _WITHIN_CHARACTERS:
        return None
    first = min(numbers, default=len(alphabet))
    if max(vocabulary[token] for token in single) > first or not _each_is_itself(backend, model, merged):
        return None
    return {bytes(alphabet[character] for character in token): number for token, number in vocabulary.items()}


def _characters_with(missing: set[int]) -> re.Pattern[str] | None:
    """Return what finds characters whose UTF-8 has one of these bytes, which trainers leave out if no text has them."""
    parts = []
    for byte in sorted(missing):
        # Bits that tell the length, bits of the character behind this byte, and the least character of that length.
        marks, free, least = next(form for limit, *form in _LEADS if byte < limit)
        first = (byte - marks) << free
        last = min(first + (1 << free) - 1, 0x10FFFF)
        if least < 0x110000:  # others are the first byte of no character
            parts.append(f"{re.escape(chr(max(first, least)))}-{re.escape(chr(last))}")
    return re.compile(f"[{''.join(parts)}]") if parts else None


def _each_is_itself(backend: tokenizers.Tokenizer, model: dict[str, Any], merged: list[str]) -> bool:
    if model.get("ignore_merges"):  # words that are tokens are taken whole: ask the merges alone
        merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in model["merges"]]
        plain: Any = tokenizers.models.BPE(vocab=model["vocab"], merges=merges)
    else:
        plain = backend.model
    return all(len(plain.tokenize(token)) == 1 for token in merged)


def byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-ins for bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return {chr(byte) if byte in printable else chr(next(others)): byte for byte in range(256)}
