"""Matrices that do not learn, in four bits: NF4 (Dettmers et al. 2023, "QLoRA"), by the library bitsandbytes."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn

_BLOCK = 64  # numbers that share a length, as in the paper


class PackedWeight(nn.Module):
    """A matrix in four bits a number, with one length for each 64 of them; it is no part of a state dict."""

    packed: Tensor
    lengths: Tensor
    code: Tensor

    def __init__(self, weight: Tensor) -> None:
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it tells which kernels it does without
        from bitsandbytes.functional import quantize_4bit

        super().__init__()
        self.shape = weight.shape
        packed, state = quantize_4bit(weight.detach().float().contiguous(), blocksize=_BLOCK, quant_type="nf4")
        for name, tensor in (("packed", packed), ("lengths", state.absmax), ("code", state.code)):
            self.register_buffer(name, tensor, persistent=False)

    def unpacked(self, dtype: torch.dtype) -> Tensor:
        """Return the matrix, rounded to what four bits hold, in `dtype`."""
        from bitsandbytes.functional import QuantState, dequantize_4bit

        state = QuantState(
            self.lengths, shape=self.shape, code=self.code, blocksize=_BLOCK, quant_type="nf4", dtype=dtype
        )
        return dequantize_4bit(self.packed, state)
