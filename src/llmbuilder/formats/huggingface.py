"""Hugging Face's form of a model: `config.json` values and state dict, both ways.

For the Llama family names and layouts are the same and only the configuration is translated. GPT-2 stores its
matrices transposed there and always has biases, so absent ones become zeros.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import torch
from torch import Tensor

from llmbuilder.config.schema import ModelConfig
from llmbuilder.config.sizes import head_dim, intermediate_size, num_key_value_heads
from llmbuilder.errors import CheckpointError
from llmbuilder.model.base import LanguageModel
from llmbuilder.tokenizer import Tokenizer

_TRANSPOSED = re.compile(r"(attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.weight$")
_ACTIVATIONS = {"gelu_tanh": "gelu_new", "gelu": "gelu"}


def to_huggingface(model: LanguageModel, tokenizer: Tokenizer | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the `config.json` values, with the tokenizer's special ids, and the state dict under HF's names."""
    config = model.config
    common: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tie_embeddings,
        "torch_dtype": str(model.lm_head.weight.dtype).removeprefix("torch."),
        # Without these, transformers takes the ids that the first model of the family had.
        **(tokenizer.generation_ids() if tokenizer is not None else {"bos_token_id": None, "eos_token_id": None}),
    }
    if config.model_type == "gpt":
        return {**common, **_gpt2_values(config)}, _gpt2_weights(model)
    return {**common, **_llama_values(config)}, {name: tensor.contiguous() for name, tensor in model.weights().items()}


def _gpt2_values(config: ModelConfig) -> dict[str, Any]:
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "n_layer": config.num_layers,
        "n_head": config.num_heads,
        "n_embd": config.embedding_dim,
        "n_positions": config.max_seq_length,
        "n_inner": intermediate_size(config),
        "activation_function": _ACTIVATIONS[config.activation],
        "layer_norm_epsilon": config.norm_eps,
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
    }


def _gpt2_weights(model: LanguageModel) -> dict[str, Tensor]:
    weights = {
        name: (tensor.t() if _TRANSPOSED.search(name) else tensor).contiguous()
        for name, tensor in model.weights().items()
    }
    if not model.config.bias:
        for name in [name for name in weights if re.search(r"\.(ln_1|ln_2|ln_f|c_attn|c_proj|c_fc)\.weight$", name)]:
            weights[name.removesuffix("weight") + "bias"] = torch.zeros(weights[name].shape[-1])
    return weights


def _llama_values(config: ModelConfig) -> dict[str, Any]:
    return {
        "model_type": "qwen3" if config.qk_norm else "llama",
        "architectures": ["Qwen3ForCausalLM" if config.qk_norm else "LlamaForCausalLM"],
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": num_key_value_heads(config),
        "head_dim": head_dim(config),
        "hidden_size": config.embedding_dim,
        "intermediate_size": intermediate_size(config),
        "max_position_embeddings": config.max_seq_length,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "use_sliding_window": False,
        "attention_dropout": config.dropout,
    }


def from_huggingface(values: dict[str, Any], weights: dict[str, Tensor]) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Return our configuration and state dict for a Hugging Face GPT-2, Llama or Qwen3 model.

    Raises CheckpointError for other architectures, or settings this package's models do not have.
    """
    kind = values.get("model_type")
    if kind == "gpt2":
        return _from_gpt2(values, weights)
    if kind not in ("llama", "qwen3"):
        raise CheckpointError(f"model_type {kind!r} is not supported: only gpt2, llama and qwen3 can be opened")
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    unsupported = {
        "attention_bias": bool(values.get("attention_bias")),
        "mlp_bias": bool(values.get("mlp_bias")),
        "use_sliding_window": bool(values.get("use_sliding_window")),
        "rope scaling": rope.get("rope_type", rope.get("type", "default")) != "default",
        "hidden_act": values.get("hidden_act", "silu") != "silu",
    }
    if any(unsupported.values()):
        raise CheckpointError(
            "this model uses " + ", ".join(k for k, v in unsupported.items() if v) + ", not supported"
        )
    config = ModelConfig(
        model_type="llama",
        vocab_size=values["vocab_size"],
        num_layers=values["num_hidden_layers"],
        num_heads=values["num_attention_heads"],
        num_key_value_heads=values.get("num_key_value_heads"),
        head_dim=values.get("head_dim"),
        embedding_dim=values["hidden_size"],
        intermediate_size=values["intermediate_size"],
        max_seq_length=values["max_position_embeddings"],
        norm_eps=values.get("rms_norm_eps", 1e-6),
        rope_theta=values.get("rope_theta") or rope.get("rope_theta", 10000.0),
        qk_norm=kind == "qwen3",
        tie_embeddings=values.get("tie_word_embeddings", False),
        dropout=values.get("attention_dropout", 0.0),
        bias=False,
    )
    return config, _without_tied_head(weights, config)


def _from_gpt2(values: dict[str, Any], weights: dict[str, Tensor]) -> tuple[ModelConfig, dict[str, Tensor]]:
    activations: dict[str, Literal["gelu_tanh", "gelu"]] = {
        "gelu_new": "gelu_tanh",
        "gelu_pytorch_tanh": "gelu_tanh",
        "gelu": "gelu",
    }
    activation = values.get("activation_function", "gelu_new")
    if activation not in activations:
        raise CheckpointError(f"activation_function {activation!r} is not supported")
    config = ModelConfig(
        model_type="gpt",
        vocab_size=values["vocab_size"],
        num_layers=values["n_layer"],
        num_heads=values["n_head"],
        embedding_dim=values["n_embd"],
        max_seq_length=values["n_positions"],
        intermediate_size=values.get("n_inner"),
        activation=activations[activation],
        norm_eps=values.get("layer_norm_epsilon", 1e-5),
        dropout=values.get("resid_pdrop", 0.1),
        tie_embeddings=values.get("tie_word_embeddings", True),
        bias=True,
    )
    named = {
        (name if name.startswith(("transformer.", "lm_head.")) else f"transformer.{name}"): tensor
        for name, tensor in weights.items()
        if not name.endswith((".attn.bias", ".attn.masked_bias"))  # masks, not weights
    }
    ours = {name: tensor.t().contiguous() if _TRANSPOSED.search(name) else tensor for name, tensor in named.items()}
    return config, _without_tied_head(ours, config)


def _without_tied_head(weights: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    return {name: t for name, t in weights.items() if not (name == "lm_head.weight" and config.tie_embeddings)}
