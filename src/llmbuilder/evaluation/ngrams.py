"""How predictable a text is, by a model that is counted in a second: what to expect of others on it.

Trigrams of tokens with absolute discounting, interpolated with bigrams and those with single tokens (Ney, Essen and
Kneser 1994). It is no good model, but what is hard for it is hard for all: the held-out part far from the training
part, a table of numbers, a language of which there is little.
"""

from __future__ import annotations

import math

import numpy as np

from llmbuilder.tokens.shards import TokenShards

_DISCOUNT = 0.75
_ORDER = 3
_MOST_COUNTED, _MOST_SCORED = 1_000_000, 100_000  # tokens
_CHUNKS = 20  # that a sample of a longer text consists of, so that it holds something of every part

Tokens = np.ndarray | TokenShards


def ngram_bits_per_byte(training: Tokens, held_out: Tokens, sizes: np.ndarray) -> float:
    """Return the bits per byte of text that trigrams counted in `training` need for `held_out`.

    `sizes` are the bytes of each token (see `token_bytes`); tokens without bytes are context only. Of long parts a
    sample of a million and a hundred thousand tokens is taken. Not a number where there is no text to score.
    """
    counted, scored = sample_tokens(training, _MOST_COUNTED), sample_tokens(held_out, _MOST_SCORED)
    is_text = sizes[scored] > 0
    bytes_of_text = int(sizes[scored][is_text].sum())
    if not bytes_of_text:
        return math.nan
    probabilities = _probabilities(counted, scored, len(sizes))
    return float(-np.log2(probabilities[is_text]).sum() / bytes_of_text)


def sample_tokens(tokens: Tokens, most: int) -> np.ndarray:
    """Return all the tokens, or some `most` of them in a few chunks from beginning to end."""
    if len(tokens) <= most:
        return tokens[: len(tokens)].astype(np.int64)
    size = most // _CHUNKS
    begins = np.linspace(0, len(tokens) - size, _CHUNKS).astype(np.int64)
    return np.concatenate([tokens[begin : begin + size] for begin in begins.tolist()]).astype(np.int64)


def _probabilities(training: np.ndarray, held_out: np.ndarray, vocab_size: int) -> np.ndarray:
    """Return the probability of each held-out token; the first ones have less to be predicted from."""
    counts = np.bincount(training, minlength=vocab_size) + 0.5
    probabilities = counts[held_out] / counts.sum()
    for order in range(1, min(_ORDER, len(training), len(held_out))):
        contexts, asked = _contexts(training, order, vocab_size), _contexts(held_out, order, vocab_size)
        grams, times = np.unique(contexts * vocab_size + training[order:], return_counts=True)
        before = grams // vocab_size
        firsts = np.flatnonzero(np.diff(before, prepend=-1))
        known = before[firsts]
        total = _found(known, np.add.reduceat(times, firsts), asked)
        kinds = _found(known, np.diff(np.append(firsts, len(grams))), asked)
        seen = _found(grams, times, asked * vocab_size + held_out[order:])
        shorter = probabilities[order:]
        longer = (np.maximum(seen - _DISCOUNT, 0) + _DISCOUNT * kinds * shorter) / np.maximum(total, 1)
        probabilities[order:] = np.where(total > 0, longer, shorter)
    return probabilities


def _contexts(tokens: np.ndarray, order: int, vocab_size: int) -> np.ndarray:
    """Return a number for the `order` tokens before each one that has so many."""
    number = np.zeros(len(tokens) - order, dtype=np.int64)
    for back in range(order):
        number = number * vocab_size + tokens[back : len(tokens) - order + back]
    return number


def _found(keys: np.ndarray, values: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Return the values of the keys asked for, 0 for those there are not; `keys` are sorted."""
    places = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    return np.where(keys[places] == asked, values[places], 0)
