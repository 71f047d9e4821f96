"""Choosing a model for a corpus, a machine and a time.

For each shape of a ladder, the time buys a number of training tokens at this machine's measured speed; the shape
with the lowest predicted loss wins. Prediction: Hoffmann et al. 2022 (parametric fit), with repeated tokens
discounted as in Muennighoff et al. 2023. Only the order of the predictions is used, not their values.
"""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass

import torch

from llmbuilder.config.presets import PRESETS
from llmbuilder.config.schema import Config, ModelConfig, SystemConfig
from llmbuilder.config.sizes import count_flops_per_token, count_parameters, estimate_training_memory
from llmbuilder.errors import ConfigError
from llmbuilder.machine import apply_threads, memory_bytes, resolve_device
from llmbuilder.model import build_model

# layers, heads, width, context
LADDER = (
    (2, 2, 64, 128),
    (3, 3, 96, 128),
    (4, 4, 128, 128),
    (4, 6, 192, 256),
    (6, 4, 256, 256),
    (6, 6, 384, 256),
    (8, 8, 512, 512),
    (12, 12, 768, 1024),
    (16, 16, 1024, 1024),
    (24, 16, 1536, 2048),
)
_REPETITION_DECAY = 15.4  # Muennighoff et al. 2023: after some 15 repetitions more add almost nothing
_MOST_PASSES = 100  # over a small corpus more only memorise
_FEWEST_STEPS = 100
_STEPS_WANTED = 1200
_SMALLEST_STEP, _LARGEST_STEP = 1024, 1 << 16  # tokens


@dataclass(frozen=True)
class Plan:
    """A model shape and what the time allows with it."""

    config: Config
    parameters: int
    flops_per_second: float
    training_tokens: int
    epochs: float

    def summary(self) -> str:
        """Return one line for people."""
        model = self.config.model
        return (
            f"{self.parameters / 1e6:.1f}M parameters ({model.num_layers} layers, width {model.embedding_dim}, "
            f"context {model.max_seq_length}), about {self.training_tokens / 1e6:.1f}M training tokens "
            f"({self.epochs:.1f} passes) at {self.flops_per_second / 1e9:.0f} GFLOP/s"
        )


def parse_duration(text: str) -> float:
    """Return the seconds of "90", "90s", "3m", "1h30m" or "2.5m". Raises ConfigError for anything else."""
    match = re.fullmatch(r"\s*(?:([\d.]+)h)?\s*(?:([\d.]+)m(?:in)?)?\s*(?:([\d.]+)s?)?\s*", text)
    try:
        if match and any(match.groups()):
            hours, minutes, seconds = (float(part or 0) for part in match.groups())
            if (total := 3600 * hours + 60 * minutes + seconds) > 0:
                return total
    except ValueError:
        pass
    raise ConfigError(f"{text!r} is no duration: write 90s, 3m or 1h30m")


def choose_vocab_size(characters: int) -> int:
    """Return a vocabulary size for a corpus: a power of two near the square root of its characters, 512 to 32768."""
    return 2 ** min(15, max(9, round(math.log2(math.sqrt(max(1, characters)) * 1.2))))


def measure_speed(system: SystemConfig) -> float:
    """Return the floating-point operations per second that training a small model reaches on this machine."""
    apply_threads(system.num_threads)
    device = resolve_device(system.device)
    config = _shape(1024, *LADDER[2])
    model = build_model(config, seed=0).to(device)
    tokens = torch.randint(config.vocab_size, (8, config.max_seq_length), device=device)
    elapsed, steps = 0.0, 0
    for step in range(60):
        begin = time.perf_counter()
        loss = model(tokens, tokens)[1]
        assert loss is not None
        loss.backward()
        loss.item()  # waits for the device
        if step:  # the first one allocates
            elapsed += time.perf_counter() - begin
            steps += 1
        if elapsed > 0.5:
            break
    return steps * tokens.numel() * count_flops_per_token(config) / elapsed


def choose_plan(config: Config, tokens: int, vocab_size: int, seconds: float, flops_per_second: float) -> Plan:
    """Return the plan for `tokens` training tokens and `seconds` of training; `config` supplies everything else."""
    memory = memory_bytes(resolve_device(config.system.device))
    best: tuple[float, ModelConfig, int] | None = None
    for shape in LADDER:
        model = _shape(vocab_size, *shape)
        if best is not None and estimate_training_memory(model, config.training).total > 0.8 * memory:
            break
        affordable = int(flops_per_second * seconds / count_flops_per_token(model))
        if model.max_seq_length > max(64, tokens // 20):
            continue
        predicted = predicted_loss(count_parameters(model) - vocab_size * model.embedding_dim, affordable, tokens)
        if best is None or predicted < best[0]:
            best = (predicted, model, affordable)
    if best is None:  # a corpus of a few pages: the smallest shape with a window it can fill
        layers, heads, width, _ = LADDER[0]
        model = _shape(vocab_size, layers, heads, width, max(8, min(64, tokens // 20)))
        best = (math.inf, model, int(flops_per_second * seconds / count_flops_per_token(model)))
    _, model, affordable = best
    affordable = min(affordable, _MOST_PASSES * tokens)
    planned = config.copy_of()
    planned.model = model
    step_tokens = min(max(affordable // _STEPS_WANTED, _SMALLEST_STEP), _LARGEST_STEP)
    planned.training.batch_size = max(1, round(step_tokens / model.max_seq_length))
    if planned.training.max_steps is None:
        step_tokens = planned.training.batch_size * model.max_seq_length
        planned.training.max_steps = max(_FEWEST_STEPS, _MOST_PASSES * tokens // step_tokens)
    return Plan(planned, count_parameters(model), flops_per_second, affordable, affordable / max(1, tokens))


def _shape(vocab_size: int, layers: int, heads: int, width: int, context: int) -> ModelConfig:
    values = {**PRESETS["tiny"]["model"], "vocab_size": vocab_size, "num_layers": layers, "num_heads": heads}
    return ModelConfig(**{**values, "embedding_dim": width, "max_seq_length": context, "tie_embeddings": False})


def predicted_loss(parameters: int, tokens: int, unique_tokens: int) -> float:
    """Return the predicted loss of `parameters` trained on `tokens`, of which `unique_tokens` differ."""
    unique = min(tokens, unique_tokens)
    repetitions = tokens / unique - 1
    worth = unique * (1 + _REPETITION_DECAY * (1 - math.exp(-repetitions / _REPETITION_DECAY)))
    return 1.69 + 406.4 / parameters**0.34 + 410.7 / worth**0.28
