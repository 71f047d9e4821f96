"""Word n-grams ("shingles") as numbers: a 64-bit hash of each, and MinHash signatures over those (Broder 1997).

An n-gram's hash mixes those of its words (`words`). In scripts without blanks n words are as many characters as n words
have on average, from each character on; a text may mix both. A text of many megabytes is hashed in pieces.
`METHOD` names all of this: numbers of different methods must not be compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from llmbuilder.duplicates.words import Words, hash_words, hash_words_of_piece, mix_in
from llmbuilder.refining.scripts import end_of_piece, has_characters_without_blanks

METHOD = "words-2"

_TOGETHER = 1 << 17  # characters hashed in one pass: what stays in a processor's cache
_PIECE = 1 << 20  # characters of a single text
_WIDEST = 4  # characters of a script without blanks that make a word
_Hashed = tuple[np.ndarray, np.ndarray, np.ndarray]  # hashes, and where those of each text begin and end among them


def iter_shingle_hashes(texts: Iterable[str], ngram: int) -> Iterator[np.ndarray]:
    """Yield for each text the sorted hashes of its word n-grams, each once; a shorter text is one n-gram."""
    for chunk in _batches(texts):
        if _is_large(chunk):
            yield np.unique(np.concatenate([np.unique(hashes) for hashes in _of_pieces(chunk[0], ngram)]))
            continue
        hashes, begins, ends = _hash_shingles(hash_words(chunk), ngram)
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
    return (_fold(_signatures(chunk, ngram, factors), bands, rows) for chunk in _batches(texts))


def _signatures(texts: Sequence[str], ngram: int, factors: np.ndarray) -> np.ndarray:
    """Return the least value of each permutation, of shape (permutations, texts)."""
    if not _is_large(texts):
        return _minima(*_hash_shingles(hash_words(texts), ngram), factors)
    least = np.full((len(factors), 1), np.iinfo(np.uint32).max, np.uint32)
    for hashes in _of_pieces(texts[0], ngram):
        for begin in range(0, len(hashes), _TOGETHER):
            part = np.append(hashes[begin : begin + _TOGETHER], np.uint64(0))  # the last belongs to no text
            edges = np.array([0]), np.array([len(part) - 1])
            np.minimum(least, _minima(part, *edges, factors), out=least)
    return least


def _minima(hashes: np.ndarray, begins: np.ndarray, ends: np.ndarray, factors: np.ndarray) -> np.ndarray:
    low, high = hashes.astype(np.uint32), (hashes >> np.uint64(32)).astype(np.uint32)
    edges = np.stack([begins, ends], 1).reshape(-1)
    signatures = np.empty((len(factors), len(begins)), np.uint32)
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
        mix_in(mixed, values)
    return np.ascontiguousarray(mixed.T)


def _hash_shingles(words: Words, ngram: int) -> _Hashed:
    """Return hashes of all texts' n-grams; between and behind them stand numbers that belong to no text."""
    if words.widths is not None and words.widths.any():
        return _hash_strided(words, ngram)
    codes, begins, sizes = words.codes, words.edges[:-1], np.diff(words.edges)
    padded = np.concatenate([codes, np.zeros(ngram, np.uint64)])
    hashes = np.zeros(len(codes) + 1, np.uint64)
    for offset in range(ngram):
        mix_in(hashes, padded[offset : offset + len(hashes)])
    for length in range(1, ngram):
        short = begins[sizes == length]
        whole = np.zeros(len(short), np.uint64)
        for offset in range(length):
            mix_in(whole, codes[short + offset])
        hashes[short] = whole
    counts = np.where(sizes < ngram, np.minimum(sizes, 1), sizes - ngram + 1)
    return hashes, begins, begins + counts


