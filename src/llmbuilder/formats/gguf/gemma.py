"""What llama.cpp's gemma3 computes, which is part of what the family can be.

Source: llama.cpp's models/gemma3.cpp and llama-model.cpp.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llmbuilder.config.model_schema import ModelConfig
from llmbuilder.config.sizes import head_dim, layers_with_window
from llmbuilder.errors import ExportError

WINDOWED_PERIOD = 6  # all layers but each sixth have a window
LAYERS_OF_OTHER_SCALE = 62  # those of Gemma 3 27B, by which llama.cpp knows that its attention has another scale


def require_gemma3(config: ModelConfig) -> None:
    """Raise ExportError for a model of the family that llama.cpp would compute otherwise."""
    if layers_with_window(config) != {n for n in range(config.num_layers) if (n + 1) % WINDOWED_PERIOD}:
        raise _no_form("has a window in all layers but each sixth")
    if config.rope_scaling is not None and config.rope_scaling.kind != "linear":
        raise _no_form("stretches rotary positions in no way but linearly")
    if config.num_layers == LAYERS_OF_OTHER_SCALE and head_dim(config) != config.embedding_dim // config.num_heads:
        raise _no_form(f"takes a model of {LAYERS_OF_OTHER_SCALE} layers for the one with another scale of attention")


def gemma3_fields(config: ModelConfig) -> Iterator[tuple[str, Any]]:
    """Yield the keys that only this architecture has, with their values."""
    yield "attention.sliding_window", config.sliding_window
    yield "rope.freq_base_swa", float(config.windowed_rope_theta or config.rope_theta)


def _no_form(what: str) -> ExportError:
    return ExportError(f"llama.cpp's gemma3 {what}: this model cannot be exported to it")
