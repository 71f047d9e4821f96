"""GGUF, the file format of llama.cpp and Ollama: reading beside writing."""

from llmbuilder.formats.gguf.reading import read_gguf, read_gguf_metadata
from llmbuilder.formats.gguf.writing import GGUFExport, architecture_name, write_gguf

__all__ = ["GGUFExport", "architecture_name", "read_gguf", "read_gguf_metadata", "write_gguf"]
