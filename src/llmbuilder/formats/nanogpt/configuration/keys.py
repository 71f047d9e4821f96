"""nanoGPT's keys: where they live now, and what its train.py uses where a configuration leaves them out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# nanoGPT's flat keys and where they live now. A key mapped to a function needs more than a new name.
FLAT_KEYS: dict[str, str] = {
    "n_layer": "model.num_layers",
    "n_head": "model.num_heads",
    "n_embd": "model.embedding_dim",
    "block_size": "model.max_seq_length",
    "dropout": "model.dropout",
    "bias": "model.bias",
    "vocab_size": "model.vocab_size",
    # llama2.c's names, in the same flat form
    "dim": "model.embedding_dim",
    "n_layers": "model.num_layers",
    "n_heads": "model.num_heads",
    "n_kv_heads": "model.num_key_value_heads",
    "max_seq_len": "model.max_seq_length",
    "norm_eps": "model.norm_eps",
    "rope_theta": "model.rope_theta",
    "device": "system.device",
    "compile": "system.compile",
    "seed": "system.seed",
    "batch_size": "training.batch_size",
    "gradient_accumulation_steps": "training.gradient_accumulation_steps",
    "learning_rate": "training.learning_rate",
    "max_iters": "training.max_steps",
    "eval_interval": "training.eval_every",
    "eval_iters": "training.eval_batches",
    "eval_only": "training.eval_only",
    "log_interval": "training.log_every",
    "weight_decay": "training.weight_decay",
    "beta1": "training.beta1",
    "beta2": "training.beta2",
    "grad_clip": "training.max_grad_norm",
    "warmup_iters": "training.warmup_steps",
    "lr_decay_iters": "training.lr_decay_steps",
    "min_lr": "training.min_learning_rate",
    "init_from": "training.init_from",
    "out_dir": "training.output_dir",
    "dataset": "data.path",
    "wandb_log": "tracking.wandb",
    "wandb_project": "tracking.wandb_project",
    "wandb_run_name": "tracking.wandb_run_name",
    "num_samples": "generation.num_samples",
    "max_new_tokens": "generation.max_new_tokens",
    "temperature": "generation.temperature",
    "top_k": "generation.top_k",
}

# "auto" stands for an expression that asks the machine, as nanoGPT's own default does.
_PRECISIONS = {"float32": "no", "bfloat16": "bf16", "float16": "fp16", "auto": "auto"}
_BACKENDS = {"nccl": "nccl", "gloo": "gloo"}


def _named(place: str, words: dict[str, str]) -> Callable[[Any], tuple[str, Any] | None]:
    return lambda value: (place, words[value]) if isinstance(value, str) and value in words else None


CONVERTED_KEYS: dict[str, Callable[[Any], tuple[str, Any] | None]] = {
    "decay_lr": lambda value: ("training.lr_schedule", "cosine" if value else "constant"),
    "always_save_checkpoint": lambda value: ("training.save_best_only", not value),
    "dtype": _named("training.mixed_precision", _PRECISIONS),
    "backend": _named("system.distributed_backend", _BACKENDS),
}

# What nanoGPT's train.py uses for keys its Python configuration files leave out (model.py, train.py at 3adf61e).
NANOGPT_DEFAULTS: dict[str, Any] = {
    "eval_interval": 2000,
    "log_interval": 1,
    "eval_iters": 200,
    "always_save_checkpoint": True,
    "init_from": "scratch",
    "out_dir": "out",
    "dataset": "openwebtext",
    "gradient_accumulation_steps": 40,
    "batch_size": 12,
    "block_size": 1024,
    "n_layer": 12,
    "n_head": 12,
    "n_embd": 768,
    "dropout": 0.0,
    "bias": False,
    "vocab_size": 50304,
    "learning_rate": 6e-4,
    "max_iters": 600000,
    "weight_decay": 1e-1,
    "beta1": 0.9,
    "beta2": 0.95,
    "grad_clip": 1.0,
    "decay_lr": True,
    "warmup_iters": 2000,
    "lr_decay_iters": 600000,
    "min_lr": 6e-5,
    "device": "cuda",
    "compile": True,
    "seed": 1337,
}
