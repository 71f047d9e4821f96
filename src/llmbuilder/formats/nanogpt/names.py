"""The spellings of GPT weights in nanoGPT, its relatives and its forks, brought to one set of names.

`tokens`, `positions`, `head`, `final_norm`, and in each layer `norm1`, `norm2`, `qkv` (or `q`, `k`, `v`), `out`,
`q_norm`, `k_norm`, `up`, `gate`, `down`. A tensor that has none of these names is left over, never guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from llmbuilder.errors import CheckpointError

_WEIGHT_KEYS = ("model", "model_state_dict", "state_dict")
_WRAPPERS = ("_orig_mod.", "_forward_module.", "module.", "model.", "_fsdp_wrapped_module.")
_OUTER = {
    "tokens": "wte token_embedding token_embedding_table tok_embeddings tok_embedding tok_emb token_emb embed_tokens",
    "positions": "wpe wpe.embedding position_embedding position_embedding_table positional_embedding_table "
    "pos_embedding pos_emb",
    "head": "lm_head output language_model_head head unembed",
    "final_norm": "ln_f norm norm_f final_norm ln_final layer_norm_final rms_final rmsnorm_final",
}
_NORMS = {
    "norm1": "ln_1 ln1 norm1 norm_1 attention_norm attn_norm input_layernorm layer_norm_1 rms_1 rmsnorm_1 pre_ln_attn",
    "norm2": "ln_2 ln2 norm2 norm_2 ffn_norm mlp_norm post_attention_layernorm layer_norm_2 rms_2 rmsnorm_2 pre_ln_mlp",
}
_ATTENTION = {
    "qkv": "c_attn qkv_proj qkv causal_self_attention Wqkv wqkv in_proj",
    "q": "wq q_proj c_q c_attn_q query q query_proj",
    "k": "wk k_proj c_k c_attn_k key k key_proj",
    "v": "wv v_proj c_v c_attn_v value v value_proj",
    "out": "c_proj out_proj o_proj wo projection proj",
    "q_norm": "q_norm qnorm ln_q norm_q",
    "k_norm": "k_norm knorm ln_k norm_k",
}
# The names in a gated MLP mean something else than the same ones in a plain one, so whole sets are known.
_MLPS = (
    {"c_fc": "up", "c_proj": "down"},
    {"c_fc": "up", "projection": "down"},
    {"fc1": "up", "fc2": "down"},
    {"fc_in": "up", "fc_out": "down"},
    {"w1": "up", "w2": "down"},
    {"w1": "gate", "w2": "down", "w3": "up"},
    {"gate_proj": "gate", "up_proj": "up", "down_proj": "down"},
    {"c_fc_in1": "gate", "c_fc_in2": "up", "c_fc_out": "down"},
    {"c_gate": "gate", "c_fc": "up", "c_proj": "down"},
    {"c_gate": "gate", "c_val": "up", "c_proj": "down"},
    {"net.0": "up", "net.2": "down"},
)
_LAYER = re.compile(r"^(?:h|layers|layer|blocks|transformer_blocks)\.(\d+)\.(.+)$")
_ATTENTION_PART = re.compile(r"^(?:attn|attention|self_attn|self_attention|sa)\.(.+)$")
_MLP_PART = re.compile(r"^(?:mlp|feed_forward|ffn|ffwd|ff)\.(.+)$")
_KINDS = {"weight": "weight", "bias": "bias", "gain": "weight"}
_MASKS = re.compile(r"(^|\.)(masked_bias|causal_mask|mask|tril|(?:attn|attention|self_attn|self_attention)\.bias)$")
_FREQUENCIES = re.compile(r"(^|\.)inv_freq$")
_TABLES = re.compile(r"(^|\.)(freqs_cos|freqs_sin|freqs_cis|cos|sin|cos_cached|sin_cached|position_ids)$")
_OFFSETS = re.compile(r"\.activation_[xy]_offset$")  # added to what the activation takes and gives: nothing when zero


def _inverted(table: Mapping[str, str]) -> dict[str, str]:
    return {spelling: name for name, spellings in table.items() for spelling in spellings.split()}


_OUTER_NAMES, _NORM_NAMES, _ATTENTION_NAMES = _inverted(_OUTER), _inverted(_NORMS), _inverted(_ATTENTION)


@dataclass
class NamedWeights:
    """A state dict under common names, and what else it held."""

    tensors: dict[str, Tensor] = field(default_factory=dict)  # common name -> tensor
    names: dict[str, str] = field(default_factory=dict)  # legacy name without wrappers -> common name
    left: list[str] = field(default_factory=list)  # legacy names that mean nothing here
    frequencies: Tensor | None = None  # of rotary positions, where the state dict holds them
    has_masks: bool = False

    @property
    def layers(self) -> int:
        return 1 + max((int(name.split(".")[1]) for name in self.tensors if name.startswith("layers.")), default=-1)


def strip_wrappers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights without the prefixes that wrappers put before every name, in any order and number."""
    names = {str(name): tensor for name, tensor in weights.items()}
    while names:
        prefix = next((p for p in _WRAPPERS if all(name.startswith(p) for name in names)), None)
        if prefix is None:
            break
        names = {name.removeprefix(prefix): tensor for name, tensor in names.items()}
    return _without_holder(names)


