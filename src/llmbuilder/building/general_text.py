"""A general text that every machine has: what a model forgets shows on it, as far as the owner's documents lack it.

It is a part of what Python itself brings: the topics of its help, or where the documents hold those, the docstrings of
some modules of its library. Both are English prose of a technical kind, with pieces of code.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmbuilder.data import TextDataset
from llmbuilder.documents.interpreter_docs import docstrings
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.tokens.overlap import run_length, shared_runs

HELP, LIBRARY = "the topics of Python's help", "docstrings of Python's library"
_OF_A_TOPIC = 1500  # characters; few topics are long
_MODULES = ("argparse", "calendar", "datetime", "difflib", "fractions", "ipaddress", "locale", "mailbox", "optparse",
            "pathlib", "random", "statistics", "tarfile", "textwrap", "threading", "zipfile")  # fmt: skip
_KNOWN = 0.1  # of its runs of tokens in the training text: that is no text to forget


@dataclass(frozen=True)
class GeneralText:
    """What the text is, in words, and its tokens."""

    name: str
    tokens: np.ndarray


def find_general_text(dataset: TextDataset, tokenizer: Tokenizer) -> GeneralText | None:
    """Return the first general text that the training part does not hold, or None if it holds all of them."""
    run = run_length(dataset.info.tokens, dataset.info.bytes_of_text)
    for name, texts in ((HELP, help_topics()), (LIBRARY, library_docstrings())):
        tokens = _tokens(texts, tokenizer)
        share = shared_runs(dataset.train.tokens, tokens, run)
        if share is not None and share < _KNOWN:
            return GeneralText(name, tokens)
    return None


def _tokens(texts: Iterable[str], tokenizer: Tokenizer) -> np.ndarray:
    parts = tokenizer.encode_arrays(["\n\n".join(texts)])
    return np.concatenate(parts).astype(np.int64)


def help_topics() -> Iterable[str]:
    """Return how the topics of Python's help begin."""
    from pydoc_data import topics

    return (text[:_OF_A_TOPIC] for _, text in sorted(topics.topics.items()))


def library_docstrings() -> Iterable[str]:
    """Return the docstrings of some modules of Python's library, as far as their sources are there."""
    library = Path(sysconfig.get_paths()["stdlib"])
    files = (library / f"{name}.py" for name in _MODULES)
    return (text for file in files if file.is_file() for text in docstrings(file))
