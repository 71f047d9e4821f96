"""What `corpus.json` says: counts of every stage, drops by reason, settings, versions, files, a fingerprint of all."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from llmbuilder.config.schema import Config
from llmbuilder.corpus.decisions import Decisions
from llmbuilder.corpus.keys import CORPUS_FORMAT
from llmbuilder.corpus.load_report import added_up
from llmbuilder.tokenizer import Tokenizer


def describe_corpus(
    *,
    inputs: list[str],
    hidden: int,
    config: Config,
    versions: dict[str, str],
    receipts: list[dict[str, Any]],
    decisions: Decisions,
    tokens: dict[str, dict[str, Any]],
    held_out: dict[str, Any] | None,
    tokenizer: Tokenizer | None,
    trained_as: dict[str, Any] | None,
) -> dict[str, Any]:
    """Return the description of a finished corpus.

    `hidden` is how many hidden files were passed over, `tokens` the shards of each part, `held_out` what is known of
    the validation part, `trained_as` the settings of a tokenizer of its own.

    It depends on nothing but sources, settings and versions.
    """
    from llmbuilder import __version__

    names = [receipt["documents_file"] for receipt in receipts if receipt["documents_file"]]
    description: dict[str, Any] = {
        "format": CORPUS_FORMAT,
        "llmbuilder": __version__,
        "versions": versions,
        "inputs": inputs,
        "settings": {**config.data.model_dump(), "seed": config.system.seed},
        "counts": _counts([{"hidden": hidden}, *(receipt["counts"] for receipt in receipts)]),
        "dropped": added_up(receipt["reasons"] for receipt in receipts),
        "groups": added_up(receipt["groups"] for receipt in receipts),
        "duplicates": {
            "candidate_pairs": decisions.candidate_pairs,
            "compared_pairs": decisions.compared_pairs,
            "largest_clusters": decisions.clusters,
        },
        "documents": names,
        "dropped_files": [receipt["dropped_file"] for receipt in receipts if receipt["dropped_file"]],
        "tokenizer": None if tokenizer is None else _describe_tokenizer(tokenizer, trained_as),
        "held_out": held_out,
        "tokens": tokens or None,
    }
    # The names of files follow from their content, so this is a fingerprint of everything.
    return {**description, "fingerprint": hashlib.sha256(json.dumps(description).encode()).hexdigest()}


def _describe_tokenizer(tokenizer: Tokenizer, trained_as: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "algorithm": tokenizer.algorithm,
        "tokens": len(tokenizer),
        "fingerprint": tokenizer.fingerprint,
        "settings": trained_as,
    }


def _counts(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for values in counts:
        total.update(values)
    return dict(sorted(total.items()))
