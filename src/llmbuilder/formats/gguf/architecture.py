"""What each metadata key of an architecture means for the computation.

A key is honoured, or known to change no prediction, or must have the value that changes nothing. Any other key of the
file's architecture is refused by its name unless it is zero, false or empty: a model that computes something else must
not open as if it did not.
Source: llama.cpp's llama-arch.cpp (names), llama-model.cpp (defaults) and models/ (what each architecture reads).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from llmbuilder.config.model_schema import ModelConfig, RopeScaling
from llmbuilder.errors import CheckpointError
from llmbuilder.formats.gguf.file import GGUFFile
from llmbuilder.formats.gguf.gemma import LAYERS_OF_OTHER_SCALE, WINDOWED_PERIOD
from llmbuilder.formats.gguf.positions import (
    FREQUENCY_DIVISORS,
    layers_without_positions,
    scaling_from_divisors,
    yarn_scaling,
)

_LARGEST = 2**31 - 1
_LEAST_OF_A_LAYER = 6  # tensors


@dataclass(frozen=True)
class _Architecture:
    family: Literal["gpt", "llama", "gemma3"]
    norm: str  # the key of its norms' epsilon
    qk_norm: bool = False
    leaves_out_positions: bool = False  # in the layers that `layers_without_positions` names


_RMS = "attention.layer_norm_rms_epsilon"
ARCHITECTURES = {
    "gpt2": _Architecture("gpt", "attention.layer_norm_epsilon"),
    "llama": _Architecture("llama", _RMS),
    "qwen2": _Architecture("llama", _RMS),
    "qwen3": _Architecture("llama", _RMS, qk_norm=True),
    "smollm3": _Architecture("llama", _RMS, leaves_out_positions=True),
    "gemma3": _Architecture("gemma3", _RMS, qk_norm=True),
}
_HONOURED = {
    "context_length", "embedding_length", "block_count", "feed_forward_length", "attention.head_count",
    "attention.head_count_kv", "attention.key_length", "attention.value_length", "attention.layer_norm_epsilon",
    _RMS, "attention.sliding_window", "rope.dimension_count", "rope.freq_base", "rope.scaling.type",
    "rope.scaling.factor", "rope.scale_linear", "rope.scaling.original_context_length", "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow", "rope.scaling.attn_factor", "attention.scale",
}  # fmt: skip
_PERIOD, _WINDOWED_BASE = "attention.sliding_window_pattern", "rope.freq_base_swa"
_HONOURED_ONLY_OF = {"gemma3": {_PERIOD, _WINDOWED_BASE}}
_WITHOUT_EFFECT = {
    "vocab_size": "the token table has as many rows as there are tokens",
    "pooling_type": "only embeddings of whole texts use it",
    "rope.scaling.finetuned": "it says how the model was made",
    "decoder_start_token_id": "only models with an encoder use it",
}
# Of all other keys, zero is llama.cpp's word for "off".
_ONLY: dict[str, tuple[Any, ...]] = {
    "attention.causal": (True,),
    "logit_scale": (0.0, 1.0),
    "residual_scale": (0.0, 1.0),
    "embedding_scale": (0.0, 1.0),
    "tensor_data_layout": ("Meta AI original pth", "reference"),
}


def config_of(file: GGUFFile) -> ModelConfig:
    """Return the configuration of a file's model.

    Raises CheckpointError for an architecture this package does not have, and one that names every key that would make
    the model compute something else.
    """
    name = file.fields.get("general.architecture")
    if not isinstance(name, str):
        raise CheckpointError(f"{file.path} has no general.architecture: it holds no model")
    if name not in ARCHITECTURES:
        raise CheckpointError(
            f"{file.path}: the architecture {name!r} is not supported: only {', '.join(ARCHITECTURES)} can be opened"
        )
    _require_whole_model(file)
    known = _Known(file, name)
    wrong = [*_not_understood(known), *_not_computed(known)]
    if wrong:
        raise CheckpointError(f"{file.path}: this model uses {', '.join(wrong)}, not supported")
    return _config(known, ARCHITECTURES[name])


def _require_whole_model(file: GGUFFile) -> None:
    kind, parts = file.fields.get("general.type", "model"), file.fields.get("split.count", 1)
    if not isinstance(kind, str) or kind != "model":
        raise CheckpointError(f"{file.path} holds no model: its general.type is {_shown(kind)}")
    if not isinstance(parts, int) or parts > 1:
        raise CheckpointError(
            f"{file.path} is one of {_shown(parts)} parts of a model: join them with llama-gguf-split --merge"
        )


class _Known:
    """The keys of a file's architecture, without its name before them."""

    def __init__(self, file: GGUFFile, architecture: str) -> None:
        self.file, self.architecture = file, architecture
        prefix = f"{architecture}."
        self.values = {key.removeprefix(prefix): value for key, value in file.fields.items() if key.startswith(prefix)}

    def wrong(self, key: str, reason: str) -> CheckpointError:
        return CheckpointError(f"{self.file.path}: {self.architecture}.{key} {reason}")

    def integer(self, key: str, default: int | None = None, *, least: int = 1) -> int:
        """Return a count. Raises CheckpointError for none, or one that differs from layer to layer."""
        value = self.values.get(key, default)
        if value is None:
            raise self.wrong(key, "is missing")
        if isinstance(value, np.ndarray) and value.size and (value == value[0]).all():
            value = value[0].item()
        if isinstance(value, np.ndarray):
            raise self.wrong(key, "differs from layer to layer, which is not supported")
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _LARGEST:
            raise self.wrong(key, f"is {_shown(value)}, no count")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """Return a number. Raises CheckpointError for what is none."""
        value = self.values.get(key, default)
        if value is None:
            raise self.wrong(key, "is missing")
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.wrong(key, f"is {_shown(value)}, no number")
        return float(value)