def _without_holder(names: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take off the name under which a training module holds its model (`net.`), if that shows the embedding."""
    holder = next(iter(names), "").partition(".")[0] + "."
    if len(holder) < 2 or holder == "transformer." or not all(name.startswith(holder) for name in names):
        return names
    inner = {name.removeprefix(holder): tensor for name, tensor in names.items()}
    is_shown = any(_outer(name) == "tokens.weight" for name in inner)
    return inner if is_shown and not any(_outer(name) == "tokens.weight" for name in names) else names


def find_weights(content: Mapping[Any, Any]) -> Mapping[str, Tensor] | None:
    """Return the state dict of a GPT that a checkpoint holds or is, None if there is none."""
    for candidate in (*(content.get(key) for key in _WEIGHT_KEYS), content):
        if _is_gpt(candidate):
            return candidate  # type: ignore[no-any-return]
    others = [value for value in content.values() if _is_gpt(value)]  # of several, none is known to be the model
    return others[0] if len(others) == 1 else None


def _is_gpt(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and all(isinstance(tensor, Tensor) for tensor in value.values())
        and has_token_embedding(value)
    )


def vocabulary_of(weights: Mapping[str, Tensor]) -> int | None:
    """Return the rows of the token embedding, None without one."""
    tables = (tensor for name, tensor in strip_wrappers(weights).items() if _outer(name) == "tokens.weight")
    return next((tensor.shape[0] for tensor in tables if tensor.dim() == 2), None)


def shape_of(weights: Mapping[str, Tensor]) -> tuple[int | None, int | None]:
    """Return the width and the number of layers that a state dict shows, None for what it does not."""
    stripped = strip_wrappers(weights)
    tables = [tensor for name, tensor in stripped.items() if _outer(name) == "tokens.weight" and tensor.dim() == 2]
    numbers = [int(layer[1]) for name in stripped if (layer := _LAYER.match(name.removeprefix("transformer.")))]
    return (tables[0].shape[1] if tables else None), (1 + max(numbers) if numbers else None)


def has_token_embedding(weights: Mapping[str, Tensor]) -> bool:
    """Tell a GPT's state dict from another mapping of tensors."""
    return any(_outer(name) == "tokens.weight" for name in strip_wrappers(weights))


def name_weights(weights: Mapping[str, Tensor]) -> NamedWeights:
    """Bring a state dict to common names. Raises CheckpointError if two tensors come to have the same."""
    found = NamedWeights()
    stripped = strip_wrappers(weights)
    mlp_names = _mlp_names(stripped)
    for name, tensor in stripped.items():
        if _is_no_weight(name, tensor, found):
            continue
        common = _outer(name) or _layered(name, mlp_names)
        if common is None:
            found.left.append(name)
        elif common in found.tensors:
            raise CheckpointError(f"{name} and another tensor are both the model's {common}")
        else:
            found.names[name], found.tensors[common] = common, tensor
    return found


def _is_no_weight(name: str, tensor: Tensor, found: NamedWeights) -> bool:
    if _MASKS.search(name) and not (name.endswith("attn.bias") and tensor.dim() == 1 and tensor.numel()):
        _require_causal(name, tensor)
        found.has_masks |= tensor.dim() >= 2
        return True
    if _FREQUENCIES.search(name):
        found.frequencies = tensor
        return True
    return bool(_TABLES.search(name)) or bool(_OFFSETS.search(name) and not tensor.any())


def _require_causal(name: str, mask: Tensor) -> None:
    """Raise CheckpointError for a stored mask that hides more, or less, than the future."""
    if mask.dim() < 2 or mask.shape[-1] != mask.shape[-2] or not mask.numel():
        return
    square = mask.reshape(-1, *mask.shape[-2:])[0].float()
    future = torch.ones_like(square).triu(1).bool()
    seen = square == 0 if bool((square < 0).any()) else square != 0  # added to the scores, or kept where it is one
    if not (torch.equal(seen, ~future) or torch.equal(seen, future)):
        raise CheckpointError(f"{name} is no plain causal mask: this package's models attend to all earlier positions")


def _outer(name: str) -> str | None:
    stem, _, kind = name.removeprefix("transformer.").rpartition(".")
    if stem in _OUTER_NAMES and kind in _KINDS:
        return f"{_OUTER_NAMES[stem]}.{_KINDS[kind]}"
    return None


def _layered(name: str, mlp_names: Mapping[str, str]) -> str | None:
    layer = _LAYER.match(name.removeprefix("transformer."))
    if layer is None:
        return None
    stem, _, kind = layer[2].rpartition(".")
    attention, mlp = _ATTENTION_PART.match(stem), _MLP_PART.match(stem)
    part = _NORM_NAMES.get(stem)
    if attention is not None:
        part = _ATTENTION_NAMES.get(attention[1])
    elif mlp is not None:
        part = mlp_names.get(mlp[1])
    return f"layers.{int(layer[1])}.{part}.{_KINDS[kind]}" if part is not None and kind in _KINDS else None


def _mlp_names(names: Iterable[str]) -> dict[str, str]:
    found = set()
    for name in names:
        layer = _LAYER.match(name.removeprefix("transformer."))
        mlp = _MLP_PART.match(layer[2]) if layer is not None else None
        if mlp is not None and mlp[1].endswith(".weight"):
            found.add(mlp[1].removesuffix(".weight"))
    return next((dict(known) for known in _MLPS if set(known) == found), {})
