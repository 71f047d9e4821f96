"""What `corpus.json` says: counts of every stage, drops by reason, settings, versions, files, a fingerprint of all."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from llmbuilder.config.schema import Config
from llmbuilder.corpus.decisions import Decisions
from llmbuilder.corpus.tokenize_task import PARTS, merged
from llmbuilder.tokenizer import Tokenizer

FORMAT = 2  # of what every stage writes; another one is worked on anew


def describe_corpus(
    *,
    inputs: list[str],
    config: Config,
    versions: dict[str, str],
    receipts: list[dict[str, Any]],
    decisions: Decisions,
    tokens: list[dict[str, Any]],
    tokenizer: Tokenizer | None,
) -> dict[str, Any]:
    """Return the description of a finished corpus. It depends on nothing but sources, settings and versions."""
    from llmbuilder import __version__

    names = [receipt["documents_file"] for receipt in receipts if receipt["documents_file"]]
    parts = {part: merged(tokens, part) for part in PARTS}
    description: dict[str, Any] = {
        "format": FORMAT,
        "llmbuilder": __version__,
        "versions": versions,
        "inputs": inputs,
        "settings": {**config.data.model_dump(), "seed": config.system.seed},
        "counts": _added(receipt["counts"] for receipt in receipts),
        "dropped": _nested(receipt["reasons"] for receipt in receipts),
        "groups": _nested(receipt["groups"] for receipt in receipts),
        "duplicates": {
            "candidate_pairs": decisions.candidate_pairs,
            "compared_pairs": decisions.compared_pairs,
            "largest_clusters": decisions.clusters,
        },
        "documents": names,
        "dropped_files": [receipt["dropped_file"] for receipt in receipts if receipt["dropped_file"]],
        "tokenizer": None if tokenizer is None else _describe_tokenizer(tokenizer),
        "tokens": {part: values for part, values in parts.items() if values is not None} or None,
    }
    # The names of files follow from their content, so this is a fingerprint of everything.
    return {**description, "fingerprint": hashlib.sha256(json.dumps(description).encode()).hexdigest()}


def _describe_tokenizer(tokenizer: Tokenizer) -> dict[str, Any]:
    return {"algorithm": tokenizer.algorithm, "tokens": len(tokenizer), "fingerprint": tokenizer.fingerprint}


def _added(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for values in counts:
        total.update(values)
    return dict(sorted(total.items()))


def _nested(groups: Iterable[dict[str, dict[str, int]]]) -> dict[str, dict[str, int]]:
    total: dict[str, Counter[str]] = {}
    for group in groups:
        for name, values in group.items():
            total.setdefault(name, Counter()).update(values)
    return {name: dict(sorted(values.items(), key=lambda i: (-i[1], i[0]))) for name, values in sorted(total.items())}
