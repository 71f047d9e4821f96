"""Choosing the next token from logits.

Filters apply in this order: repetition penalty, temperature, top-k, top-p, min-p.
B rows, V vocabulary
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from llmbuilder.config.schema import GenerationConfig

_GREEDY_BELOW = 1e-5  # temperature; logits divided by less would leave the range of their numbers


def next_tokens(
    logits_BV: Tensor,
    histories: Sequence[Sequence[int]],
    config: GenerationConfig,
    generators: Sequence[torch.Generator],
) -> list[int]:
    """Return one token a row; each row draws from its own generator, so rows do not influence each other."""
    if config.repetition_penalty != 1.0:
        logits_BV = penalize_repetition(logits_BV, histories, config.repetition_penalty)
    if not config.do_sample or config.temperature < _GREEDY_BELOW:
        return logits_BV.argmax(dim=-1).tolist()
    probabilities_BV = torch.softmax(filter_logits(logits_BV / config.temperature, config), dim=-1).cpu()
    return [
        int(torch.multinomial(row, 1, generator=generator))
        for row, generator in zip(probabilities_BV, generators, strict=True)
    ]


def penalize_repetition(logits_BV: Tensor, histories: Sequence[Sequence[int]], penalty: float) -> Tensor:
    """Make tokens that occurred less likely (Keskar et al. 2019, "CTRL"): positive logits shrink, negative grow."""
    logits_BV = logits_BV.clone()
    for row, history in zip(logits_BV, histories, strict=True):
        seen = torch.tensor(sorted(set(history)), device=row.device)
        row[seen] = torch.where(row[seen] > 0, row[seen] / penalty, row[seen] * penalty)
    return logits_BV


def filter_logits(logits_BV: Tensor, config: GenerationConfig) -> Tensor:
    """Set logits of tokens that top-k, top-p (Holtzman et al. 2020) or min-p (Nguyen et al. 2024) rule out to -inf."""
    if config.top_k is not None and config.top_k < logits_BV.shape[-1]:
        least = torch.topk(logits_BV, config.top_k).values[:, -1:]
        logits_BV = logits_BV.masked_fill(logits_BV < least, float("-inf"))
    if config.top_p is not None and config.top_p < 1:
        ordered, order = logits_BV.sort(descending=True, dim=-1)
        mass = torch.softmax(ordered, dim=-1).cumsum(dim=-1)
        surplus = (mass - torch.softmax(ordered, dim=-1)) >= config.top_p  # the token that reaches the mass stays
        logits_BV = logits_BV.masked_fill(surplus.scatter(-1, order, surplus), float("-inf"))
    if config.min_p is not None:
        probabilities = torch.softmax(logits_BV, dim=-1)
        floor = config.min_p * probabilities.max(dim=-1, keepdim=True).values
        logits_BV = logits_BV.masked_fill(probabilities < floor, float("-inf"))
    return logits_BV
