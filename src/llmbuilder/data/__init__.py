"""Documents in, training windows out.

Names are resolved on first use: reading documents needs neither PyTorch nor a tokenizer.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_NAMES = {
    "ContaminationCheck": "refining.contamination",
    "DataLoader": "data.loader",
    "Document": "documents.document",
    "DocumentFilter": "refining.filtering",
    "LoadReport": "corpus.load_report",
    "NearDuplicateSettings": "duplicates.near",
    "TextDataset": "data.dataset",
    "TokenWindows": "tokens.windows",
    "clean_document": "refining.cleaning",
    "default_corpus": "documents.interpreter_docs",
    "detect_language": "refining.languages",
    "find_near_duplicates": "duplicates.near",
    "redact": "refining.redaction",
    "write_corpus": "corpus.corpus_files",
}
__all__ = sorted(_NAMES)

if TYPE_CHECKING:
    from llmbuilder.corpus.corpus_files import write_corpus
    from llmbuilder.corpus.load_report import LoadReport
    from llmbuilder.data.dataset import TextDataset
    from llmbuilder.data.loader import DataLoader
    from llmbuilder.documents.document import Document
    from llmbuilder.documents.interpreter_docs import default_corpus
    from llmbuilder.duplicates.near import NearDuplicateSettings, find_near_duplicates
    from llmbuilder.refining.cleaning import clean_document
    from llmbuilder.refining.contamination import ContaminationCheck
    from llmbuilder.refining.filtering import DocumentFilter
    from llmbuilder.refining.languages import detect_language
    from llmbuilder.refining.redaction import redact
    from llmbuilder.tokens.windows import TokenWindows


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"llmbuilder.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'llmbuilder.data' has no attribute {name!r}")
