"""nanoGPT's forward pass, written out from a raw state dict, to hold a converted checkpoint against.

It shares no code with `GPTModel`: explicit attention, exact GELU, as nanoGPT's model.py and the older scripts'
gpt_model.py compute it. Agreement with it says that the weights were carried over rightly; that the project's own
model.py computes this formula is another matter, which only running it can show.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from llmbuilder.errors import MigrationError
from llmbuilder.formats.nanogpt.checkpoint import LegacyCheckpoint, convert_checkpoint
from llmbuilder.formats.nanogpt.names import find_weights, strip_wrappers
from llmbuilder.model import LanguageModel

_NANOGPT = {
    "tokens": "transformer.wte", "positions": "transformer.wpe", "block": "transformer.h.{}.", "norm1": "ln_1",
    "norm2": "ln_2", "qkv": "attn.c_attn", "out": "attn.c_proj", "up": "mlp.c_fc", "down": "mlp.c_proj",
    "final": "transformer.ln_f",
}  # fmt: skip
_OLD_SCRIPTS = {
    "tokens": "token_embedding", "positions": "position_embedding", "block": "blocks.{}.", "norm1": "ln1",
    "norm2": "ln2", "qkv": "attn.qkv_proj", "out": "attn.out_proj", "up": "mlp.fc1", "down": "mlp.fc2",
    "final": "ln_f",
}  # fmt: skip


def legacy_logits(weights: Mapping[str, Tensor], tokens_BT: Tensor, num_heads: int) -> Tensor:
    """Return the logits of legacy weights, shape (batch, positions, vocabulary).

    Raises MigrationError if the weights are of neither known form.
    """
    weights = {name: tensor.float() for name, tensor in strip_wrappers(weights).items()}
    names = next((n for n in (_NANOGPT, _OLD_SCRIPTS) if f"{n['tokens']}.weight" in weights), None)
    if names is None:
        raise MigrationError("these are neither nanoGPT's weights nor the older scripts'")

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights.get(f"{name}.bias"), 1e-5)

    batch, length = tokens_BT.shape
    x = weights[f"{names['tokens']}.weight"][tokens_BT] + weights[f"{names['positions']}.weight"][:length]
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    layer = 0
    while f"{(block := names['block'].format(layer))}{names['norm1']}.weight" in weights:
        query, key, value = linear(norm(x, block + names["norm1"]), block + names["qkv"]).chunk(3, dim=-1)
        heads = [part.view(batch, length, num_heads, -1).transpose(1, 2) for part in (query, key, value)]
        scores = heads[0] @ heads[1].transpose(-2, -1) / math.sqrt(heads[0].shape[-1])
        attended = scores.masked_fill(future, -math.inf).softmax(-1) @ heads[2]
        x = x + linear(attended.transpose(1, 2).reshape(batch, length, -1), block + names["out"])
        inner = linear(norm(x, block + names["norm2"]), block + names["up"])
        x = x + linear(0.5 * inner * (1 + torch.erf(inner / math.sqrt(2))), block + names["down"])
        layer += 1
    head = weights.get("lm_head.weight", weights[f"{names['tokens']}.weight"])
    return F.linear(norm(x, names["final"]), head)


@torch.no_grad()
def prove_with_formula(
    content: Mapping[str, Any], legacy: LegacyCheckpoint, model: LanguageModel, *, seed: int = 0
) -> float | None:
    """Return the largest difference between the logits of nanoGPT's formula and of the converted model.

    None for a checkpoint that declares, or is known to compute, anything else than that formula: no number says
    anything about such a model but its own code's.
    """
    raw = find_weights(content)
    if raw is None or not legacy.is_standard or model.config.activation != "gelu":
        return None
    length = min(64, model.config.max_seq_length)
    generator = torch.Generator().manual_seed(seed)
    tokens_BT = torch.randint(model.config.vocab_size, (2, length), generator=generator)
    expected = legacy_logits(raw, tokens_BT, model.config.num_heads)
    exact = model if model.lm_head.weight.dtype == torch.float32 else copy.deepcopy(model).float()
    return float((expected - exact.cpu().eval()(tokens_BT)[0]).abs().max())


def compare_with_legacy(content: Mapping[str, Any], model: LanguageModel, *, seed: int = 0) -> float:
    """Return the largest difference between the logits of a legacy checkpoint and of the converted model.

    Raises MigrationError for a checkpoint that is not of nanoGPT's own form.
    """
    difference = prove_with_formula(content, convert_checkpoint(content, model.config), model, seed=seed)
    if difference is None:
        raise MigrationError("nothing to compare with: the checkpoint is not of nanoGPT's standard form")
    return difference
