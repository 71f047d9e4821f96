"""Checkpoints of nanoGPT and of older LLMBuilder scripts, opened without running anything in them.

Known forms: nanoGPT's {'model', 'model_args', 'config', 'optimizer', 'iter_num', 'best_val_loss'}, the bare
{'model', 'config', 'iter_num'}, {'model_state_dict', 'config'} of the older scripts, and a plain state dict
when the caller supplies the configuration. Weight names may carry torch.compile's `_orig_mod.` prefix.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from llmbuilder.config.schema import ModelConfig
from llmbuilder.errors import CheckpointError, ConfigError
from llmbuilder.formats.nanogpt.configuration import is_legacy, migrate_dictionary

_WRAPPERS = ("_orig_mod.", "module.", "model.")
_OLD_SCRIPT_NAMES = [
    (re.compile(r"^token_embedding\."), "transformer.wte."),
    (re.compile(r"^position_embedding\."), "transformer.wpe."),
    (re.compile(r"^ln_f\."), "transformer.ln_f."),
    (re.compile(r"^blocks\.(\d+)\."), r"transformer.h.\1."),
    (re.compile(r"\.ln1\."), ".ln_1."),
    (re.compile(r"\.ln2\."), ".ln_2."),
    (re.compile(r"\.attn\.qkv_proj\."), ".attn.c_attn."),
    (re.compile(r"\.attn\.out_proj\."), ".attn.c_proj."),
    (re.compile(r"\.mlp\.fc1\."), ".mlp.c_fc."),
    (re.compile(r"\.mlp\.fc2\."), ".mlp.c_proj."),
]
_MASKS = re.compile(r"\.attn\.(bias|masked_bias|causal_mask)$")


@dataclass
class LegacyCheckpoint:
    """A legacy checkpoint in this package's terms."""

    config: ModelConfig
    weights: dict[str, Tensor]
    origin: str  # "nanoGPT" or "older LLMBuilder scripts"
    step: int = 0
    best_validation_loss: float | None = None
    optimizer: dict[str, Any] | None = None
    legacy_config: dict[str, Any] = field(default_factory=dict)


def is_legacy_checkpoint(content: Any) -> bool:
    """Tell a legacy checkpoint or plain GPT state dict from anything else."""
    return isinstance(content, Mapping) and _find_weights(content) is not None


def convert_checkpoint(content: Mapping[str, Any], config: ModelConfig | None = None) -> LegacyCheckpoint:
    """Translate a loaded legacy checkpoint.

    Raises CheckpointError if its shape cannot be told: weights alone do not say how many heads there are.
    """
    found = _find_weights(content)
    if found is None:
        raise CheckpointError(f"no GPT weights in it; its keys are {', '.join(map(str, list(content)[:8]))}")
    raw = _strip_wrappers(found)
    old_scripts = "token_embedding.weight" in raw
    weights = {_rename(name): tensor for name, tensor in raw.items() if not _MASKS.search(name)}
    legacy_config = _settings_of(content)
    config = config or _infer_config(weights, legacy_config)
    weights = _fill_missing_biases(weights, config)
    if config.tie_embeddings:
        weights.pop("lm_head.weight", None)
    best = content.get("best_val_loss")
    return LegacyCheckpoint(
        config=config,
        weights=weights,
        origin="older LLMBuilder scripts" if old_scripts else "nanoGPT",
        step=int(content.get("iter_num") or content.get("step") or content.get("global_step") or 0),
        best_validation_loss=float(best) if best is not None else None,
        optimizer=content.get("optimizer") if isinstance(content.get("optimizer"), Mapping) else None,  # type: ignore[arg-type]
        legacy_config=legacy_config,
    )


def _find_weights(content: Mapping[str, Any]) -> Mapping[str, Tensor] | None:
    for candidate in (content.get("model"), content.get("model_state_dict"), content.get("state_dict"), content):
        if isinstance(candidate, Mapping) and candidate and all(isinstance(v, Tensor) for v in candidate.values()):
            names = _strip_wrappers(candidate)
            if "transformer.wte.weight" in names or "token_embedding.weight" in names:
                return candidate
    return None


def _strip_wrappers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    names = dict(weights)
    for prefix in _WRAPPERS:
        if all(name.startswith(prefix) for name in names):
            names = {name.removeprefix(prefix): tensor for name, tensor in names.items()}
    return names


def _rename(name: str) -> str:
    for pattern, replacement in _OLD_SCRIPT_NAMES:
        name = pattern.sub(replacement, name)
    return name


def _settings_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """Merge what the checkpoint says of its configuration; `model_args` is nanoGPT's word on the shape."""
    settings: dict[str, Any] = {}
    for key in ("config", "model_args"):
        value = content.get(key)
        if isinstance(value, Mapping):
            nested = value.get("model")
            settings.update(nested if isinstance(nested, Mapping) else value)
    return settings


def _infer_config(weights: Mapping[str, Tensor], settings: Mapping[str, Any]) -> ModelConfig:
    vocab_size, width = weights["transformer.wte.weight"].shape
    heads = settings.get("n_head", settings.get("num_heads"))
    if heads is None:
        raise CheckpointError(
            "the checkpoint does not say how many attention heads the model has (no 'model_args' or 'config'): "
            "pass config=ModelConfig(...), or put a legacy config.json beside it and use `llmbuilder migrate`"
        )
    layers = 1 + max(int(m.group(1)) for name in weights if (m := re.match(r"transformer\.h\.(\d+)\.", name)))
    head = weights.get("lm_head.weight")
    shared = head is None or torch.equal(head, weights["transformer.wte.weight"])
    dropout = settings.get("dropout", 0.0)
    return ModelConfig(
        model_type="gpt",
        vocab_size=vocab_size,
        num_layers=layers,
        num_heads=heads,
        embedding_dim=width,
        max_seq_length=weights["transformer.wpe.weight"].shape[0],
        intermediate_size=_inner_size(weights, width),
        dropout=dropout,
        bias="transformer.ln_f.bias" in weights,
        activation="gelu",
        tie_embeddings=shared,
    )


def _inner_size(weights: Mapping[str, Tensor], width: int) -> int | None:
    inner = weights["transformer.h.0.mlp.c_fc.weight"].shape[0]
    return inner if inner != 4 * width else None


def _fill_missing_biases(weights: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """A zero bias is no bias: the older scripts have biases everywhere but on the attention input."""
    if config.bias:
        for layer in range(config.num_layers):
            for part in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"):
                weight = weights.get(f"transformer.h.{layer}.{part}.weight")
                if weight is not None:
                    weights.setdefault(f"transformer.h.{layer}.{part}.bias", torch.zeros(weight.shape[0]))
    return weights


def training_settings(checkpoint: LegacyCheckpoint) -> dict[str, Any]:
    """Return the checkpoint's own training configuration in the new format; empty if it holds none."""
    settings = checkpoint.legacy_config
    try:
        return migrate_dictionary(settings).values if is_legacy(settings) else {}
    except ConfigError:
        return {}
