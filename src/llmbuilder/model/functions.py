"""Operations that PyTorch has no single CPU kernel for, with their gradients written out.

On a CPU every elementwise operation is a pass over memory, and autograd's own backward of a composed formula makes
many: RMSNorm costs a fifth of what it would, rotary positions a third. On other devices, and under torch.compile,
the plain formulas are used: there compilers and kernels fuse them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

ReadWeight = Callable[[torch.dtype], Tensor]

# Attention on CPUs, in float32 and in shorter types (False, True): docs/explanation/speed.md has the measurements.
_QUERIES_OF_A_BLOCK, _LONGEST_IN_BLOCKS = (128, 256), (512, 1024)
_BY_PRODUCTS_UP_TO = 128  # positions in float32


def _is_composed(x: Tensor) -> bool:
    """Whether the plain formula is the better one."""
    return x.device.type != "cpu" or torch.compiler.is_compiling()


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        scale = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return (x * scale.to(x.dtype)).mul_(weight.to(x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        """LayerNorm's kernel with a mean of zero, plus the term that it subtracts for the mean."""
        x, weight, scale = ctx.saved_tensors
        width, dtype = x.shape[-1], x.dtype
        x, gradient = x.float(), gradient.float()
        by_input, by_weight, _ = torch.ops.aten.native_layer_norm_backward(
            gradient, x, [width], torch.zeros_like(scale), scale, weight, None, [True, True, False]
        )
        mean = torch.matmul(gradient, weight[:, None]).mul_(scale).div_(width)
        return by_input.add_(mean).to(dtype), by_weight, None


