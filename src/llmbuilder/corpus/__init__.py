"""The corpus engine: any documents to deduplicated, filtered, documented, tokenized shards.

Work is cut into units by the names of the sources alone, each stage of a unit is a file named by what went into it,
and `corpus.json` is replaced last. So a killed run continues, a changed folder costs what changed, and neither the
number of workers nor the engine changes a byte.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from llmbuilder.errors import MissingDependencyError

_NAMES = {"CorpusReport": "preparing", "prepare_corpus": "preparing"}
__all__ = sorted(_NAMES)

if TYPE_CHECKING:
    from llmbuilder.corpus.corpus_report import CorpusReport
    from llmbuilder.corpus.preparing import prepare_corpus


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        try:
            import daft
            import pyarrow
        except ImportError:
            raise MissingDependencyError("daft", "corpus", "preparing a corpus") from None
        return getattr(importlib.import_module(f"llmbuilder.corpus.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'llmbuilder.corpus' has no attribute {name!r}")
