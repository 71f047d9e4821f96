"""Passages of documents that have to do with a question, found by their words."""

from llmbuilder.retrieval.index import PassageIndex
from llmbuilder.retrieval.passages import Passage, cut_passages, fit_passages, join_passages

__all__ = ["Passage", "PassageIndex", "cut_passages", "fit_passages", "join_passages"]
