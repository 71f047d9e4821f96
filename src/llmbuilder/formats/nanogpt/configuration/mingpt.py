"""The config.json that minGPT's programs write into their work_dir: sections `system`, `data`, `model`, `trainer`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmbuilder.formats.nanogpt.configuration.migrated import Default, MigratedConfig, flatten, put

ORIGIN = "minGPT"
_SAME = {
    "data.block_size": "model.max_seq_length",
    "system.seed": "system.seed",
    "system.work_dir": "training.output_dir",
    "model.n_layer": "model.num_layers",
    "model.n_head": "model.num_heads",
    "model.n_embd": "model.embedding_dim",
    "model.vocab_size": "model.vocab_size",
    "model.block_size": "model.max_seq_length",
    "model.resid_pdrop": "model.dropout",
    "trainer.device": "system.device",
    "trainer.num_workers": "training.dataloader_num_workers",
    "trainer.max_iters": "training.max_steps",
    "trainer.batch_size": "training.batch_size",
    "trainer.learning_rate": "training.learning_rate",
    "trainer.weight_decay": "training.weight_decay",
    "trainer.grad_norm_clip": "training.max_grad_norm",
}
# Trainer's own defaults.
_DEFAULTS = {"trainer.num_workers": 4, "trainer.batch_size": 64, "trainer.learning_rate": 3e-4,
             "trainer.weight_decay": 0.1, "trainer.grad_norm_clip": 1.0, "model.resid_pdrop": 0.1}  # fmt: skip
# model_type stands for a shape where the layers are not given.
_SHAPES = {
    "openai-gpt": (12, 12, 768), "gpt2": (12, 12, 768), "gpt2-medium": (24, 16, 1024), "gpt2-large": (36, 20, 1280),
    "gpt2-xl": (48, 25, 1600), "gopher-44m": (8, 16, 512), "gpt-mini": (6, 6, 192), "gpt-micro": (4, 4, 128),
    "gpt-nano": (3, 3, 48),
}  # fmt: skip
_SHAPE_KEYS = ("model.n_layer", "model.n_head", "model.n_embd")


def is_mingpt(values: Mapping[str, Any]) -> bool:
    """Tell such a configuration by its trainer's section."""
    trainer, model = values.get("trainer"), values.get("model")
    return isinstance(trainer, Mapping) and isinstance(model, Mapping) and "grad_norm_clip" in trainer


def migrate_mingpt(values: Mapping[str, Any]) -> MigratedConfig:
    """Translate such a configuration. minGPT computes GELU by its tanh form and does not share its output weights."""
    flat = flatten(values)
    result = MigratedConfig({}, legacy_values=flat)
    for key, value in flat.items():
        if key in _SAME and (value is not None or key == "trainer.max_iters"):
            result.mapping[key] = _SAME[key]
            put(result.values, _SAME[key], value)
        elif not _place(key, value, flat, result):
            result.unmapped[key] = value
    for key, value in _DEFAULTS.items():
        if key not in flat:
            result.defaults[key] = Default(value, ORIGIN)
            put(result.values, _SAME[key], value)
    for setting, value in {
        "model.bias": True, "model.tie_embeddings": False, "model.activation": "gelu_tanh",
        "training.lr_schedule": "constant", "training.warmup_steps": 0,
    }.items():  # fmt: skip
        put(result.values, setting, value)
    return result


def _place(key: str, value: Any, flat: Mapping[str, Any], result: MigratedConfig) -> bool:
    """Place what is more than a new name, or say why it has none; whether it was placed."""
    if key == "trainer.betas" and isinstance(value, list | tuple) and len(value) == 2:
        result.mapping[key] = "training.beta1"
        result.remarks[key] = f"training.beta2 is {value[1]}"
        put(result.values, "training.beta1", value[0])
        put(result.values, "training.beta2", value[1])
        return True
    if key == "model.model_type" and isinstance(value, str) and value in _SHAPES:
        result.mapping[key] = "model.num_layers"
        result.remarks[key] = "it stands for a shape: " + ", ".join(map(str, _SHAPES[value]))
        for name, number in zip(_SHAPE_KEYS, _SHAPES[value], strict=True):
            put(result.values, _SAME[name], flat.get(name) or number)
        return True
    if key in ("model.embd_pdrop", "model.attn_pdrop"):
        if value == flat.get("model.resid_pdrop", 0.1):
            result.mapping[key] = "model.dropout"
            return True
        result.remarks[key] = "one probability of dropout is used everywhere here: model.resid_pdrop's"
    if value is None:
        result.remarks[key] = "it is not set"
    return False
