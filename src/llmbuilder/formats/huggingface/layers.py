"""What a Hugging Face `config.json` says of layers: sizes, which attend to a window only, which know no positions.

The families say the same in different fields, and differ in what they take where a field is absent.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from llmbuilder.config.model_schema import ModelConfig
from llmbuilder.config.sizes import head_dim, intermediate_size, num_key_value_heads, windowed_layers

_FULL, _WINDOW = "full_attention", "sliding_attention"


def read_layers(known: dict[str, Any]) -> list[str]:
    """Put into `known` what `ModelConfig` calls `layers_without_positions`, `sliding_window`, `sliding_window_layers`.

    Returns what is not supported. The fields of a family tell which rule it follows.
    """
    count, wrong = known["num_hidden_layers"], list[str]()
    known["layers_without_positions"] = _without_positions(known, count, wrong) if "no_rope_layers" in known else []
    window = known.get("sliding_window") if known.get("use_sliding_window", True) else None
    layers = [] if wrong else _windowed(known, count, window, wrong)
    known["sliding_window"] = window if layers else None
    known["sliding_window_layers"] = layers if 0 < len(layers) < count else None
    return wrong


def _without_positions(known: dict[str, Any], count: int, wrong: list[str]) -> list[int]:
    """Return the layers that SmolLM3's list marks by 0; without a list every fourth layer is one."""
    uses, interval = known["no_rope_layers"], known["no_rope_layer_interval"]
    if uses is None and isinstance(interval, int) and interval > 0:
        return list(range(interval - 1, count, interval))
    if isinstance(uses, list) and len(uses) >= count and all(use in (0, 1) for use in uses):
        return [number for number in range(count) if not uses[number]]
    name = "no_rope_layer_interval" if uses is None else "no_rope_layers"
    wrong.append(f"{name} {known[name]!r}"[:100])
    return []


def _windowed(known: dict[str, Any], count: int, window: Any, wrong: list[str]) -> list[int]:
    """Return the layers that a window limits; what is not supported is added to `wrong`."""
    kinds = known["layer_types"] or []
    if not isinstance(kinds, list) or 0 < len(kinds) < count:
        wrong.append(f"layer_types {kinds!r}"[:100])
        return []
    said = "" if window is None else f" with sliding_window {window}"
    sliding = [number for number, kind in enumerate(kinds[:count]) if kind == _WINDOW]
    others = sorted({str(kind) for kind in kinds[:count]} - {_FULL} - ({_WINDOW} if window is not None else set()))
    if others:
        wrong.append(f"layer_types {', '.join(others)}"[:100] + said)
        return []
    if "sliding_window_pattern" in known:  # Gemma 3's: all layers but each sixth
        return sliding if kinds else _between(known["sliding_window_pattern"], count, window, wrong)
    if window is None:
        return []
    if "no_rope_layers" in known:
        return sliding if kinds else list(known["layers_without_positions"])
    if "max_window_layers" not in known:  # Mistral's window is that of all layers
        if kinds and len(sliding) < count:
            wrong.append(f"layer_types {_FULL}{said}")
        return list(range(count))
    begin = known["max_window_layers"]
    if not kinds and not isinstance(begin, int):
        wrong.append(f"max_window_layers {begin!r}{said}")
        return []
    return sliding if kinds else list(range(max(0, begin), count))


def _between(period: Any, count: int, window: Any, wrong: list[str]) -> list[int]:
    """Return the layers before each `period`-th one."""
    if isinstance(period, bool) or not isinstance(period, int) or period < 1 or window is None:
        wrong.append(f"sliding_window_pattern {period!r} with sliding_window {window!r}"[:100])
        return []
    return [number for number in range(count) if (number + 1) % period]


def shape_fields(config: ModelConfig) -> dict[str, Any]:
    """Return the fields of sizes, which all families but GPT-2 call alike."""
    return {
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": num_key_value_heads(config),
        "head_dim": head_dim(config),
        "hidden_size": config.embedding_dim,
        "intermediate_size": intermediate_size(config),
        "max_position_embeddings": config.max_seq_length,
        "rms_norm_eps": config.norm_eps,
        "attention_dropout": config.dropout,
    }


def kinds_of_layers(config: ModelConfig, windowed: Collection[int]) -> list[str]:
    """Return the name of each layer's kind; those that are `windowed` attend to a window."""
    return [_WINDOW if number in windowed else _FULL for number in range(config.num_layers)]


def window_fields(config: ModelConfig) -> dict[str, Any]:
    """Return the fields that limit layers to a window, for families that say it layer by layer."""
    windowed = windowed_layers(config)
    if not windowed:
        return {"use_sliding_window": False, "sliding_window": None}
    kinds = kinds_of_layers(config, windowed)
    return {"use_sliding_window": True, "sliding_window": config.sliding_window, "layer_types": kinds}


def position_fields(config: ModelConfig) -> dict[str, Any]:
    """Return the field that says which layers know positions: 1 for those that do."""
    return {"no_rope_layers": [int(n not in config.layers_without_positions) for n in range(config.num_layers)]}
