"""Models: `GPTModel` and `LlamaModel` behind `build_model`, and their files."""

from llmbuilder.model.base import LanguageModel
from llmbuilder.model.building import build_model
from llmbuilder.model.cache import KeyValueCache
from llmbuilder.model.gpt import GPTModel
from llmbuilder.model.llama import LlamaModel
from llmbuilder.model.saving import load_model, read_metadata, save_model

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
