"""`run.json`: what a run trains on and on what machine it began, from which it is opened again."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from llmbuilder.acceleration import Acceleration
from llmbuilder.data.dataset import TextDataset
from llmbuilder.errors import DataError
from llmbuilder.machine import describe_machine
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.training.storage.paths import RunPaths

logger = logging.getLogger("llmbuilder")
_SAME_MACHINE = ("torch", "platform", "processor", "instructions", "processors", "device", "gpus")


def describe_dataset(dataset: TextDataset, paths: RunPaths) -> dict[str, Any]:
    """Return the part of a run's record that `open_dataset` finds the data again by."""
    tokens = dataset.train.path.parent
    return {
        "dataset": {
            "source": dataset.source_name,
            "tokens": os.path.relpath(tokens, paths.folder),
            "block_size": dataset.block_size,
            "stride": dataset.stride,
            "documents_apart": dataset.documents_apart,
            "train_split": dataset.train_split,
            "seed": dataset.seed,
            "training_tokens": dataset.info.tokens,
            "corpus": dataset.corpus_fingerprint,
        },
        "learned_tokenizer": dataset.has_learned_tokenizer,
    }


def describe_computation(acceleration: Acceleration, processes: int, parameters: int) -> dict[str, Any]:
    """Return the part of a run's record that says how it is computed."""
    return {
        "machine": describe_machine(),
        "processes": processes,
        "acceleration": acceleration.to_dict(),
        "parameters": parameters,
    }


def record_overlap(dataset: TextDataset, paths: RunPaths) -> float | None:
    """Measure how much of the validation part stands in the training part, and keep it with the run."""
    overlap = dataset.validation_overlap
    if overlap is not None and paths.has_record:
        paths.write_record({**paths.read_record(), "validation_overlap": overlap})
    return overlap


def open_dataset(paths: RunPaths) -> TextDataset:
    """Open the dataset that a run's record names. Raises DataError if its tokens are gone or others."""
    data = paths.read_record()["dataset"]
    tokens = Path(os.path.normpath(paths.folder / data["tokens"]))
    if not tokens.is_dir():
        raise DataError(f"the tokens this run trains on are gone: there is no folder {tokens}")
    tokenizer = Tokenizer.from_pretrained(paths.tokenizer) if paths.tokenizer.is_dir() else None
    dataset = TextDataset(
        tokens, data["block_size"], data["stride"],
        tokenizer=tokenizer, seed=data["seed"], documents_apart=data.get("documents_apart", False),
    )  # fmt: skip
    if dataset.corpus_fingerprint != data.get("corpus"):
        raise DataError(
            f"{tokens} was prepared anew since this run began: its data would be another; start a new run, or prepare "
            "the corpus from the same sources and settings again"
        )
    return dataset


def recorded_acceleration(record: dict[str, Any], processes: int) -> Acceleration | None:
    """Return the settings the run was started with, which decide the last bits, if it goes on on such a machine.

    None means to choose anew: what is exact on one processor need not be on another. It is said, because a run that
    goes on like that is not the unbroken one bit for bit.
    """
    if "acceleration" not in record:  # the start ended before it was chosen
        return None
    before, now = record.get("machine", {}), describe_machine()
    changed = [f"{name} {before.get(name)} -> {now[name]}" for name in _SAME_MACHINE if before.get(name) != now[name]]
    if record.get("processes", 1) != processes:
        changed.append(f"processes {record.get('processes', 1)} -> {processes}")
    if not changed:
        return Acceleration.from_dict(record["acceleration"])
    logger.warning(
        f"this run goes on in another place than it was in ({'; '.join(changed)}): how to compute is chosen anew, "
        "and losses may differ in their last bits from those of an unbroken run"
    )
    return None
