"""Cross-entropy of next tokens, from hidden states and the output projection, in pieces.

The logits of a batch are its largest tensor: 16 windows of 512 tokens over a vocabulary of 50,000 take 1.6 GB in
float32, and their gradient as much again. Both are made for a few rows at a time, and used up before the next ones.

N rows (positions of all windows), D model width, V vocabulary
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from llmbuilder.config.sizes import LOGITS_OF_A_PIECE, ROWS_OF_A_PIECE
from llmbuilder.model.functions import as_multiplied

IGNORE_INDEX = -100  # targets with this value do not count in the loss, as in PyTorch's cross_entropy

_LOGITS_OF_A_PIECE_ON_GPU = 1 << 26  # which needs large products to be busy


def summed_cross_entropy(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> Tensor:
    """Return the sum of the cross-entropies in nats, in float32; targets of -100 do not count.

    The logits are `hidden_ND @ weight_VD.T`, computed in autocast's type where that is on.
    """
    hidden_ND, weight_VD = as_multiplied(hidden_ND), as_multiplied(weight_VD)
    if len(hidden_ND) <= _rows_of_a_piece(weight_VD):
        logits_NV = F.linear(hidden_ND, weight_VD).float()
        return F.cross_entropy(logits_NV, targets_N, ignore_index=IGNORE_INDEX, reduction="sum")
    return _SummedCrossEntropy.apply(hidden_ND, weight_VD, targets_N, torch.is_grad_enabled())


def cross_entropies(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> Tensor:
    """Return the cross-entropy of each row in nats, shape (N), in float32; 0 for targets of -100.

    What each row counts is known only behind this, so that gradients cannot be had along with it: of several pieces the
    logits are computed again for them.
    """
    hidden_ND, weight_VD = as_multiplied(hidden_ND), as_multiplied(weight_VD)
    if len(hidden_ND) <= _rows_of_a_piece(weight_VD):
        return _cross_entropies_of_a_piece(hidden_ND, weight_VD, targets_N)
    return torch.cat([
        checkpoint(_cross_entropies_of_a_piece, hidden_ND[rows], weight_VD, targets_N[rows], use_reentrant=False,
                   preserve_rng_state=False)
        for rows in _pieces(len(hidden_ND), weight_VD)
    ])  # fmt: skip


def _cross_entropies_of_a_piece(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> Tensor:
    logits_NV = F.linear(hidden_ND, weight_VD).float()
    return F.cross_entropy(logits_NV, targets_N, ignore_index=IGNORE_INDEX, reduction="none")


def _rows_of_a_piece(weight_VD: Tensor) -> int:
    most = LOGITS_OF_A_PIECE if weight_VD.device.type == "cpu" else _LOGITS_OF_A_PIECE_ON_GPU
    return max(ROWS_OF_A_PIECE, most // len(weight_VD))


def _pieces(rows: int, weight_VD: Tensor) -> Iterator[slice]:
    size = _rows_of_a_piece(weight_VD)
    return (slice(begin, begin + size) for begin in range(0, rows, size))


class _SummedCrossEntropy(torch.autograd.Function):
    """Computes the gradients along with the loss, while a piece of the logits is at hand."""

    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, with_gradients: bool) -> Tensor:
        by_hidden: list[Tensor] | None = [] if with_gradients and ctx.needs_input_grad[0] else None
        by_weight = None
        if with_gradients and ctx.needs_input_grad[1]:
            by_weight = torch.zeros_like(weight_VD, dtype=torch.float32)
        total = torch.zeros((), device=hidden_ND.device)
        for rows in _pieces(len(hidden_ND), weight_VD):
            hidden, targets = hidden_ND[rows], targets_N[rows]
            counts = targets != IGNORE_INDEX
            places = targets.where(counts, 0)[:, None]
            log_probabilities = F.linear(hidden, weight_VD).float().log_softmax(-1)
            total = total - (log_probabilities.gather(1, places)[:, 0] * counts).sum()
            if by_hidden is None and by_weight is None:
                continue
            by_logits = _by_logits(log_probabilities, places, counts).to(weight_VD.dtype)
            if by_hidden is not None:
                by_hidden.append(by_logits @ weight_VD)
            if by_weight is not None:
                by_weight = _added(by_weight, by_logits, hidden)
        ctx.save_for_backward(torch.cat(by_hidden) if by_hidden else None, by_weight)
        ctx.dtype = weight_VD.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        by_hidden, by_weight = ctx.saved_tensors
        return (
            by_hidden * gradient.to(by_hidden.dtype) if by_hidden is not None else None,
            (by_weight * gradient).to(ctx.dtype) if by_weight is not None else None,
            None,
            None,
        )


# What is compiled must not change a tensor in place: some versions of PyTorch (2.11) then hand on wrong gradients. The
# compiler does not need it; computed directly, it saves a copy of the largest tensors for each piece.


def _by_logits(log_probabilities: Tensor, places: Tensor, counts: Tensor) -> Tensor:
    """Return the gradient by the logits; `log_probabilities` are used up."""
    less_one = torch.full_like(places, -1, dtype=torch.float32)
    if torch.compiler.is_compiling():
        return log_probabilities.exp().scatter_add(1, places, less_one) * counts[:, None]
    return log_probabilities.exp_().scatter_add_(1, places, less_one).mul_(counts[:, None])


def _added(by_weight: Tensor, by_logits: Tensor, hidden: Tensor) -> Tensor:
    """Return the gradient by the weights with a piece's part added; `by_weight` is used up."""
    if torch.compiler.is_compiling():
        return by_weight + by_logits.T @ hidden
    if by_weight.dtype == by_logits.dtype:
        return by_weight.addmm_(by_logits.T, hidden)
    return by_weight.add_(by_logits.T @ hidden)