def _hash_strided(words: Words, ngram: int) -> _Hashed:
    """Like `_hash_shingles`, for words of which some are single characters that make a word several at a time."""
    codes, following = _grouped(words)
    begins, ends = words.edges[:-1], words.edges[1:]
    own_end = np.append(np.repeat(ends, ends - begins), 0)
    hashes = np.zeros(len(codes), np.uint64)
    place = np.arange(len(codes))
    for number in range(ngram):
        mix_in(hashes, codes[place])
        if number < ngram - 1:
            place = following[place]
    whole = np.cumsum(np.append(0, place < own_end))  # how many n-grams before a place end in their own text
    counts = whole[ends] - whole[begins]
    short = np.flatnonzero((counts == 0) & (begins < ends))
    place, mixed = begins[short], np.zeros(len(short), np.uint64)
    for _ in range(ngram - 1):
        inside = place < ends[short]
        part = mixed[inside]
        mix_in(part, codes[place[inside]])
        mixed[inside] = part
        place = following[place]
    hashes[begins[short]] = mixed
    counts[short] = 1
    return hashes, begins, begins + counts


def _grouped(words: Words) -> tuple[np.ndarray, np.ndarray]:
    """Return the code of the word that begins at each place and the place behind it, with one more place at the end.

    The word at a character of a script without blanks is made of as many like it as there are, up to its width.
    """
    assert words.widths is not None
    count = len(words.codes)
    places = np.arange(count + 1)
    is_new = np.ones(count + 1, bool)
    is_new[1:count] = words.widths[1:] != words.widths[:-1]
    is_new[words.edges[:-1]] = True
    new = np.flatnonzero(is_new)
    run_end = np.append(new, count)[np.searchsorted(new, places, side="right")]
    following = np.minimum(places + np.maximum(np.append(words.widths, 1), 1), np.maximum(run_end, places))
    following[:count] = np.where(words.widths > 0, following[:count], places[1:])
    codes = np.append(words.codes, np.uint64(0))
    single = np.flatnonzero(words.widths)
    mixed = np.zeros(len(single), np.uint64)
    for offset in range(_WIDEST):
        inside = single + offset < following[single]
        part = mixed[inside]
        mix_in(part, words.codes[single[inside] + offset])
        mixed[inside] = part
    codes[single] = mixed
    return codes, following


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield texts together, as many as are hashed in one pass, and each large one by itself."""
    batch: list[str] = []
    size = 0
    for text in texts:
        if batch and (size >= _TOGETHER or len(text) > _PIECE):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text)
    if batch:
        yield batch


def _is_large(batch: Sequence[str]) -> bool:
    return len(batch) == 1 and len(batch[0]) > _PIECE


def _of_pieces(text: str, ngram: int) -> Iterator[np.ndarray]:
    """Yield the hashes of the n-grams of a large text, piece by piece; the last words of a piece begin the next one."""
    words = Words(np.zeros(0, np.uint64), np.zeros(2, np.int64), np.zeros(0, np.int64))
    has_without_blanks = has_characters_without_blanks(text)
    begin = 0
    while begin < len(text):
        end = end_of_piece(text, begin + _PIECE) if begin + _PIECE < len(text) else len(text)
        words = _joined(words, hash_words_of_piece(text[begin:end], has_without_blanks=has_without_blanks))
        begin = end
        hashes, _, ends = _hash_shingles(words, ngram)
        # Before the end an n-gram waits if a character of the next piece may still join its last word.
        count = int(ends[0]) if begin == len(text) else max(0, len(words.codes) - _WIDEST * (ngram + 1))
        yield hashes[:count]
        words = _from(words, count)


def _from(words: Words, place: int) -> Words:
    assert words.widths is not None
    return Words(words.codes[place:], np.array([0, len(words.codes) - place]), words.widths[place:])


def _joined(first: Words, second: Words) -> Words:
    assert first.widths is not None
    widths = np.zeros(len(second.codes), np.int64) if second.widths is None else second.widths
    codes = np.concatenate([first.codes, second.codes])
    return Words(codes, np.array([0, len(codes)]), np.concatenate([first.widths, widths]))
