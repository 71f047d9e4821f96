"""Which Hugging Face family a model is written as, so that transformers computes what this package computes.

Each family is a row: what it must have, what it may have, and the fields that say it in its `config.json`. The first
row that a model fits is taken; a model that fits none has no Hugging Face form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llmbuilder.config.schema import ModelConfig
from llmbuilder.config.sizes import windowed_layers
from llmbuilder.errors import ExportError
from llmbuilder.formats.huggingface.layers import position_fields, window_fields

_BIASES = frozenset(("attention_bias", "output_bias"))  # most families have both or none: zeros stand for one
_WINDOWS = frozenset(("sliding_window", "sliding_window_layers"))
_HEADS = frozenset(("head_dim",))  # where the width is no multiple of the heads, which only LlamaConfig insists on


@dataclass(frozen=True)
class Family:
    """A row of the table: names, features, and the fields beside those that all of them have."""

    model_type: str
    architecture: str
    must: frozenset[str]
    may: frozenset[str]
    fields: Callable[[ModelConfig], dict[str, Any]]


def _biases(config: ModelConfig) -> dict[str, Any]:
    return {"attention_bias": config.attention_bias or config.output_bias}


def _biases_everywhere(config: ModelConfig) -> dict[str, Any]:
    return {**_biases(config), "mlp_bias": config.mlp_bias}


_ROWS = (
    Family("mistral", "MistralForCausalLM", frozenset(("sliding_window",)), _HEADS,
           lambda config: {"sliding_window": config.sliding_window}),
    Family("qwen2", "Qwen2ForCausalLM", frozenset(("attention_bias",)), _WINDOWS | _HEADS, window_fields),
    Family("qwen3", "Qwen3ForCausalLM", frozenset(("qk_norm",)), _BIASES | _WINDOWS | _HEADS,
           lambda config: {**_biases(config), **window_fields(config)}),
    Family("llama", "LlamaForCausalLM", frozenset(), _BIASES | {"mlp_bias"}, _biases_everywhere),
    Family("smollm3", "SmolLM3ForCausalLM", frozenset(),
           _BIASES | _WINDOWS | _HEADS | {"mlp_bias", "layers_without_positions"},
           lambda config: {**_biases_everywhere(config), **window_fields(config), **position_fields(config)}),
)  # fmt: skip


def family_of(config: ModelConfig) -> Family:
    """Return the row for a model of the Llama family. Raises ExportError, naming what it has, if there is none."""
    features = _features(config)
    for row in _ROWS:
        if row.must <= features <= row.must | row.may:
            return row
    raise ExportError(
        f"no family of transformers has {', '.join(sorted(features))} together: this model has no Hugging Face form; "
        "save it as model.pt or .safetensors"
    )


def needs_zero_biases(config: ModelConfig) -> tuple[str, ...]:
    """Return the projections that get biases of zero, because the family has biases on all of attention or on none."""
    if family_of(config).model_type == "qwen2" or config.attention_bias == config.output_bias:
        return ()
    return ("o_proj",) if config.attention_bias else ("q_proj", "k_proj", "v_proj")


def _features(config: ModelConfig) -> frozenset[str]:
    """Return the names of the settings that make the model another family's; a window of the whole context does not."""
    windowed = windowed_layers(config)
    switches = ("qk_norm", "attention_bias", "output_bias", "mlp_bias", "layers_without_positions")
    found = {name for name in switches if getattr(config, name)}
    found |= {"head_dim"} if config.embedding_dim % config.num_heads else set()
    found |= {"sliding_window"} if windowed else set()
    found |= {"sliding_window_layers"} if 0 < len(windowed) < config.num_layers else set()
    return frozenset(found)
