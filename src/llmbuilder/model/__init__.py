"""Models: `GPTModel` and `LlamaModel` behind `build_model`. They know no file.

`save_model`, `load_model` and `read_metadata` live in `llmbuilder.formats.model_file`; they can be imported from here,
too, and are looked up when first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from llmbuilder.model.base import LanguageModel
from llmbuilder.model.building import build_model
from llmbuilder.model.cache import KeyValueCache
from llmbuilder.model.gpt import GPTModel
from llmbuilder.model.llama import LlamaModel

if TYPE_CHECKING:
    from llmbuilder.formats.model_file import load_model, read_metadata, save_model

_FILE_FUNCTIONS = ("load_model", "read_metadata", "save_model")
__all__ = [
    "GPTModel",
    "KeyValueCache",
    "LanguageModel",
    "LlamaModel",
    "build_model",
    "load_model",
    "read_metadata",
    "save_model",
]


def __getattr__(name: str) -> Any:
    if name in _FILE_FUNCTIONS:
        return getattr(importlib.import_module("llmbuilder.formats.model_file"), name)
    raise AttributeError(f"module 'llmbuilder.model' has no attribute {name!r}")
