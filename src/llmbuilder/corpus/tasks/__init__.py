"""What workers do with one unit: extract, refine, compare, count lines, write documents, write tokens.

A task is made once in each worker process from its settings, then run on units; units and results are plain values.
Results on disk are written whole or not at all, under names that follow from what went into them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from llmbuilder.corpus.tasks.compare import CountLines, Embed, SampleGrams, Shingle
from llmbuilder.corpus.tasks.extract import Extract
from llmbuilder.corpus.tasks.refine import Refine
from llmbuilder.corpus.tasks.tokenize import Tokenize
from llmbuilder.corpus.tasks.write import WriteDocuments


class Task(Protocol):
    """Made from settings, run on units."""

    def run(self, unit: dict[str, Any]) -> dict[str, Any]:
        """Return the result of one unit."""
        ...


TASKS: dict[str, Callable[[dict[str, Any]], Task]] = {
    "extract": Extract,
    "refine": Refine,
    "shingle": Shingle,
    "embed": Embed,
    "sample_grams": SampleGrams,
    "count_lines": CountLines,
    "write_documents": WriteDocuments,
    "tokenize": Tokenize,
}
