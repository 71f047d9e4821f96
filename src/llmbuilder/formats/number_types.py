"""The types of stored weights: bfloat16 and float16 are computed with as float32, and written again as what they were.

Half the bytes are the same numbers only as long as nothing has changed them: that is asked of the numbers themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


def usual_dtype(sizes: Iterable[tuple[torch.dtype, int]]) -> torch.dtype | None:
    """Return the type that most numbers are stored in, given types with how many numbers; None without any."""
    totals: dict[torch.dtype, int] = {}
    for dtype, numbers in sizes:
        totals[dtype] = totals.get(dtype, 0) + numbers
    return max(totals, key=lambda dtype: totals[dtype], default=None)


def is_short(dtype: torch.dtype | None) -> bool:
    """Whether a type is a floating-point one shorter than float32."""
    return dtype is not None and dtype.is_floating_point and dtype.itemsize < 4


def as_computed(weights: dict[str, Tensor], dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """Return weights in `dtype`, float32 by default; those given are used up one by one."""
    wanted = dtype or torch.float32
    return {name: weights.pop(name).to(wanted) for name in list(weights)}


def as_stored(weights: Mapping[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    """Return weights in the shorter type that they came from, if each matrix is the same in it; else as they are.

    A vector that would not be the same stays in its own type.
    """
    if dtype is None or not is_short(dtype):
        return dict(weights)
    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        short = tensor.to(dtype)
        if torch.equal(short.to(tensor.dtype), tensor):
            found[name] = short
        elif tensor.dim() < 2:
            found[name] = tensor
        else:
            return dict(weights)
    return found
