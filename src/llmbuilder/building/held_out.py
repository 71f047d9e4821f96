"""The names of the documents that a build did not train on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from llmbuilder.corpus.corpus_files import manifest_path
from llmbuilder.data import TextDataset


def held_out_names(dataset: TextDataset, corpus: Path) -> list[str]:
    """Return the names of the documents in a corpus file that are held out, shortened by the folder they share.

    Where a document was cut, the name says so. Empty without a validation part, and for a corpus that `data prepare`
    made, which has no list of its documents beside it.
    """
    has_none = dataset.is_prepared and dataset.validation is None
    if has_none or not manifest_path(corpus).is_file():
        return []
    sources: list[dict[str, Any]] = json.loads(manifest_path(corpus).read_text("utf-8"))["sources"]
    names = short_names([source["source"] or source["title"] or f"document {n}" for n, source in enumerate(sources, 1)])
    return [names[number] if is_whole else f"the end of {names[number]}"
            for number, is_whole in dataset.held_out_documents().items()]  # fmt: skip


def short_names(sources: list[str]) -> list[str]:
    """Return paths without the folder that all of them lie in; of a single one, the name alone."""
    if len(sources) == 1:
        return [os.path.basename(sources[0]) or sources[0]]
    try:
        shared = os.path.commonpath(sources)
    except ValueError:  # absolute beside relative ones
        return sources
    return [os.path.relpath(source, shared) if shared else source for source in sources]
