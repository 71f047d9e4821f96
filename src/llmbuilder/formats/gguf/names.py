"""What our tensors are called in GGUF, and how their rows lie there.

llama.cpp's `llama` rotates neighbouring elements of a head, ours a head's first half with its second, so the rows of
the query and key projections are permuted between the two: here, and nowhere else.
Source: llama.cpp's tensor names by the `gguf` package.
"""

from __future__ import annotations

import re

from torch import Tensor

from llmbuilder.config.schema import ModelConfig

_GPT_NAMES = {
    "transformer.wte.weight": "token_embd.weight",
    "transformer.wpe.weight": "position_embd.weight",
    "transformer.ln_f": "output_norm",
    "lm_head.weight": "output.weight",
    "ln_1": "attn_norm",
    "ln_2": "ffn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
_LLAMA_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm": "output_norm",
    "lm_head.weight": "output.weight",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_GEMMA_NAMES = {
    **_LLAMA_NAMES,
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
_NAMES = {"gpt": _GPT_NAMES, "llama": _LLAMA_NAMES, "gemma3": _GEMMA_NAMES}
_LAYER = re.compile(r"^(?:transformer\.h|model\.layers)\.(\d+)\.(.+)\.(weight|bias)$")
_PERMUTED = {"llama", "smollm3"}  # the architectures whose rotary positions pair neighbours
TABLES = ("token_embd.weight", "output.weight")  # one row for each token


def stored_name(name: str, config: ModelConfig) -> str:
    """Return what GGUF calls the tensor that our state dict calls `name`."""
    names = _NAMES[config.model_type]
    if name in names:
        return names[name]
    match = _LAYER.match(name)
    if match:
        layer, part, kind = match.groups()
        return f"blk.{layer}.{names[part]}.{kind}"
    part, _, kind = name.rpartition(".")
    return f"{names[part]}.{kind}"


def is_permuted(name: str, architecture: str) -> bool:
    """Whether the rows of a tensor of that name in GGUF lie otherwise than in our state dict."""
    return architecture in _PERMUTED and re.search(r"\.attn_[qk]\.(weight|bias)$", name) is not None


def pair_neighbours(rows: Tensor, width: int) -> Tensor:
    """Reorder rows from halves (i, i + width/2) to neighbours (2i, 2i + 1), head by head."""
    return rows.unflatten(0, (-1, 2, width // 2)).transpose(1, 2).flatten(0, 2)


def pair_halves(rows: Tensor, width: int) -> Tensor:
    """Undo `pair_neighbours`."""
    return rows.unflatten(0, (-1, width // 2, 2)).transpose(1, 2).flatten(0, 2)


def needs_bias(name: str) -> bool:
    """Whether llama.cpp's gpt2 requires a bias beside a weight; zeros say the same as none."""
    return name.endswith(".weight") and "embd" not in name and name != "output.weight"
