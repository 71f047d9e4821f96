"""Gemma 3's form in Hugging Face's files, both ways.

Names are the same. The weights of norms are stored as what they are above 1, and the scale of attention is a field,
which is worked into the norm of the queries here.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from llmbuilder.config.schema import ModelConfig
from llmbuilder.config.sizes import head_dim, layers_with_window
from llmbuilder.errors import ExportError
from llmbuilder.formats.huggingface.layers import kinds_of_layers, shape_fields
from llmbuilder.formats.huggingface.rotary import rotary_fields
from llmbuilder.model.base import LanguageModel

_NORM = "norm.weight"  # the end of each norm's name


def gemma3_values(config: ModelConfig) -> dict[str, Any]:
    """Return the `config.json` values, for transformers 4 and 5.

    Raises ExportError for heads that do not divide the width, which transformers refuses.
    """
    if config.embedding_dim % config.num_heads:
        raise ExportError(
            f"transformers has no Gemma 3 whose width ({config.embedding_dim}) is no multiple of its "
            f"{config.num_heads} heads: this model has no Hugging Face form; save it as model.pt or .safetensors"
        )
    everywhere = rotary_fields(config)
    in_windows = config.windowed_rope_theta or config.rope_theta
    kinds = {
        "full_attention": everywhere.pop("rope_parameters"),
        "sliding_attention": {"rope_type": "default", "rope_theta": in_windows},
    }
    return {
        "model_type": "gemma3_text",
        "architectures": ["Gemma3ForCausalLM"],
        **shape_fields(config),
        "query_pre_attn_scalar": head_dim(config),
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": False,
        "sliding_window": config.sliding_window or config.max_seq_length,
        "layer_types": kinds_of_layers(config, layers_with_window(config)),
        **everywhere,
        "rope_local_base_freq": in_windows,
        "rope_parameters": kinds,
    }


def gemma3_weights(model: LanguageModel) -> dict[str, Tensor]:
    """Return the state dict as transformers has it."""
    return {
        name: tensor.float() - 1 if name.endswith(_NORM) else tensor.contiguous()
        for name, tensor in model.weights().items()
    }


def gemma3_weight(name: str, tensor: Tensor, config: ModelConfig, known: dict[str, Any]) -> Tensor:
    """Return a weight as this package has it."""
    if not name.endswith(_NORM):
        return tensor
    multiplied_by = tensor.float() + 1
    if name.endswith("q_norm.weight"):
        multiplied_by *= (head_dim(config) / known["query_pre_attn_scalar"]) ** 0.5
    return multiplied_by.to(tensor.dtype)
