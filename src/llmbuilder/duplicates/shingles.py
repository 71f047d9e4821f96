"""Word n-grams ("shingles") as numbers: a 64-bit hash of each, and MinHash signatures over those (Broder 1997).

Texts are lower-cased and lose their ASCII punctuation. The words of many texts are hashed together, eight bytes of each
at a time, and an n-gram's hash mixes those of its words: a few passes over arrays instead of a loop over words.
`METHOD` names all of this: numbers of different methods must not be compared.
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from llmbuilder.documents.batching import batched_texts

METHOD = "words-1"

_MIX = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)
_SPACE = ord(" ")
_TO_SPACES = bytes.maketrans(b"\t\n\r\v\f", b"     ")
_PUNCTUATION = string.punctuation.encode()
_TOGETHER = 1 << 17  # characters hashed in one pass: what stays in a processor's cache
_LARGEST_PART = 8 * _TOGETHER  # bytes of a single text
_LONG_WORD = 128  # bytes; longer ones are rare and hashed one by one
_FIRST_BYTES = np.array([(1 << 8 * count) - 1 for count in range(9)], np.uint64)


def iter_shingle_hashes(texts: Iterable[str], ngram: int) -> Iterator[np.ndarray]:
    """Yield for each text the sorted hashes of its word n-grams, each once; a shorter text is one n-gram."""
    for chunk in batched_texts(texts, _TOGETHER):
        hashes, begins, ends = _hash_shingles(chunk, ngram)
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
            own = hashes[begin:end]
            own.sort()
            is_new = own[1:] != own[:-1]
            yield own if is_new.all() else np.concatenate([own[:1], own[1:][is_new]])


def iter_minhash_bands(texts: Iterable[str], ngram: int, bands: int, rows: int, seed: int = 1) -> Iterator[np.ndarray]:
    """Yield a 64-bit hash of each band of the MinHash signatures of some texts at a time, of shape (texts, bands).

    A band is `rows` minima, each over another permutation of the hashes of a text's word n-grams. Texts without words
    are equal to each other.
    """
    raw = np.random.PCG64(seed).random_raw(bands * rows) >> np.uint64(32)
    factors = raw.astype(np.uint32) | np.uint32(1)
    return (_fold(_signatures(chunk, ngram, factors), bands, rows) for chunk in batched_texts(texts, _TOGETHER))


def _signatures(texts: Sequence[str], ngram: int, factors: np.ndarray) -> np.ndarray:
    """Return the least value of each permutation, of shape (permutations, texts)."""
    hashes, begins, ends = _hash_shingles(texts, ngram)
    low, high = hashes.astype(np.uint32), (hashes >> np.uint64(32)).astype(np.uint32)
    edges = np.stack([begins, ends], 1).reshape(-1)
    signatures = np.empty((len(factors), len(texts)), np.uint32)
    permuted = np.empty_like(low)
    for signature, factor in zip(signatures, factors, strict=True):
        np.multiply(low, factor, out=permuted)
        permuted += high
        signature[:] = np.minimum.reduceat(permuted, edges)[::2]
    signatures[:, begins == ends] = np.iinfo(np.uint32).max
    return signatures


def _fold(signatures: np.ndarray, bands: int, rows: int) -> np.ndarray:
    mixed = np.zeros((bands, signatures.shape[1]), np.uint64)
    for values in signatures.reshape(rows, bands, -1):
        _mix_in(mixed, values)
    return np.ascontiguousarray(mixed.T)


def _mix_in(hashes: np.ndarray, values: np.ndarray) -> None:
    hashes ^= values
    hashes *= _MIX
    hashes ^= hashes >> _SHIFT


def _hash_shingles(texts: Sequence[str], ngram: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return hashes of all texts' n-grams, and where those of each text begin and end among them.

    Between and behind them stand numbers that belong to no text.
    """
    plain = [text.lower().encode("utf-8", "surrogatepass").translate(_TO_SPACES, delete=_PUNCTUATION) for text in texts]
    codes, starts = _hash_words(b" " + b" ".join(plain) + b" ")
    lengths = np.fromiter(map(len, plain), np.int64, len(plain))
    edges = np.searchsorted(starts, np.concatenate([[0], np.cumsum(lengths + 1)]) + 1)
    begins, words = edges[:-1], np.diff(edges)
    padded = np.concatenate([codes, np.zeros(ngram, np.uint64)])
    hashes = np.zeros(len(codes) + 1, np.uint64)
    for offset in range(ngram):
        _mix_in(hashes, padded[offset : offset + len(hashes)])
    for length in range(1, ngram):
        short = begins[words == length]
        whole = np.zeros(len(short), np.uint64)
        for offset in range(length):
            _mix_in(whole, codes[short + offset])
        hashes[short] = whole
    counts = np.where(words < ngram, np.minimum(words, 1), words - ngram + 1)
    return hashes, begins, begins + counts


def _hash_words(text: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Return a hash of each word of a text that begins and ends with a space, and where the word begins."""
    if len(text) <= _LARGEST_PART:
        return _hash_part(text)
    codes, starts = [], []
    begin = 0
    while begin < len(text) - 1:
        end = text.find(b" ", begin + _LARGEST_PART)
        end = len(text) - 1 if end < 0 else end
        found = _hash_part(text[begin : end + 1])
        codes.append(found[0])
        starts.append(found[1] + begin)
        begin = end
    return np.concatenate(codes), np.concatenate(starts)


def _hash_part(text: bytes) -> tuple[np.ndarray, np.ndarray]:
    is_space = np.frombuffer(text, np.uint8) == _SPACE
    edges = np.flatnonzero(is_space[1:] != is_space[:-1]) + 1
    starts, ends = edges[0::2], edges[1::2]
    lengths = ends - starts
    eights = np.ndarray((len(text),), "<u8", text + bytes(8), strides=(1,))  # the eight bytes from each place on
    codes = lengths.astype(np.uint64)
    _mix_in(codes, eights[starts] & _FIRST_BYTES[np.minimum(lengths, 8)])
    longer, place = np.flatnonzero((lengths > 8) & (lengths <= _LONG_WORD)), 8
    while len(longer):
        part = eights[starts[longer] + place] & _FIRST_BYTES[np.minimum(lengths[longer] - place, 8)]
        mixed = codes[longer]
        _mix_in(mixed, part)
        codes[longer] = mixed
        place += 8
        longer = longer[lengths[longer] > place]
    for word in np.flatnonzero(lengths > _LONG_WORD).tolist():
        content = text[starts[word] : ends[word]]
        codes[word] = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
    return codes, starts
