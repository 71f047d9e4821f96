"""Small random models, and GGUF files with something changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

from llmbuilder.config import ModelConfig
from llmbuilder.formats.gguf.file import GGUFFile
from llmbuilder.model import LanguageModel, build_model

SHAPES: dict[str, dict[str, Any]] = {
    "gpt2": {"model_type": "gpt"},
    "gpt2-no-bias-untied": {"model_type": "gpt", "bias": False, "tie_embeddings": False},
    "llama-grouped": {"model_type": "llama", "num_key_value_heads": 2},
    "qwen3-untied": {"model_type": "llama", "qk_norm": True, "tie_embeddings": False, "norm_eps": 1e-6},
    "qwen2": {"model_type": "llama", "attention_bias": True, "num_key_value_heads": 2},
    "llama-biases": {"model_type": "llama", "attention_bias": True, "output_bias": True, "mlp_bias": True},
    "llama-wide-heads": {"model_type": "llama", "head_dim": 24},
    "smollm3": {"model_type": "llama", "num_layers": 5, "layers_without_positions": [3]},
    "llama-linear": {"model_type": "llama", "rope_scaling": {"kind": "linear", "factor": 4.0}},
    "llama3": {
        "model_type": "llama", "rope_theta": 500000.0, "head_dim": 32,
        "rope_scaling": {"kind": "llama3", "factor": 8.0, "original_max_seq_length": 60},
    },
    "llama-yarn": {
        "model_type": "llama", "rope_scaling": {"kind": "yarn", "factor": 4.0, "original_max_seq_length": 40},
    },
    "llama-yarn-sharper": {
        "model_type": "llama",
        "rope_scaling": {"kind": "yarn", "factor": 4.0, "original_max_seq_length": 40, "attention_factor": 1.5,
                         "beta_fast": 8.0, "beta_slow": 2.0},
    },
    "gemma3": {
        "model_type": "gemma3", "qk_norm": True, "num_layers": 7, "head_dim": 24, "num_key_value_heads": 1,
        "sliding_window": 20, "sliding_window_layers": [0, 1, 2, 3, 4, 6], "rope_theta": 1e6,
        "windowed_rope_theta": 10000.0,
    },
    "gemma3-linear": {
        "model_type": "gemma3", "qk_norm": True, "sliding_window": 30, "rope_theta": 50000.0,
        "windowed_rope_theta": 700.0, "rope_scaling": {"kind": "linear", "factor": 8.0},
    },
}  # fmt: skip


def randomized(name: str, vocab_size: int, width: int = 64) -> LanguageModel:
    """Return a small model of one of the shapes with large weights, so that predictions differ from place to place."""
    base = {"vocab_size": vocab_size, "num_layers": 2, "num_heads": 4, "embedding_dim": width, "max_seq_length": 160}
    model = build_model(ModelConfig(**{**base, "dropout": 0.0, **SHAPES[name]}))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(0.15 * noise if parameter.dim() > 1 else 1 + 0.2 * noise)
    return model.eval()


def rewritten(
    source: Path,
    target: Path,
    fields: Mapping[str, Any] | None = None,
    tensors: Mapping[str, np.ndarray] | None = None,
    without: Collection[str] = (),
) -> Path:
    """Write a GGUF file again with other fields and tensors, and without those named."""
    file = GGUFFile(source)
    values = {**file.fields, **(fields or {})}
    writer = gguf.GGUFWriter(target, str(values.pop("general.architecture")))
    for key, value in values.items():
        if key not in without:
            _add(writer, key, value)
    arrays = {name: file.read(name) for name in file.tensors}
    for name, array in {**arrays, **(tensors or {})}.items():
        if name not in without:
            writer.add_tensor(name, np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, list | np.ndarray):
        writer.add_array(key, value if isinstance(value, list) else value.tolist())
        return
    kinds = {bool: writer.add_bool, str: writer.add_string, int: writer.add_uint32, float: writer.add_float32}
    kinds[type(value)](key, value)
