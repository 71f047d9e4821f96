"""Hugging Face's form of a model: `config.json` values and state dict, both ways.

For the Llama family and its relatives names and layouts are the same and only the configuration is translated. GPT-2
stores its matrices transposed there and always has biases, so absent ones become zeros; Gemma 3 is in `gemma`. `fields`
says what each field of a `config.json` does to the computation, `families` as what a model is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import torch
from pydantic import ValidationError
from torch import Tensor

from llmbuilder.config.schema import ModelConfig
from llmbuilder.config.sizes import intermediate_size
from llmbuilder.errors import CheckpointError
from llmbuilder.formats.huggingface.families import family_of, needs_zero_biases
from llmbuilder.formats.huggingface.fields import understood
from llmbuilder.formats.huggingface.gemma import gemma3_values, gemma3_weight, gemma3_weights
from llmbuilder.formats.huggingface.layers import shape_fields
from llmbuilder.formats.huggingface.rotary import rotary_fields
from llmbuilder.model.base import LanguageModel
from llmbuilder.tokenizer import Tokenizer

_TRANSPOSED = re.compile(r"(attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.weight$")
NewWeights = Callable[[str, Tensor], Tensor]  # a weight of a file, and the name it has here, to the weight it is here
_ACTIVATIONS = {"gelu_tanh": "gelu_new", "gelu": "gelu"}


def to_huggingface(model: LanguageModel, tokenizer: Tokenizer | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the `config.json` values, with the tokenizer's special ids, and the state dict under HF's names.

    Raises ExportError for a model that no family of transformers computes.
    """
    config = model.config
    ids = tokenizer.generation_ids() if tokenizer is not None else {}
    common: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tie_embeddings,
        # Without these, transformers takes the ids that the first model of the family had.
        **{"bos_token_id": None, "eos_token_id": None, "pad_token_id": None, **ids},
    }
    if config.model_type == "gpt":
        return {**common, **_gpt2_values(config)}, _gpt2_weights(model)
    if config.model_type == "gemma3":
        return {**common, **gemma3_values(config)}, gemma3_weights(model)
    return {**common, **_llama_values(config)}, _llama_weights(model)


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
    family = family_of(config)
    return {
        "model_type": family.model_type,
        "architectures": [family.architecture],
        **shape_fields(config),
        "hidden_act": "silu",
        **rotary_fields(config),
        **family.fields(config),
    }


def _llama_weights(model: LanguageModel) -> dict[str, Tensor]:
    weights = {name: tensor.contiguous() for name, tensor in model.weights().items()}
    for projection in needs_zero_biases(model.config):
        for name in [name for name in weights if name.endswith(f"{projection}.weight")]:
            weights[name.removesuffix("weight") + "bias"] = weights[name].new_zeros(len(weights[name]))
    return weights


def config_from_huggingface(values: Mapping[str, Any]) -> tuple[ModelConfig, NewWeights]:
    """Return our configuration for the values of a `config.json`, and what turns its weights into ours.

    Raises CheckpointError for families this package does not have, and for settings that its models do not have, all by
    name.
    """
    known, kind = understood(values), values["model_type"]
    try:
        config = _gpt2_config(known) if kind == "gpt2" else _llama_config(known, kind)
    except ValidationError as error:
        details = (f"{detail['loc'][-1]}: {detail['msg']}, not {detail['input']!r}" for detail in error.errors())
        raise CheckpointError(f"its config.json is wrong: {'; '.join(details)}"[:500]) from error
    renew = {"gpt2": _gpt2_weight, "gemma3_text": gemma3_weight}.get(kind, _as_it_is)
    return config, partial(renew, config=config, known=known)


def _as_it_is(_name: str, tensor: Tensor, config: ModelConfig, known: dict[str, Any]) -> Tensor:
    return tensor


def _llama_config(known: dict[str, Any], kind: str) -> ModelConfig:
    """Return the configuration of a model of the Llama family or of Gemma 3, which has the same fields and one more."""
    has_biases = kind == "qwen2" or known.get("attention_bias", False)
    return ModelConfig(
        model_type="gemma3" if kind == "gemma3_text" else "llama",
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
        rope_scaling=known["rope_scaling"],
        layers_without_positions=known["layers_without_positions"],
        sliding_window=known["sliding_window"],
        sliding_window_layers=known["sliding_window_layers"],
        windowed_rope_theta=known.get("windowed_rope_theta") if known["sliding_window"] is not None else None,
        qk_norm=kind in ("qwen3", "gemma3_text"),
        attention_bias=has_biases,
        output_bias=has_biases and kind != "qwen2",
        mlp_bias=known.get("mlp_bias", False),
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


def _gpt2_weight(name: str, tensor: Tensor, config: ModelConfig, known: dict[str, Any]) -> Tensor:
    """Return a GPT-2 weight as nanoGPT has it: matrices the other way round, scaled attention in the queries."""
    ours = tensor.t().contiguous() if _TRANSPOSED.search(name) and tensor.dim() == 2 else tensor
    layer = re.fullmatch(r"transformer\.h\.(\d+)\.attn\.c_attn\.(weight|bias)", name)
    # The scale that makes the usual one of attention, 1/sqrt(head width), the one that the file asks for.
    scale = 1.0 if known["scale_attn_weights"] else (config.embedding_dim / max(1, config.num_heads)) ** 0.5
    if layer is not None and known["scale_attn_by_inverse_layer_idx"]:
        scale /= int(layer[1]) + 1
    if layer is None or scale == 1.0 or ours.dim() == 0:
        return ours
    return torch.cat([ours[: config.embedding_dim] * scale, ours[config.embedding_dim :]])
