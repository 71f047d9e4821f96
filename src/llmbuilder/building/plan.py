"""Choosing a model for a corpus, a machine and a time.

For each shape of a ladder, the time buys a number of training tokens at the speed this machine has; the shape with
the lowest predicted loss wins, the largest of those that tie. Speeds are first estimated from one measured model, then
the promising shapes are measured themselves.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from llmbuilder.building.durations import in_words
from llmbuilder.building.prediction import Corpus, Prediction, predict, predicted_bits
from llmbuilder.building.result import Expectation
from llmbuilder.building.speed import Speed, estimated_speed
from llmbuilder.config.presets import PRESETS
from llmbuilder.config.recipe import (
    RECOMMENDED,
    SAMPLING,
    choose_dropout,
    choose_step_tokens,
    choose_weight_decay,
    divide_step,
    longest_batch,
)
from llmbuilder.config.schema import Config, ModelConfig
from llmbuilder.config.sizes import count_flops_per_token, count_parameters, estimate_training_memory
from llmbuilder.errors import ConfigError
from llmbuilder.machine import memory_bytes, pass_bytes, resolve_device

# layers, heads, width, context
LADDER = (
    (2, 2, 64, 128),
    (2, 3, 96, 128),
    (2, 4, 128, 128),
    (3, 4, 128, 128),
    (4, 4, 128, 128),
    (3, 6, 192, 128),
    (4, 6, 192, 128),
    (4, 4, 256, 256),
    (6, 4, 256, 256),
    (6, 6, 384, 256),
    (8, 8, 512, 512),
    (12, 12, 768, 1024),
    (16, 16, 1024, 1024),
    (24, 16, 1536, 2048),
)
USEFUL_STEPS = 20  # fewer teach a model nothing
_MOST_PASSES = 100  # over a small corpus more only memorise
_PROMISING = 1.06  # of the best prediction
_MOST_MEASURED = 5  # shapes
_TIE = 1.0075  # predictions are no better than that, and where they tie, the larger model was the better one
_WARMUP_SHARE, _MOST_WARMUP = 0.02, 100
_SPEED_FACTOR = 1.5  # by which a machine with other work is slower or faster than it was while measured
_BUDGETS = (60, 120, 300, 600, 1200, 1800, 3600, 2 * 3600, 4 * 3600, 8 * 3600, 24 * 3600)  # seconds people think in
_WORTH_NAMING = 0.05  # bits per byte less, for a longer budget
_MOST_NAMED = 3


@dataclass(frozen=True)
class Plan:
    """A model shape, what the time allows with it, and what to expect of the held-out text.

    `expected_bits_per_byte` is within `bits_low` and `bits_high` four times in five; `expected_loss` is the same in
    nats per token. `longer` names larger budgets: seconds for the whole build, and the bits per byte to expect.
    """

    config: Config
    parameters: int
    tokens_per_second: float
    training_tokens: int
    epochs: float
    steps: int
    expected_loss: float
    expected_bits_per_byte: float
    bits_low: float
    bits_high: float
    training_seconds: float
    longer: list[tuple[float, float]] = field(default_factory=list)

    @property
    def tokens_per_step(self) -> int:
        """The tokens that a step trains on."""
        training = self.config.training
        return training.batch_size * training.gradient_accumulation_steps * self.config.model.max_seq_length

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "config": self.config.to_dict()}

    def expectation(self) -> Expectation:
        """Return what is foreseen, to be kept beside what is reached."""
        return Expectation(
            steps=self.steps,
            tokens=self.training_tokens,
            tokens_per_second=self.tokens_per_second,
            bits_per_byte=self.expected_bits_per_byte,
            bits_low=self.bits_low,
            bits_high=self.bits_high,
            training_seconds=self.training_seconds,
            longer=list(self.longer),
        )

    def summary(self) -> str:
        """Return two or three sentences for people."""
        model = self.config.model
        text = (
            f"{self.parameters / 1e6:.1f}M parameters ({model.num_layers} layers, width {model.embedding_dim}, "
            f"context {model.max_seq_length}), about {self.steps:,} steps of {self.tokens_per_step:,} tokens = "
            f"{self.training_tokens / 1e6:.1f}M tokens ({self.epochs:.1f} passes) at {self.tokens_per_second:,.0f} "
            f"tokens/s; expected: {self.expected_bits_per_byte:.2f} bits per byte of held-out text, between "
            f"{self.bits_low:.2f} and {self.bits_high:.2f} four times in five"
        )
        if self.longer:
            # The first step up that pays most people's patience, and not the whole ladder.
            seconds, bits = self.longer[0]
            gain = self.expected_bits_per_byte - bits
            text += f"; {in_words(seconds)} for the build instead would bring about {gain:.2g} bits per byte less"
        return text


def choose_plan(
    config: Config,
    tokens: int,
    vocab_size: int,
    seconds: float,
    speed: Speed,
    bytes_per_token: float = 3.0,
    *,
    ngram_bits: float | None = None,
    besides: float = 0.0,
    speed_factor: float = _SPEED_FACTOR,
) -> Plan:
    """Return the plan for `tokens` training tokens and `seconds` of training; `config` supplies everything else.

    `bytes_per_token` and `ngram_bits` are of the held-out part (see `Corpus`), `besides` are the seconds that a build
    takes without its training. The machine may turn out `speed_factor` times slower or faster than `speed` says.
    """
    corpus = Corpus(tokens, vocab_size, bytes_per_token, ngram_bits)
    best, flops = _best_candidate(config, corpus, seconds, speed)
    planned = config.copy_of()
    planned.model = best.shape
    training = planned.training
    for name, value in RECOMMENDED.items():
        setattr(training, name, value)
    if planned.generation.do_sample:
        planned.generation = planned.generation.model_copy(update=SAMPLING)
    longest = longest_batch(best.shape, pass_bytes(resolve_device(config.system.device)))
    divide_step(training, best.sequences, longest)
    steps = max(1, best.affordable // (best.sequences * best.shape.max_seq_length))
    passes = best.affordable / max(1, tokens)
    training.weight_decay = choose_weight_decay(passes, steps)
    planned.model.dropout = choose_dropout(passes)
    training.warmup_steps = max(1, min(_MOST_WARMUP, int(_WARMUP_SHARE * steps)))
    if training.max_steps is None:
        training.max_steps = max(steps, _MOST_PASSES * tokens // (best.sequences * best.shape.max_seq_length), 100)
    expected = best.prediction(corpus, speed_factor)
    return Plan(
        config=planned,
        parameters=count_parameters(best.shape),
        tokens_per_second=best.speed,
        training_tokens=best.affordable,
        epochs=passes,
        steps=steps,
        expected_loss=expected.bits * math.log(2) * bytes_per_token,
        expected_bits_per_byte=expected.bits,
        bits_low=expected.low,
        bits_high=expected.high,
        training_seconds=seconds,
        longer=_longer(config, corpus, seconds, besides, estimated_speed(flops), best.bits),
    )


class TimedPlan(Protocol):
    """What a plan says of its steps, whatever it plans."""

    @property
    def config(self) -> Config: ...
    @property
    def tokens_per_second(self) -> float: ...
    @property
    def tokens_per_step(self) -> int: ...
    @property
    def training_seconds(self) -> float: ...


def require_useful(plan: TimedPlan, seconds: float, besides: float | None = None) -> None:
    """Raise ConfigError if `seconds` for a whole build leave its training too few steps to learn anything.

    `besides` is what the build takes without training (default: what the plan leaves for it). The message names the
    least that makes sense. A number of steps that was asked for is nobody's mistake.
    """
    affordable = plan.tokens_per_second * plan.training_seconds / plan.tokens_per_step
    asked = plan.config.training.max_steps
    if affordable >= USEFUL_STEPS or (asked is not None and asked < USEFUL_STEPS):
        return
    training = USEFUL_STEPS * plan.tokens_per_step / plan.tokens_per_second
    others = max(0.0, seconds - plan.training_seconds) if besides is None else besides
    least = _rounded_up(others + _SPEED_FACTOR * training)
    raise ConfigError(
        f"a time budget of {in_words(seconds)} leaves {_time_left(plan.training_seconds)} for training, on this "
        f"machine {int(affordable)} steps, and fewer than {USEFUL_STEPS} teach a model nothing: the least that makes "
        f"sense is --time-budget {least:.0f}s"
    )


def _time_left(seconds: float) -> str:
    return in_words(seconds) if seconds >= 1 else "no time"


def _rounded_up(seconds: float) -> float:
    """Return a round number of seconds above `seconds`."""
    step = 5 if seconds < 60 else 30 if seconds < 600 else 300
    return math.ceil(seconds / step) * step


@dataclass(frozen=True)
class _Candidate:
    shape: ModelConfig
    sequences: int
    speed: float
    affordable: int
    bits: float

    @property
    def hidden(self) -> int:
        return _hidden_parameters(self.shape)

    def prediction(self, corpus: Corpus, speed_factor: float) -> Prediction:
        return predict(corpus, self.hidden, self.affordable, self.shape.max_seq_length, speed_factor)


def _best_candidate(config: Config, corpus: Corpus, seconds: float, speed: Speed) -> tuple[_Candidate, float]:
    """Return the best shape, and the operations a second that this machine does of it."""
    shapes = [shape for shape in _shapes(corpus.vocab_size, corpus.tokens) if _fits(shape, config)]
    reference = shapes[min(2, len(shapes) - 1)]
    flops = speed(reference, max(1, 4096 // reference.max_seq_length)) * count_flops_per_token(reference)
    rough = [_candidate(shape, corpus, seconds, estimated_speed(flops)) for shape in shapes]
    least = min(candidate.bits for candidate in rough)
    promising = sorted((c for c in rough if c.bits <= _PROMISING * least), key=lambda c: c.bits)
    measured = [_candidate(c.shape, corpus, seconds, speed) for c in promising[:_MOST_MEASURED]]
    best = _largest_of_the_best(measured)
    return best, best.speed * count_flops_per_token(best.shape)


def _largest_of_the_best(candidates: list[_Candidate]) -> _Candidate:
    least = min(candidate.bits for candidate in candidates)
    tied = (candidate for candidate in candidates if candidate.bits <= _TIE * least)
    return max(tied, key=lambda candidate: count_parameters(candidate.shape))


def _candidate(shape: ModelConfig, corpus: Corpus, seconds: float, speed: Speed) -> _Candidate:
    """Return what a shape would reach; its batch follows from the tokens, and its speed from the batch."""
    context = shape.max_seq_length
    rate = speed(shape, max(1, 4096 // context))
    affordable = max(1, min(int(rate * seconds), _MOST_PASSES * corpus.tokens))
    sequences = max(1, round(choose_step_tokens(affordable) / context))
    bits = predicted_bits(corpus, _hidden_parameters(shape), affordable, context)
    return _Candidate(shape, sequences, rate, affordable, bits)


def _longer(
    config: Config, corpus: Corpus, seconds: float, besides: float, speed: Speed, bits: float
) -> list[tuple[float, float]]:
    """Return the budgets for which the prediction is worth naming, each better than the one before by enough."""
    shapes = [shape for shape in _shapes(corpus.vocab_size, corpus.tokens) if _fits(shape, config)]
    named: list[tuple[float, float]] = []
    for budget in _BUDGETS:
        if budget <= 1.5 * (seconds + besides):
            continue
        candidates = [_candidate(shape, corpus, budget - besides, speed) for shape in shapes]
        found = min(candidate.bits for candidate in candidates)
        if found <= bits - _WORTH_NAMING:
            named.append((float(budget), found))
            bits = found
    return named[:_MOST_NAMED]


def _hidden_parameters(shape: ModelConfig) -> int:
    return count_parameters(shape) - 2 * shape.vocab_size * shape.embedding_dim


def _shapes(vocab_size: int, tokens: int) -> list[ModelConfig]:
    """Return the ladder's shapes whose windows the corpus can fill; of a few pages, the smallest with a short one."""
    most = tokens // 20
    shapes = [_shape(vocab_size, *shape) for shape in LADDER if shape[-1] <= max(64, most)]
    layers, heads, width, _ = LADDER[0]
    return shapes or [_shape(vocab_size, layers, heads, width, max(8, min(64, most)))]


def _fits(shape: ModelConfig, config: Config) -> bool:
    memory = memory_bytes(resolve_device(config.system.device))
    one = config.training.model_copy(update={"batch_size": 1, "gradient_accumulation_steps": 1})
    return estimate_training_memory(shape, one).total < 0.6 * memory


def _shape(vocab_size: int, layers: int, heads: int, width: int, context: int) -> ModelConfig:
    values = {**PRESETS["tiny"]["model"], "vocab_size": vocab_size, "num_layers": layers, "num_heads": heads}
    return ModelConfig(**{**values, "embedding_dim": width, "max_seq_length": context, "tie_embeddings": False})
