"""Tensors under common names, put in the order and under the names of this package's two families.

Whatever holds a value for each element of a weight goes the same way, so an optimizer's moments are arranged by the
same functions as the weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from llmbuilder.config.schema import ModelConfig
from llmbuilder.config.sizes import head_dim, num_key_value_heads

_GPT_OUTER = {"tokens": "transformer.wte", "positions": "transformer.wpe", "final_norm": "transformer.ln_f",
              "head": "lm_head"}  # fmt: skip
_GPT_LAYER = {"norm1": "ln_1", "norm2": "ln_2", "qkv": "attn.c_attn", "out": "attn.c_proj", "up": "mlp.c_fc",
              "down": "mlp.c_proj"}  # fmt: skip
_LLAMA_OUTER = {"tokens": "model.embed_tokens", "final_norm": "model.norm", "head": "lm_head"}
_LLAMA_LAYER = {"norm1": "input_layernorm", "norm2": "post_attention_layernorm", "q": "self_attn.q_proj",
                "k": "self_attn.k_proj", "v": "self_attn.v_proj", "out": "self_attn.o_proj",
                "q_norm": "self_attn.q_norm", "k_norm": "self_attn.k_norm", "gate": "mlp.gate_proj",
                "up": "mlp.up_proj", "down": "mlp.down_proj"}  # fmt: skip
_LAYER = re.compile(r"layers\.(\d+)\.(\w+)\.(weight|bias)")


@dataclass
class Layout:
    """The model that a checkpoint holds, and how its rotary positions pair the elements of a head."""

    config: ModelConfig
    is_interleaved: bool = False  # neighbours are pairs, instead of an element and the one half a head further


def arrange(tensors: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """Return tensors under common names as they stand in a model of this package; parts of a whole may be missing."""
    is_gpt = layout.config.model_type == "gpt"
    tensors = _fuse(tensors) if is_gpt else _split(tensors, layout)
    outer, inner = (_GPT_OUTER, _GPT_LAYER) if is_gpt else (_LLAMA_OUTER, _LLAMA_LAYER)
    prefix = "transformer.h" if is_gpt else "model.layers"
    arranged = {}
    for name, tensor in tensors.items():
        layer = _LAYER.fullmatch(name)
        if layer is not None:
            arranged[f"{prefix}.{layer[1]}.{inner[layer[2]]}.{layer[3]}"] = tensor
        else:
            stem, _, kind = name.rpartition(".")
            arranged[f"{outer[stem]}.{kind}"] = tensor
    if layout.config.tie_embeddings:
        arranged.pop("lm_head.weight", None)
    return arranged


def _fuse(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put queries, keys and values of each layer into one tensor; a bias that only some have is zero in the others."""
    fused = {name: tensor for name, tensor in tensors.items() if not re.fullmatch(r"layers\.\d+\.[qkv]\.\w+", name)}
    for layer in sorted({match[1] for name in tensors if (match := _LAYER.fullmatch(name))}):
        for kind in ("weight", "bias"):
            parts = [tensors.get(f"layers.{layer}.{part}.{kind}") for part in "qkv"]
            if kind == "bias" and any(part is not None for part in parts):
                weights = [tensors.get(f"layers.{layer}.{part}.weight") for part in "qkv"]
                parts = [
                    weight.new_zeros(weight.shape[0]) if part is None and weight is not None else part
                    for part, weight in zip(parts, weights, strict=True)
                ]
            whole = [part for part in parts if part is not None]
            if len(whole) == len(parts):
                fused[f"layers.{layer}.qkv.{kind}"] = torch.cat(whole)
    return fused


def _split(tensors: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    width = head_dim(layout.config)
    queries, keys = layout.config.num_heads * width, num_key_value_heads(layout.config) * width
    split: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        layer = _LAYER.fullmatch(name)
        if layer is not None and layer[2] == "qkv":
            for part, rows in zip("qkv", tensor.split([queries, keys, keys]), strict=True):
                split[f"layers.{layer[1]}.{part}.{layer[3]}"] = rows.contiguous()
        else:
            split[name] = tensor
    if layout.is_interleaved:
        for name, tensor in split.items():
            if re.fullmatch(r"layers\.\d+\.(q|k|q_norm|k_norm)\.(weight|bias)", name):
                split[name] = _by_halves(tensor, width)
    return split


def _by_halves(tensor: Tensor, width: int) -> Tensor:
    """Move the even elements of each head before the odd ones, so that a pair is half a head apart."""
    heads = tensor.unflatten(0, (-1, width // 2, 2))
    return heads.transpose(1, 2).flatten(0, 2).contiguous()