def _not_understood(known: _Known) -> Iterator[str]:
    for key, value in known.values.items():
        if key in _HONOURED | _HONOURED_ONLY_OF.get(known.architecture, set()) or key in _WITHOUT_EFFECT:
            continue
        if isinstance(value, np.ndarray) or key not in _ONLY:
            harmless = not np.any(value) if isinstance(value, np.ndarray) else not value
        else:
            harmless = value in _ONLY[key]
        if not harmless:
            yield f"{known.architecture}.{key} {_shown(value)}"


def _not_computed(known: _Known) -> Iterator[str]:
    """Yield what honoured keys say that no model of this package does."""
    window = known.integer("attention.sliding_window", 0, least=0)
    if ARCHITECTURES[known.architecture].family == "gpt":
        yield from [f"{known.architecture}.attention.sliding_window {window}"] if window else []
        return
    if known.architecture == "gemma3":
        yield from _not_gemma3(known, window)
    heads = known.integer("attention.head_count")
    width = known.integer("attention.key_length", max(1, known.integer("embedding_length") // heads))
    for key in ("attention.value_length", "rope.dimension_count"):
        if (other := known.integer(key, width)) != width:
            yield f"{known.architecture}.{key} {other} beside heads of {width}"
    scale = known.number("attention.scale", 0.0)
    if scale and not math.isclose(scale, width**-0.5, rel_tol=1e-5):
        yield f"{known.architecture}.attention.scale {scale}"


def _not_gemma3(known: _Known, window: int) -> Iterator[str]:
    """Yield how a file differs from what llama.cpp and this package both compute."""
    if not window:
        yield "gemma3 without attention.sliding_window"
    if known.integer("block_count") == LAYERS_OF_OTHER_SCALE:
        yield f"gemma3 of {LAYERS_OF_OTHER_SCALE} layers, which has another scale of attention"
    if known.values.get("rope.scaling.type", "linear") not in ("linear", "none"):
        yield f"gemma3.rope.scaling.type {_shown(known.values['rope.scaling.type'])}"


def _config(known: _Known, architecture: _Architecture) -> ModelConfig:
    common: dict[str, Any] = {
        "model_type": architecture.family,
        "num_layers": known.integer("block_count"),
        "num_heads": known.integer("attention.head_count"),
        "embedding_dim": known.integer("embedding_length"),
        "intermediate_size": known.integer("feed_forward_length"),
        "max_seq_length": known.integer("context_length"),
        "norm_eps": known.number(architecture.norm),
        "vocab_size": _rows(known.file),
        "tie_embeddings": "output.weight" not in known.file.tensors,
        "dropout": 0.0,
    }
    _require_layers(known.file, common["num_layers"])
    if architecture.family == "gpt":
        return ModelConfig(**common, bias=True, activation="gelu_tanh")
    heads, width = common["num_heads"], common["embedding_dim"]
    if architecture.family == "gemma3":
        period = known.integer(_PERIOD, WINDOWED_PERIOD)
        common["sliding_window_layers"] = [n for n in range(common["num_layers"]) if (n + 1) % period]
        common["windowed_rope_theta"] = known.number(_WINDOWED_BASE, 10000.0)
    config = ModelConfig(
        **common,
        num_key_value_heads=known.integer("attention.head_count_kv", heads),
        head_dim=known.integer("attention.key_length", max(1, width // heads)),
        rope_theta=known.number("rope.freq_base", 10000.0),
        rope_scaling=_scaling(known),
        qk_norm=architecture.qk_norm,
        bias=False,
        attention_bias="blk.0.attn_q.bias" in known.file.tensors,
        output_bias="blk.0.attn_output.bias" in known.file.tensors,
        mlp_bias="blk.0.ffn_up.bias" in known.file.tensors,
        sliding_window=known.integer("attention.sliding_window", 0, least=0) or None,
        layers_without_positions=layers_without_positions(
            common["num_layers"] if architecture.leaves_out_positions else 0
        ),
    )
    if FREQUENCY_DIVISORS not in known.file.tensors:
        return config
    divisors = torch.from_numpy(known.file.read(FREQUENCY_DIVISORS))
    if config.rope_scaling is not None:
        raise CheckpointError(f"{known.file.path}: {FREQUENCY_DIVISORS} beside rope.scaling is not supported")
    return config.model_copy(update={"rope_scaling": scaling_from_divisors(divisors, config, known.file.path)})


def _scaling(known: _Known) -> RopeScaling | None:
    kind = known.values.get("rope.scaling.type", "linear")
    factor = known.number("rope.scaling.factor", 0.0) or known.number("rope.scale_linear", 0.0) or 1.0
    if kind == "none" or (kind == "linear" and factor == 1.0):
        return None
    if kind not in ("linear", "yarn") or factor < 1:
        raise known.wrong("rope.scaling.type", f"is {kind!r} by {factor}, not supported: linear and yarn are")
    if kind == "linear":
        return RopeScaling(kind="linear", factor=factor)
    return yarn_scaling(
        factor,
        known.integer("rope.scaling.original_context_length", 0, least=0) or None,
        known.number("rope.scaling.yarn_beta_fast", 0.0) or 32.0,
        known.number("rope.scaling.yarn_beta_slow", 0.0) or 1.0,
        known.number("rope.scaling.attn_factor", 0.0) or 1.0,
    )


def _rows(file: GGUFFile) -> int:
    table = file.tensors.get("token_embd.weight")
    if table is None:
        raise CheckpointError(f"{file.path} has no tensor token_embd.weight: it holds no whole model")
    return table.shape[0]


def _require_layers(file: GGUFFile, count: int) -> None:
    """Raise CheckpointError unless there are tensors of just as many layers, before a model of that size is made."""
    there = [name.split(".")[1] for name in file.tensors if name.startswith("blk.")]
    if len(set(there)) != count:
        raise CheckpointError(
            f"{file.path}: block_count is {count:,}, and there are tensors of {len(set(there)):,} layers"
        )
    if len(there) < _LEAST_OF_A_LAYER * count:
        raise CheckpointError(f"{file.path}: its {count:,} layers have {len(there):,} tensors, fewer than any model's")


def _shown(value: Any) -> str:
    text = repr(
        value[:20].tolist() if isinstance(value, np.ndarray) else value[:60] if isinstance(value, str) else value
    )
    return text if len(text) <= 60 else f"{text[:57]}..."
