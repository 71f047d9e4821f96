"""Rotary positions (Su et al. 2021): by which angle each pair of a head's elements turns, stretched or not.

Models are trained to exactly these frequencies: each way to stretch them is computed as transformers does it.

E head width
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from llmbuilder.config.model_schema import ModelConfig, RopeScaling
from llmbuilder.config.sizes import head_dim


def rotary_angles(positions_BT: Tensor, config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Return cosine and sine, of shape (batch, positions, 1, half a head's width), of the angles at each position."""
    frequencies_E = rotary_frequencies(config, positions_BT.device)
    angles_BT1E = (positions_BT[..., None].float() * frequencies_E)[:, :, None]
    if config.rope_scaling is not None and config.rope_scaling.kind == "yarn":
        factor = attention_factor(config.rope_scaling)
        return angles_BT1E.cos() * factor, angles_BT1E.sin() * factor
    return angles_BT1E.cos(), angles_BT1E.sin()


def rotary_frequencies(config: ModelConfig, device: torch.device | None = None) -> Tensor:
    """Return by how much each pair of a head's elements turns from one position to the next, in radians."""
    width = head_dim(config)
    exponents_E = torch.arange(0, width, 2, device=device, dtype=torch.float32) / width
    frequencies_E = 1.0 / config.rope_theta**exponents_E
    return frequencies_E if config.rope_scaling is None else _stretched(frequencies_E, config, config.rope_scaling)


def attention_factor(scaling: RopeScaling) -> float:
    """Return what YaRN multiplies queries and keys by, which makes attention over long contexts sharper."""
    given = scaling.attention_factor
    return usual_attention_factor(scaling.factor) if given is None else given


def usual_attention_factor(factor: float) -> float:
    """Return what YaRN multiplies by where nothing else is said."""
    return 0.1 * math.log(factor) + 1.0


def _stretched(frequencies_E: Tensor, config: ModelConfig, scaling: RopeScaling) -> Tensor:
    if scaling.kind == "linear":
        return frequencies_E / scaling.factor
    context = scaling.original_max_seq_length or config.max_seq_length
    if scaling.kind == "llama3":
        return _llama3(frequencies_E, scaling, context)
    return _yarn(frequencies_E, scaling, context, config.rope_theta)


def _llama3(frequencies_E: Tensor, scaling: RopeScaling, context: int) -> Tensor:
    """Slow what turns seldom in the context before, blend what lies between. Source: Llama 3.1's own code."""
    waves_E = 2 * math.pi / frequencies_E
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    kept_E = (context / waves_E - low) / (high - low)
    blended_E = (1 - kept_E) * frequencies_E / scaling.factor + kept_E * frequencies_E
    slowed_E = torch.where(waves_E > context / low, frequencies_E / scaling.factor, blended_E)
    return torch.where(waves_E < context / high, frequencies_E, slowed_E)


def _yarn(frequencies_E: Tensor, scaling: RopeScaling, context: int, theta: float) -> Tensor:
    """Slow the last frequencies, keep the first, blend along a line between them (Peng et al. 2023)."""
    width = 2 * len(frequencies_E)

    def turning(times: float) -> float:
        return (width * math.log(context / (times * 2 * math.pi))) / (2 * math.log(theta))

    first, last = turning(scaling.beta_fast), turning(scaling.beta_slow)
    if scaling.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, width - 1)
    steps_E = torch.arange(len(frequencies_E), device=frequencies_E.device, dtype=torch.float32)
    slowed_E = ((steps_E - first) / (last - first if last != first else 0.001)).clamp(0, 1)
    return frequencies_E / scaling.factor * slowed_E + frequencies_E * (1 - slowed_E)
