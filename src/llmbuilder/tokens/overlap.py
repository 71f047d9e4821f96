"""How much of the validation part stands in the training part, word for word: what a validation loss is worth.

Measured on tokens, so for any source of them: the share of the validation part's runs of tokens that occur in training.
A run is as many tokens as some eight words have.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from llmbuilder.tokens.shards import OpenedTokens, TokenShards

Tokens = np.ndarray | TokenShards

_BYTES_A_RUN = 48  # some eight words
_BYTES_A_TOKEN = 4.0  # where a token file does not say
_MOST_RUNS = 1 << 20  # of the validation part
_TOGETHER = 1 << 20  # tokens
_MIX = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(31)
_FILTER_BITS = 24
_MOST_PLACES = 1 << 14


def overlap_of(train: OpenedTokens, validation: OpenedTokens) -> float | None:
    """Return the share of the validation tokens' runs that the training tokens have, 0 to 1, to four places.

    Of a large validation part a million runs are looked for, spread over all of it. None if it is shorter than a run.
    """
    share = shared_runs(train[0], validation[0], run_length(train[1].tokens, train[1].bytes_of_text))
    return None if share is None else round(share, 4)


def describe_overlap(share: float) -> str:
    """Return what to say beside a validation loss, in the middle of a sentence."""
    return f"{f'{share:.1%}' if share else 'nothing'} of the held-out text is in the training text, too"


def run_length(tokens: int, bytes_of_text: int) -> int:
    """Return the tokens of a run, a power of two, in a text of so many tokens and bytes."""
    size = bytes_of_text / tokens if tokens and bytes_of_text else _BYTES_A_TOKEN
    return int(2 ** min(6, max(2, round(math.log2(_BYTES_A_RUN / size)))))


def shared_runs(train: Tokens, validation: Tokens, length: int) -> float | None:
    """Return what `overlap_of` does, for runs of `length` tokens, a power of two."""
    if len(validation) < length:
        return None
    step = max(1, len(validation) // _MOST_RUNS)
    wanted = np.concatenate([_hashes(part, length)[::step] for part in _parts(validation, length)])
    known = np.unique(wanted)
    is_candidate = np.zeros(1 << _FILTER_BITS, bool)
    is_candidate[_low_bits(known)] = True
    found = np.zeros(len(known), bool)
    for part in _parts(train, length):
        hashes = _hashes(part, length)
        hashes = hashes[is_candidate[_low_bits(hashes)]]
        places = np.searchsorted(known, hashes)
        places[places == len(known)] = 0
        found[places[known[places] == hashes]] = True
    return float(found[np.searchsorted(known, wanted)].mean())


def longest_shared_run(train: Tokens, written: np.ndarray, length: int) -> tuple[int, int]:
    """Return (begin, end) in `written` of its longest run that the training tokens have; (0, 0) below `length` tokens.

    `length` is a power of two. Of a run that stands in very many places a few thousand are looked at.
    """
    own = _hashes(written, length)
    known = np.unique(own)
    best = (0, 0)
    looked_at = 0
    for offset, part in zip(range(0, max(1, len(train)), _TOGETHER), _parts(train, length), strict=False):
        hashes = _hashes(part, length)
        for place in np.flatnonzero(np.isin(hashes, known)).tolist():
            for begin in np.flatnonzero(own == hashes[place]).tolist():
                end = begin + _equal_tokens(train, offset + place, written[begin:])
                best = max(best, (begin, end), key=lambda run: run[1] - run[0])
            looked_at += 1
            if looked_at >= _MOST_PLACES:
                return best
    return best


def _equal_tokens(train: Tokens, place: int, written: np.ndarray) -> int:
    """Return how many tokens from a place on are those of `written`."""
    there = np.asarray(train[place : place + len(written)])
    differing = np.flatnonzero(there != written[: len(there)])
    return int(differing[0]) if len(differing) else len(there)


def _parts(tokens: Tokens, length: int) -> Iterator[np.ndarray]:
    """Yield the tokens some at a time, each with the first ones of the next, so that no run is missed."""
    for begin in range(0, max(1, len(tokens) - length + 1), _TOGETHER):
        yield np.asarray(tokens[begin : begin + _TOGETHER + length - 1])


def _hashes(tokens: np.ndarray, length: int) -> np.ndarray:
    """Return a hash of each run of `length` tokens: that of two runs of half the length, and so on."""
    hashes = tokens.astype(np.uint64) + np.uint64(1)
    half = 1
    while half < length and len(hashes) > half:
        mixed = hashes[:-half] * _MIX
        mixed ^= mixed >> _SHIFT
        mixed += hashes[half:]
        mixed *= _MIX
        mixed ^= mixed >> _SHIFT
        hashes = mixed
        half *= 2
    return hashes if half >= length else hashes[:0]


def _low_bits(hashes: np.ndarray) -> np.ndarray:
    return (hashes & np.uint64((1 << _FILTER_BITS) - 1)).astype(np.int64)
