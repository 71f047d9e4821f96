"""The nested form of the first LLMBuilder scripts, with sections `device`, `optimization` and `preprocessing`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmbuilder.formats.nanogpt.configuration.keys import CONVERTED_KEYS, FLAT_KEYS
from llmbuilder.formats.nanogpt.configuration.migrated import (
    Converter,
    MigratedConfig,
    flatten,
    new_format_keys,
    put,
    translate,
)

# The nested form of older LLMBuilder scripts: "section.key" and where it lives now.
NESTED_KEYS: dict[str, str] = {
    **{f"{section}.{key}": new for section in ("model", "train", "training") for key, new in FLAT_KEYS.items()},
    "model.num_layers": "model.num_layers",
    "model.num_heads": "model.num_heads",
    "model.embedding_dim": "model.embedding_dim",
    "model.hidden_dim": "model.intermediate_size",
    "model.max_seq_length": "model.max_seq_length",
    "model.use_bias": "model.bias",
    "model.tie_weights": "model.tie_embeddings",
    "training.num_epochs": "training.num_epochs",
    "training.max_epochs": "training.num_epochs",
    "train.max_epochs": "training.num_epochs",
    "training.max_steps": "training.max_steps",
    "training.warmup_steps": "training.warmup_steps",
    "training.gradient_clip_norm": "training.max_grad_norm",
    "training.save_every": "training.save_every",
    "training.log_every": "training.log_every",
    "training.eval_every": "training.eval_every",
    "training.num_workers": "training.dataloader_num_workers",
    "tokenizer.vocab_size": "tokenizer.vocab_size",
    "tokenizer.model_type": "tokenizer.algorithm",
    "optimization.optimizer": "training.optimizer",
    "optimization.beta1": "training.beta1",
    "optimization.beta2": "training.beta2",
    "optimization.scheduler": "training.lr_schedule",
    "optimization.min_lr": "training.min_learning_rate",
    "optimization.compile_model": "system.compile",
    "device.cpu_threads": "system.num_threads",
    "preprocessing.remove_duplicates": "data.remove_duplicates",
    "preprocessing.normalize_whitespace": "data.clean_text",
    "evaluation.max_new_tokens": "generation.max_new_tokens",
    "evaluation.temperature": "generation.temperature",
    "evaluation.top_k": "generation.top_k",
    "evaluation.top_p": "generation.top_p",
    "evaluation.do_sample": "generation.do_sample",
    "evaluation.num_return_sequences": "generation.num_samples",
    "paths.checkpoint_dir": "training.output_dir",
    "paths.cleaned_data_dir": "data.path",
    "paths.tokenizer_dir": "tokenizer.path",
}
NESTED_CONVERTED: dict[str, Converter] = {
    **{f"{section}.{key}": new for section in ("train", "training") for key, new in CONVERTED_KEYS.items()},
    "training.use_mixed_precision": lambda value: ("training.mixed_precision", "auto" if value else "no"),
    "device.mixed_precision": lambda value: ("training.mixed_precision", "auto" if value else "no"),
}
NESTED_MARKS = frozenset({
    "model.hidden_dim", "model.use_bias", "model.tie_weights", "model.n_layer", "model.n_embd", "model.block_size",
    "training.gradient_clip_norm", "training.use_mixed_precision", "training.num_workers", "train.batch_size",
    "train.max_iters", "device.use_cuda", "device.cpu_threads", "optimization.scheduler",
})  # fmt: skip


def migrate_nested(values: Mapping[str, Any]) -> MigratedConfig:
    """Translate such a configuration."""
    flat = flatten(values)
    result = MigratedConfig({}, legacy_values=dict(flat))
    _translate_device(flat, result)
    # A section in the new format may stand beside legacy ones: its known keys keep their names.
    known = {**{key: key for key in new_format_keys()}, **FLAT_KEYS, **NESTED_KEYS}
    translate(flat, known, {**CONVERTED_KEYS, **NESTED_CONVERTED}, result)
    tokenizer = result.values.get("tokenizer", {})
    if tokenizer.get("algorithm") not in (None, "bpe", "unigram", "wordpiece", "char"):
        result.unmapped["tokenizer.model_type"] = tokenizer.pop("algorithm")
        result.mapping.pop("tokenizer.model_type", None)
    return result


def _translate_device(flat: dict[str, Any], result: MigratedConfig) -> None:
    """The older scripts spread the device over flags; `use_cuda: false` with no other flag means the CPU."""
    flags = {
        key: flat.pop(f"device.{key}") for key in ("use_cuda", "cuda_device", "use_mps") if f"device.{key}" in flat
    }
    automatic = flat.pop("device.auto_detect_device", None)
    if not flags and automatic is None:
        return
    device = "cpu"
    if flags.get("use_cuda"):
        device = f"cuda:{flags['cuda_device']}" if flags.get("cuda_device") else "cuda"
    elif flags.get("use_mps"):
        device = "mps"
    elif automatic and "use_cuda" not in flags:
        device = "auto"
    put(result.values, "system.device", device)
    for key in [*flags, *(["auto_detect_device"] if automatic is not None else [])]:
        result.mapping[f"device.{key}"] = "system.device"
