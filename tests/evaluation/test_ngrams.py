"""How predictable a text is."""

from __future__ import annotations

import math

import numpy as np
import pytest

from llmbuilder.evaluation.ngrams import ngram_bits_per_byte, sample_tokens

SIZES = np.array([-1, *[1] * 15])
RANDOM = np.random.default_rng(0)


def test_noise_takes_what_guessing_takes_and_a_pattern_next_to_nothing() -> None:
    noise = RANDOM.integers(1, 16, 200_000)
    assert ngram_bits_per_byte(noise[:150_000], noise[150_000:], SIZES) == pytest.approx(math.log2(15), rel=0.02)
    pattern = np.tile(np.arange(1, 16), 200)
    assert ngram_bits_per_byte(pattern, pattern[:300], SIZES) < 0.15


def test_probabilities_of_all_tokens_add_up_to_one() -> None:
    training = RANDOM.integers(1, 16, 300)
    total = sum(
        2 ** -(3 * ngram_bits_per_byte(training, np.array([3, 5, token]), np.ones(16, int)))
        / (2 ** -(2 * ngram_bits_per_byte(training, np.array([3, 5]), np.ones(16, int))))
        for token in range(16)
    )
    assert total == pytest.approx(1.0, abs=1e-9)


def test_tokens_without_bytes_are_not_scored() -> None:
    assert math.isnan(ngram_bits_per_byte(np.array([1, 2, 3]), np.array([0, 0]), SIZES))
    twice = np.array([-1, *[2] * 15])
    text = RANDOM.integers(1, 16, 500)
    assert ngram_bits_per_byte(text, text, SIZES) == pytest.approx(2 * ngram_bits_per_byte(text, text, twice))


def test_a_sample_holds_something_of_every_part() -> None:
    long = np.arange(100_000)
    sample = sample_tokens(long, 1000)
    assert len(sample) == 1000
    assert sample[0] == 0
    assert sample[-1] == 99_999
    assert np.histogram(sample, 10, (0, 100_000))[0].min() >= 50
    assert len(sample_tokens(long, 10**6)) == 100_000
