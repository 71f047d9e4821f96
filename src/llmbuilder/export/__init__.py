"""Models for other engines: GGUF for llama.cpp and Ollama, folders for transformers."""

from llmbuilder.export.adapter_to_gguf import export_gguf_adapter
from llmbuilder.export.to_gguf import export_gguf
from llmbuilder.export.to_huggingface import export_huggingface
from llmbuilder.export.verification import GGUFVerification, verify_gguf
from llmbuilder.formats.gguf import GGUFExport
from llmbuilder.formats.quantizations import QUANTIZATIONS

__all__ = [
    "QUANTIZATIONS",
    "GGUFExport",
    "GGUFVerification",
    "export_gguf",
    "export_gguf_adapter",
    "export_huggingface",
    "verify_gguf",
]