class RMSNorm(nn.RMSNorm):
    """Root mean square normalisation (Zhang & Sennrich 2019)."""

    def forward(self, x: Tensor) -> Tensor:
        assert self.eps is not None
        if _is_composed(x):
            return super().forward(x)
        return _RMSNorm.apply(x, self.weight, self.eps)


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        cos, sin = cos.to(x.dtype), sin.to(x.dtype)
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turn(gradient, cos, -sin), None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    turned = torch.empty_like(x)
    turned_first, turned_second = turned.chunk(2, dim=-1)
    torch.mul(first, cos, out=turned_first).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=turned_second).addcmul_(first, sin)
    return turned


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (element i, element i + half) of a head by its position's angle (Su et al. 2021).

    `cos` and `sin` have half a head's width and otherwise broadcast against `x`.
    """
    if not _is_composed(x):
        return _Rotate.apply(x, cos, sin)
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)


class _AdaptedProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, read_OD: ReadWeight, a_RD: Tensor, b_OR: Tensor, scale: float) -> Tensor:
        ctx.read, ctx.scale, ctx.types = read_OD, scale, (a_RD.dtype, b_OR.dtype)
        a_RD, b_OR = a_RD.to(x_ND.dtype), b_OR.to(x_ND.dtype)
        inner_NR = x_ND @ a_RD.mT
        ctx.save_for_backward(x_ND, a_RD, b_OR, inner_NR)
        return F.linear(x_ND, read_OD(x_ND.dtype)).addmm_(inner_NR, b_OR.mT, alpha=scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_output_NO: Tensor) -> tuple[Tensor | None, None, Tensor, Tensor, None]:
        x_ND, a_RD, b_OR, inner_NR = ctx.saved_tensors
        by_inner_NR = by_output_NO @ b_OR
        by_x_ND = None
        if ctx.needs_input_grad[0]:
            by_x_ND = (by_output_NO @ ctx.read(x_ND.dtype)).addmm_(by_inner_NR, a_RD, alpha=ctx.scale)
        by_a_RD, by_b_OR = (by_inner_NR.mT @ x_ND).to(ctx.types[0]), (by_output_NO.mT @ inner_NR).to(ctx.types[1])
        return by_x_ND, None, by_a_RD.mul_(ctx.scale), by_b_OR.mul_(ctx.scale), None


def adapted_product(
    x: Tensor, read_OD: ReadWeight, a_RD: Tensor, b_OR: Tensor, scale: float, *, is_made_anew: bool = False
) -> Tensor:
    """Return `x @ (weight + scale * b @ a).T` without making that matrix; the weight gets no gradient.

    `read_OD` returns the weight in a type; where it `is_made_anew` each time, it is made for the backward pass again
    instead of being kept.
    """
    if _is_composed(x) and not is_made_anew:
        return F.linear(x, read_OD(x.dtype)) + F.linear(F.linear(x, a_RD.to(x.dtype)), b_OR.to(x.dtype)) * scale
    return _AdaptedProduct.apply(x.flatten(0, -2), read_OD, a_RD, b_OR, scale).unflatten(0, x.shape[:-1])


def as_multiplied(tensor: Tensor) -> Tensor:
    """Return a tensor in the type that autocast would multiply it in: cast once, and not for each product."""
    kind = tensor.device.type
    return tensor.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else tensor


def causal_attention(
    query_BHTE: Tensor,
    key_BKTE: Tensor,
    value_BKTE: Tensor,
    dropout: float = 0.0,
    mask_B1TT: Tensor | None = None,
) -> Tensor:
    """Attend to this and earlier positions; query heads share key/value heads in groups when there are fewer.

    `mask_B1TT` (True where a position is seen) hides some of the earlier ones, too; it shows no later one.

    PyTorch's kernel for CPUs computes the half of the scores that the future hides, too, and its products in bfloat16
    take as long as in float32. So there, without dropout, the queries of shorter sequences attend in blocks, each to
    what lies before its end, and by two batched products where these are faster than the kernel.
    """
    length, is_short_type = query_BHTE.shape[2], query_BHTE.dtype.itemsize < 4
    size = _QUERIES_OF_A_BLOCK[is_short_type]
    if dropout or _is_composed(query_BHTE) or length > _LONGEST_IN_BLOCKS[is_short_type]:
        return _attend(query_BHTE, key_BKTE, value_BKTE, mask_B1TT, dropout)
    by_products = is_short_type or length <= _BY_PRODUCTS_UP_TO
    blocks = [
        (_attend_by_products if by_products else _attend_in_block)(
            query_BHTE[:, :, begin : begin + size],
            key_BKTE[:, :, : begin + size],
            value_BKTE[:, :, : begin + size],
            None if mask_B1TT is None else mask_B1TT[:, :, begin : begin + size, : begin + size],
        )
        for begin in range(0, length, size)
    ]
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=2)


def _attend(
    query_BHTE: Tensor, key_BKTE: Tensor, value_BKTE: Tensor, mask: Tensor | None, dropout: float = 0.0
) -> Tensor:
    is_grouped = query_BHTE.shape[1] != key_BKTE.shape[1]
    return F.scaled_dot_product_attention(
        query_BHTE, key_BKTE, value_BKTE, mask, dropout, is_causal=mask is None, enable_gqa=is_grouped
    )


def _attend_in_block(query_BHTE: Tensor, key_BKSE: Tensor, value_BKSE: Tensor, mask_B1TS: Tensor | None) -> Tensor:
    """Attend from the last positions of a sequence."""
    if mask_B1TS is not None or query_BHTE.shape[2] == key_BKSE.shape[2]:
        return _attend(query_BHTE, key_BKSE, value_BKSE, mask_B1TS)
    return _attend(query_BHTE, key_BKSE, value_BKSE, _future(query_BHTE, key_BKSE))


def _attend_by_products(query_BHTE: Tensor, key_BKSE: Tensor, value_BKSE: Tensor, mask_B1TS: Tensor | None) -> Tensor:
    """Attend from the last positions of a sequence; the heads of a group are rows of one product."""
    batch, heads, length, width = query_BHTE.shape
    num_key_value_heads = key_BKSE.shape[1]
    group = heads // num_key_value_heads
    query, key, value = (part.flatten(0, 1) for part in (query_BHTE, key_BKSE, value_BKSE))
    query = query.reshape(-1, group * length, width)  # (B*K, G*T, E)
    if mask_B1TS is None:
        hidden_B1TS = _future(query_BHTE, key_BKSE)[None, None]
    else:
        hidden_B1TS = torch.zeros_like(mask_B1TS, dtype=query.dtype).masked_fill_(~mask_B1TS, float("-inf"))
    hidden = hidden_B1TS.repeat(1, 1, group, 1)
    # Where it is the same for all, (G*T, S), else (B*K, G*T, S).
    hidden = hidden[0, 0] if len(hidden) == 1 else hidden.expand(-1, num_key_value_heads, -1, -1).flatten(0, 1)
    scores = torch.baddbmm(hidden, query, key.mT, alpha=width**-0.5)
    return torch.bmm(scores.softmax(-1), value).view(batch, heads, length, width)


def _future(query_BHTE: Tensor, key_BKSE: Tensor) -> Tensor:
    """Return what is added to scores, shape (T, S): minus infinity where a key lies behind the query."""
    queries, keys = query_BHTE.shape[2], key_BKSE.shape[2]
    return torch.full((queries, keys), float("-inf"), dtype=query_BHTE.dtype).triu_(keys - queries + 1)
