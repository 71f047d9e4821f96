"""The stages of the way from documents to a corpus, and the words for them that people read."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]  # a stage of `AT_WORK`, how much of it is done, all of it


def no_progress(stage: str, done: int, total: int) -> None:
    """Show nothing."""


# Where a document can be left out, in the order of the way, and what is said of those that are.
DROPPED_AT = {
    "extract": "could not be read",
    "clean": "empty after cleaning",
    "filter": "filtered out",
    "contamination": "with evaluation texts",
    "exact": "exact duplicates",
    "near": "near-duplicates",
    "semantic": "duplicates by meaning",
    "lines": "with nothing but repeated lines",
}


def left_out_in_words(stage: str, count: int) -> str:
    """Return "2 exact duplicates", "1 exact duplicate", "3 filtered out"."""
    words = DROPPED_AT[stage]
    return f"{count:,} {words.replace('duplicates', 'duplicate') if count == 1 else words}"


# Reasons that a stage gives itself; readers, filters and checks word their own.
NOTHING_LEFT = "nothing left after cleaning"
REPEATS = {
    "exact": "repeats another document",
    "near": "is much like another document",
    "semantic": "says the same as another document",
}
ONLY_REPEATED_LINES = "all its lines are in many documents"

# What long work is at, as progress names it.
AT_WORK = {
    "extract": "reading",
    "refine": "cleaning and filtering",
    "deduplicate": "finding duplicates",
    "shingle": "comparing",
    "embed": "embedding",
    "count_lines": "counting lines",
    "write_documents": "writing documents",
    "sample_grams": "dividing",
    "tokenizer": "training a tokenizer",
    "tokenize": "tokenizing",
    "score": "scoring tokens",
}
