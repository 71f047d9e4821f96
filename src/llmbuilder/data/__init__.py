"""Documents in, training windows out.

Names are resolved on first use: reading documents needs neither PyTorch nor a tokenizer.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_NAMES = {
    "ContaminationCheck": "contamination",
    "DataLoader": "loader",
    "Document": "documents",
    "DocumentFilter": "filtering",
    "LoadReport": "loader",
    "NearDuplicateSettings": "near_duplicates",
    "TextDataset": "dataset",
    "TokenWindows": "dataset",
    "clean_document": "cleaning",
    "default_corpus": "interpreter_docs",
    "detect_language": "languages",
    "find_near_duplicates": "near_duplicates",
    "redact": "redaction",
    "write_corpus": "corpus_files",
}
__all__ = sorted(_NAMES)

if TYPE_CHECKING:
    from llmbuilder.data.cleaning import clean_document
    from llmbuilder.data.contamination import ContaminationCheck
    from llmbuilder.data.corpus_files import write_corpus
    from llmbuilder.data.dataset import TextDataset, TokenWindows
    from llmbuilder.data.documents import Document
    from llmbuilder.data.filtering import DocumentFilter
    from llmbuilder.data.interpreter_docs import default_corpus
    from llmbuilder.data.languages import detect_language
    from llmbuilder.data.loader import DataLoader, LoadReport
    from llmbuilder.data.near_duplicates import NearDuplicateSettings, find_near_duplicates
    from llmbuilder.data.redaction import redact


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"llmbuilder.data.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'llmbuilder.data' has no attribute {name!r}")
