"""Hugging Face's form of a model: `config.json` values and state dict, both ways.

For the Llama family names and layouts are the same and only the configuration is translated. GPT-2 stores its
matrices transposed there and always has biases, so absent ones become zeros. `huggingface_fields` says what each field
of a `config.json` does to the computation.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import torch
from pydantic import ValidationError
from torch import Tensor

from llmbuilder.config.schema import ModelConfig
from llmbuilder.config.sizes import head_dim, intermediate_size, num_key_value_heads
from llmbuilder.errors import CheckpointError
from llmbuilder.formats.huggingface_fields import understood
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

    Raises CheckpointError for other architectures, and for settings this package's models do not have, all by name.
    """
    known = understood(values)
    kind = values["model_type"]
    try:
        config = _gpt2_config(known) if kind == "gpt2" else _llama_config(known, kind)
    except ValidationError as error:
        details = (f"{detail['loc'][-1]}: {detail['msg']}, not {detail['input']!r}" for detail in error.errors())
        raise CheckpointError(f"its config.json is wrong: {'; '.join(details)}") from error
    ours = _from_gpt2_weights(weights, config, known) if kind == "gpt2" else weights
    return config, _without_tied_head(ours, config)


def _llama_config(known: dict[str, Any], kind: str) -> ModelConfig:
    return ModelConfig(
        model_type="llama",
        vocab_size=known["vocab_size"],
        num_layers=known["num_hidden_layers"],
        num_heads=known["num_attention_heads"],
        num_key_value_heads=known["num_key_value_heads"],
        head_dim=known["head_dim"],
        embedding_dim=known["hidden_size"],
        intermediate_size=known["intermediate_size"],
        max_seq_length=known["max_position_embeddings"],
        norm_eps=known["rms_norm_eps"],
        rope_theta=known["rope_theta"],
        qk_norm=kind == "qwen3",
        tie_embeddings=known["tie_word_embeddings"],
        dropout=known["attention_dropout"] or 0.0,
        bias=False,
    )


def _gpt2_config(known: dict[str, Any]) -> ModelConfig:
    activations: dict[str, Literal["gelu_tanh", "gelu"]] = {
        "gelu_new": "gelu_tanh",
        "gelu_pytorch_tanh": "gelu_tanh",
        "gelu_fast": "gelu_tanh",
        "gelu_accurate": "gelu_tanh",
        "gelu_python_tanh": "gelu_tanh",
        "gelu": "gelu",
        "gelu_python": "gelu",
    }
    activation = known["activation_function"]
    if not isinstance(activation, str) or activation not in activations:
        raise CheckpointError(f"activation_function {activation!r} is not supported: only {', '.join(activations)}")
    return ModelConfig(
        model_type="gpt",
        vocab_size=known["vocab_size"],
        num_layers=known["n_layer"],
        num_heads=known["n_head"],
        embedding_dim=known["n_embd"],
        max_seq_length=known["n_positions"],
        intermediate_size=known["n_inner"],
        activation=activations[activation],
        norm_eps=known["layer_norm_epsilon"],
        dropout=known["resid_pdrop"],
        tie_embeddings=known["tie_word_embeddings"],
        bias=True,
    )


def _from_gpt2_weights(weights: dict[str, Tensor], config: ModelConfig, known: dict[str, Any]) -> dict[str, Tensor]:
    named = {
        (name if name.startswith(("transformer.", "lm_head.")) else f"transformer.{name}"): tensor
        for name, tensor in weights.items()
        if not name.endswith((".attn.bias", ".attn.masked_bias"))  # masks, not weights
    }
    ours = {name: tensor.t().contiguous() if _TRANSPOSED.search(name) else tensor for name, tensor in named.items()}
    return {name: _with_scaled_queries(name, tensor, config, known) for name, tensor in ours.items()}


def _with_scaled_queries(name: str, tensor: Tensor, config: ModelConfig, known: dict[str, Any]) -> Tensor:
    """Return the weights that make the usual scale of attention, 1/sqrt(head width), the one that the file asks for."""
    layer = re.fullmatch(r"transformer\.h\.(\d+)\.attn\.c_attn\.(weight|bias)", name)
    scale = 1.0 if known["scale_attn_weights"] else (config.embedding_dim / max(1, config.num_heads)) ** 0.5
    if layer is not None and known["scale_attn_by_inverse_layer_idx"]:
        scale /= int(layer[1]) + 1
    if layer is None or scale == 1.0:
        return tensor
    return torch.cat([tensor[: config.embedding_dim] * scale, tensor[config.embedding_dim :]])


def _without_tied_head(weights: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    return {name: t for name, t in weights.items() if not (name == "lm_head.weight" and config.tie_embeddings)}
