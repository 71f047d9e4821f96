"""Documents in, training windows out.

Names are resolved on first use: reading documents needs neither PyTorch nor a tokenizer.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_NAMES = {
    "DataLoader": "loader",
    "Document": "documents",
    "LoadReport": "loader",
    "TextDataset": "dataset",
    "TokenWindows": "dataset",
    "clean_document": "cleaning",
    "default_corpus": "interpreter_docs",
    "write_corpus": "corpus_files",
}
__all__ = sorted(_NAMES)

if TYPE_CHECKING:
    from llmbuilder.data.cleaning import clean_document
    from llmbuilder.data.corpus_files import write_corpus
    from llmbuilder.data.dataset import TextDataset, TokenWindows
    from llmbuilder.data.documents import Document
    from llmbuilder.data.interpreter_docs import default_corpus
    from llmbuilder.data.loader import DataLoader, LoadReport


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"llmbuilder.data.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'llmbuilder.data' has no attribute {name!r}")
