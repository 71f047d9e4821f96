"""Choosing a model for a corpus, a machine and a time.

For each shape of a ladder, the time buys a number of training tokens at the speed this machine has; the shape with
the lowest predicted loss wins, the largest of those that tie. Speeds are first estimated from one measured model, then
the promising shapes are measured themselves. The prediction has the form of Hoffmann et al. 2022, with repeated tokens
discounted as in Muennighoff et al. 2023 and constants fitted to this package's own runs (docs/explanation/recipe.md).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from llmbuilder.acceleration import limited_threads, measure_acceleration
from llmbuilder.config.presets import PRESETS
from llmbuilder.config.recipe import (
    RECOMMENDED,
    choose_dropout,
    choose_step_tokens,
    choose_weight_decay,
    longest_batch,
    resolve_recipe,
)
from llmbuilder.config.schema import Config, ModelConfig
from llmbuilder.config.sizes import count_flops_per_token, count_parameters, estimate_training_memory
from llmbuilder.machine import memory_bytes, resolve_device, resolve_precision
from llmbuilder.model import build_model
from llmbuilder.training.loop.optimizers import Optimizers

Speed = Callable[[ModelConfig, int], float]  # model, sequences a step -> tokens per second

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
_FLOOR = 0.489  # nats per byte that no size and no amount of text removes
_PARAMETERS, _PARAMETERS_POWER = 158.6, 0.5886
_BYTES, _BYTES_POWER = 143.5, 0.3585
_REPETITION_DECAY = 4.41  # after some five repetitions more add little
_CONTEXT_GAIN = 0.053  # nats per byte for each doubling of the context from 128 tokens on
_LONGEST_CONTEXT = 512  # tokens; what longer ones gain was not measured
_MOST_PASSES = 100  # over a small corpus more only memorise
_LEAST_STEPS = 4  # of a measurement
_PROMISING = 1.06  # of the best prediction
_MOST_MEASURED = 5  # shapes
_TIE = 1.0075  # predictions are no better than that, and where they tie, the larger model was the better one
_WARMUP_SHARE, _MOST_WARMUP = 0.02, 100


@dataclass(frozen=True)
class Plan:
    """A model shape, what the time allows with it, and the validation loss to expect, in nats per token."""

    config: Config
    parameters: int
    tokens_per_second: float
    training_tokens: int
    epochs: float
    steps: int
    expected_loss: float
    expected_bits_per_byte: float

    def summary(self) -> str:
        """Return one line for people."""
        model, training = self.config.model, self.config.training
        return (
            f"{self.parameters / 1e6:.1f}M parameters ({model.num_layers} layers, width {model.embedding_dim}, "
            f"context {model.max_seq_length}), about {self.steps:,} steps of "
            f"{training.batch_size * training.gradient_accumulation_steps * model.max_seq_length:,} tokens = "
            f"{self.training_tokens / 1e6:.1f}M tokens ({self.epochs:.1f} passes) at {self.tokens_per_second:,.0f} "
            f"tokens/s; expected validation loss {self.expected_loss:.2f} ({self.expected_bits_per_byte:.2f} bits per "
            "byte)"
        )


def measured_speed(config: Config) -> Speed:
    """Return a function that measures how many tokens a second a model trains on, whole steps counted."""
    device = resolve_device(config.system.device)
    precision = resolve_precision(config.training.mixed_precision, device)
    with limited_threads(config.system.num_threads):
        acceleration = measure_acceleration(device, precision)

    def measure(shape: ModelConfig, sequences: int) -> float:
        whole = Config(model=shape, training=config.training.model_copy(update=RECOMMENDED))
        resolve_recipe(whole, 1, 1 << 40)
        model = build_model(shape, seed=0).to(device)
        optimizers = Optimizers(model, whole.training)
        scaler = torch.amp.GradScaler(device.type, enabled=False)
        tokens = torch.randint(shape.vocab_size, (sequences, shape.max_seq_length), device=device)
        times: list[float] = []
        with acceleration.applied():
            begin = time.perf_counter()
            while len(times) < _LEAST_STEPS or (len(times) < 10 and time.perf_counter() - begin < 0.5):
                start = time.perf_counter()
                with torch.autocast(device.type, torch.bfloat16, enabled=precision == torch.bfloat16):
                    loss = model.summed_loss(tokens, tokens) / tokens.numel()
                loss.backward()
                optimizers.set_step(0, 100)
                optimizers.step(scaler)
                optimizers.zero_grad()
                loss.item()  # waits for the device
                times.append(time.perf_counter() - start)
        settled = sorted(times[1:])  # the first step allocates
        return tokens.numel() / settled[(len(settled) - 1) // 2]

    return measure


def estimated_speed(flops_per_second: float) -> Speed:
    """Return a function that divides by a model's operations per token."""
    return lambda shape, _: flops_per_second / count_flops_per_token(shape)


