"""What a run will reach, in bits per byte of the held-out text, as an interval.

A trigram model says how hard a text is (`evaluation.ngrams`); what a run makes of it depends on its size and on how
much it sees, in the form of Hoffmann et al. 2022, with repeated tokens discounted as in Muennighoff et al. 2023. The
constants were fitted to this package's own runs on several corpora, and the spread to what they missed; how that does
on corpora that had no part in it is in docs/explanation/recipe.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# Nats per byte of the reference corpus, for so many parameters in layers and so many tokens.
_FLOOR = 0.498  # that no size and no amount of text removes
_PARAMETERS, _AT_PARAMETERS, _PARAMETERS_POWER = 0.036, 400_000, 0.5886
_TOKENS, _AT_TOKENS, _TOKENS_POWER = 0.728, 1_000_000, 0.183
_REPETITION_DECAY = 4.41  # after some five repetitions more add little
_CONTEXT_GAIN = 0.053  # for each doubling of the context from 128 tokens on
_LONGEST_CONTEXT = 512  # tokens; what longer ones gain was not measured

_REFERENCE_BITS, _REFERENCE_TOKENS = 2.011, 645_000  # what trigrams need for the reference corpus; its training part
_HARDNESS_POWER = 0.815
# Trigrams of a small text are poor for its smallness, too, which is not to be counted twice; they count a million.
_SMALLNESS_POWER, _MOST_COUNTED = 0.425, 1_000_000
_SPREAD = 0.07  # standard deviation of the logarithm of reached over predicted, as few corpora let it be known
_UNMEASURED_SPREAD = 0.3  # without a trigram model: as much as corpora differ
_QUANTILE = 1.2816  # of the normal distribution: 80% lie within so many standard deviations
_LEAST_BITS = 0.05  # nothing that is worth reading is more predictable


@dataclass(frozen=True)
class Corpus:
    """What a plan knows of a text: the `tokens` to train on, and what the held-out part is like.

    `bytes_per_token` is its mean token, `ngram_bits` what trigrams need for a byte of it (None: not measured).
    """

    tokens: int
    vocab_size: int
    bytes_per_token: float = 3.0
    ngram_bits: float | None = None

    @property
    def guessing_bits(self) -> float:
        """The bits per byte of a model that holds all tokens for equally likely."""
        return math.log2(max(2, self.vocab_size)) / self.bytes_per_token

    @property
    def hardness(self) -> float:
        """How many times as many bits as the reference corpus this one needs."""
        bits = self.ngram_bits
        if bits is None or not math.isfinite(bits) or bits <= 0:
            return 1.0
        return float((bits / _REFERENCE_BITS) ** _HARDNESS_POWER)

    @property
    def spread(self) -> float:
        """The standard deviation of the logarithm of what is reached over what was predicted."""
        return _UNMEASURED_SPREAD if self.ngram_bits is None else _SPREAD


@dataclass(frozen=True)
class Prediction:
    """Bits per byte to expect, and the interval that holds 80% of the results."""

    bits: float
    low: float
    high: float


def predicted_bits(corpus: Corpus, parameters: int, seen: int, context: int = 128) -> float:
    """Return the bits per byte to expect of `parameters` in layers after `seen` tokens, repetitions included.

    Never more than guessing takes, and never nothing.
    """
    nats = predicted_nats_per_byte(parameters, seen, max(1, corpus.tokens), context)
    return _sane(corpus, corpus.hardness * nats / math.log(2))


def predict(corpus: Corpus, parameters: int, seen: int, context: int = 128, speed_factor: float = 1.0) -> Prediction:
    """Return the prediction with its interval.

    `speed_factor` is how many times slower or faster than measured the machine may turn out to be: fewer tokens at
    one end of the interval, more at the other.
    """
    bits = predicted_bits(corpus, parameters, seen, context)
    ends = []
    for factor, sign in ((speed_factor, -1), (1 / speed_factor, 1)):
        moved = math.log(predicted_bits(corpus, parameters, max(1, int(seen * factor)), context) / bits)
        ends.append(_sane(corpus, bits * math.exp(sign * math.hypot(_QUANTILE * corpus.spread, moved))))
    return Prediction(bits, *ends)


def _sane(corpus: Corpus, bits: float) -> float:
    return max(_LEAST_BITS, min(corpus.guessing_bits, bits))


def predicted_nats_per_byte(parameters: int, seen: float, unique: float, context: int = 128) -> float:
    """Return the predicted loss of `parameters` in layers after `seen` tokens of text, `unique` of them different.

    It is the loss over windows of `context` tokens on a text as hard as the reference corpus.
    """
    different = max(1.0, min(seen, unique))
    repetitions = max(seen, different) / different - 1
    worth = different * (1 + _REPETITION_DECAY * (1 - math.exp(-repetitions / _REPETITION_DECAY)))
    worth *= (_REFERENCE_TOKENS / min(max(1.0, unique), _MOST_COUNTED)) ** _SMALLNESS_POWER
    gain = _CONTEXT_GAIN * math.log2(min(context, _LONGEST_CONTEXT) / 128)
    of_size = _PARAMETERS * (_AT_PARAMETERS / parameters) ** _PARAMETERS_POWER
    of_text = _TOKENS * (_AT_TOKENS / worth) ** _TOKENS_POWER
    return _FLOOR + of_size + of_text - gain
