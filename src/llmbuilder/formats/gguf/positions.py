"""How GGUF says that rotary positions are stretched, both ways.

Llama 3's kind is no key there but a tensor, `rope_freqs.weight`: by what each frequency is divided. What it was made
from is found again by solving its formula for the context before.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from llmbuilder.config.model_schema import ModelConfig, RopeScaling
from llmbuilder.errors import CheckpointError, ExportError
from llmbuilder.model.rotary import attention_factor, rotary_frequencies, usual_attention_factor

FREQUENCY_DIVISORS = "rope_freqs.weight"
_CLOSE = 1e-4  # of a divisor: files hold them in float32, some in float16
_EVERY_FOURTH = 4  # llama.cpp's smollm3 leaves positions out of each fourth layer, whatever the file says


def layers_without_positions(layers: int) -> list[int]:
    """Return the layers in which llama.cpp's smollm3 knows no positions."""
    return list(range(_EVERY_FOURTH - 1, layers, _EVERY_FOURTH))


def scaling_fields(scaling: RopeScaling, context: int) -> Iterator[tuple[str, Any]]:
    """Yield the keys, without the architecture before them, and values that describe a stretching; none for llama3.

    Raises ExportError for what llama.cpp does not compute.
    """
    if scaling.kind == "llama3":
        return
    yield "rope.scaling.type", scaling.kind
    yield "rope.scaling.factor", float(scaling.factor)
    if scaling.kind != "yarn":
        return
    if not scaling.truncate:
        raise ExportError("llama.cpp has no yarn scaling without truncate: this model cannot be exported to it")
    yield "rope.scaling.original_context_length", scaling.original_max_seq_length or context
    yield "rope.scaling.yarn_beta_fast", float(scaling.beta_fast)
    yield "rope.scaling.yarn_beta_slow", float(scaling.beta_slow)
    # llama.cpp multiplies by the usual factor by itself.
    yield "rope.scaling.attn_factor", attention_factor(scaling) / usual_attention_factor(scaling.factor)


def frequency_divisors(config: ModelConfig) -> Tensor | None:
    """Return what Llama 3's stretching divides each frequency by; None for a model without it."""
    if config.rope_scaling is None or config.rope_scaling.kind != "llama3":
        return None
    plain = config.model_copy(update={"rope_scaling": None})
    return rotary_frequencies(plain) / rotary_frequencies(config)


def yarn_scaling(factor: float, context: int | None, fast: float, slow: float, attention: float) -> RopeScaling:
    """Return the stretching of YaRN that these keys describe; `attention` is on top of what llama.cpp multiplies by."""
    return RopeScaling(
        kind="yarn", factor=factor, original_max_seq_length=context, beta_fast=fast, beta_slow=slow,
        attention_factor=None if attention == 1.0 else round(attention * usual_attention_factor(factor), 6),
    )  # fmt: skip


def scaling_from_divisors(divisors: Tensor, config: ModelConfig, path: object) -> RopeScaling | None:
    """Return Llama 3's stretching that divides the frequencies so. Raises CheckpointError if none does."""
    factor = round(float(divisors.max()), 4)
    if torch.allclose(divisors, torch.ones_like(divisors), rtol=_CLOSE):
        return None
    frequencies = rotary_frequencies(config)
    for context in _contexts(divisors, frequencies, factor):
        found = RopeScaling(kind="llama3", factor=factor, original_max_seq_length=context)
        again = frequency_divisors(config.model_copy(update={"rope_scaling": found}))
        if again is not None and again.shape == divisors.shape and torch.allclose(again, divisors, rtol=_CLOSE):
            return found
    raise CheckpointError(
        f"{path}: {FREQUENCY_DIVISORS} stretches rotary positions otherwise than Llama 3 does, which is not supported"
    )


def _contexts(divisors: Tensor, frequencies: Tensor, factor: float) -> Iterator[int]:
    """Yield which contexts before would blend a frequency as far as each of the divisors says."""
    low, high = (
        RopeScaling.model_fields["low_freq_factor"].default,
        RopeScaling.model_fields["high_freq_factor"].default,
    )
    if factor <= 1 or len(divisors) != len(frequencies):
        return
    for divisor, frequency in zip(divisors.tolist(), frequencies.tolist(), strict=True):
        kept = (1 / divisor - 1 / factor) / (1 - 1 / factor) if divisor > 0 else 0.0
        if 0.01 < kept < 0.99:
            yield round(2 * math.pi / frequency * (low + kept * (high - low)))
    yield 8192
