"""Models for other engines: GGUF for llama.cpp and Ollama, folders for transformers."""

from llmbuilder.export.gguf import QUANTIZATIONS, GGUFExport, export_gguf
from llmbuilder.export.huggingface import export_huggingface
from llmbuilder.export.verification import GGUFVerification, verify_gguf

__all__ = ["QUANTIZATIONS", "GGUFExport", "GGUFVerification", "export_gguf", "export_huggingface", "verify_gguf"]