def choose_plan(
    config: Config, tokens: int, vocab_size: int, seconds: float, speed: Speed, bytes_per_token: float = 3.0
) -> Plan:
    """Return the plan for `tokens` training tokens and `seconds` of training; `config` supplies everything else."""
    shapes = [shape for shape in _shapes(vocab_size, tokens) if _fits(shape, config)]
    reference = shapes[min(2, len(shapes) - 1)]
    flops = speed(reference, max(1, 4096 // reference.max_seq_length)) * count_flops_per_token(reference)
    rough = [_candidate(shape, tokens, seconds, estimated_speed(flops), bytes_per_token) for shape in shapes]
    least = min(candidate.bits for candidate in rough)
    promising = sorted((c for c in rough if c.bits <= _PROMISING * least), key=lambda c: c.bits)
    measured = [_candidate(c.shape, tokens, seconds, speed, bytes_per_token) for c in promising[:_MOST_MEASURED]]
    least = min(candidate.bits for candidate in measured)
    tied = (candidate for candidate in measured if candidate.bits <= _TIE * least)
    best = max(tied, key=lambda candidate: count_parameters(candidate.shape))
    planned = config.copy_of()
    planned.model = best.shape
    training = planned.training
    for name, value in RECOMMENDED.items():
        setattr(training, name, value)
    longest = longest_batch(best.shape, memory_bytes(resolve_device(config.system.device)))
    training.gradient_accumulation_steps = -(-best.sequences // longest)
    training.batch_size = -(-best.sequences // training.gradient_accumulation_steps)
    steps = max(1, best.affordable // (best.sequences * best.shape.max_seq_length))
    passes = best.affordable / max(1, tokens)
    training.weight_decay = choose_weight_decay(passes, steps)
    planned.model.dropout = choose_dropout(passes)
    training.warmup_steps = max(1, min(_MOST_WARMUP, int(_WARMUP_SHARE * steps)))
    if training.max_steps is None:
        training.max_steps = max(steps, _MOST_PASSES * tokens // (best.sequences * best.shape.max_seq_length), 100)
    return Plan(
        planned, count_parameters(best.shape), best.speed, best.affordable, passes, steps,
        best.bits * math.log(2) * bytes_per_token, best.bits,
    )  # fmt: skip


@dataclass(frozen=True)
class _Candidate:
    shape: ModelConfig
    sequences: int
    speed: float
    affordable: int
    bits: float


def _candidate(shape: ModelConfig, tokens: int, seconds: float, speed: Speed, bytes_per_token: float) -> _Candidate:
    """Return what a shape would reach; its batch follows from the tokens, and its speed from the batch."""
    context = shape.max_seq_length
    sequences = max(1, 4096 // context)
    rate = speed(shape, sequences)
    affordable = max(1, min(int(rate * seconds), _MOST_PASSES * tokens))
    sequences = max(1, round(choose_step_tokens(affordable) / context))
    hidden = count_parameters(shape) - 2 * shape.vocab_size * shape.embedding_dim
    nats = predicted_nats_per_byte(hidden, affordable * bytes_per_token, tokens * bytes_per_token, context)
    return _Candidate(shape, sequences, rate, affordable, nats / math.log(2))


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


def predicted_nats_per_byte(parameters: int, seen: float, unique: float, context: int = 128) -> float:
    """Return the predicted loss of `parameters` in layers after `seen` bytes of text, `unique` of them different.

    It is the loss over windows of `context` tokens.
    """
    different = min(seen, unique)
    repetitions = seen / different - 1
    worth = different * (1 + _REPETITION_DECAY * (1 - math.exp(-repetitions / _REPETITION_DECAY)))
    gain = _CONTEXT_GAIN * math.log2(min(context, _LONGEST_CONTEXT) / 128)
    return _FLOOR + _PARAMETERS / parameters**_PARAMETERS_POWER + _BYTES / worth**_BYTES_POWER - gain
