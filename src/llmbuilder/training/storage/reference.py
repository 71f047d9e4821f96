"""`reference.safetensors`: how likely each answer of the preference pairs was to the model that a run began from.

Training is held against it until the run ends, and computes it once. It belongs to one model and one set of pairs,
whose fingerprints it bears; `run.json` has them, too.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from llmbuilder.data.dataset import TextDataset
from llmbuilder.errors import TrainingError
from llmbuilder.files import atomic_path
from llmbuilder.finetuning.peft_files import base_checksum
from llmbuilder.model import LanguageModel
from llmbuilder.model.adapters import has_adapters
from llmbuilder.tokens.pairs import PairRows
from llmbuilder.training.processes.distributed import Processes
from llmbuilder.training.storage.paths import RunPaths

_RECORDED = "reference"  # in run.json
_TRAIN, _VALIDATION = "train", "validation"


def begin_preferences(model: LanguageModel, dataset: TextDataset, paths: RunPaths, processes: Processes) -> None:
    """Note in the record of a new run which model, and which pairs, its reference will be of."""

    def note() -> None:
        paths.write_record(
            {**paths.read_record(), _RECORDED: {"base": base_checksum(model), "pairs": _of_pairs(dataset)}}
        )

    processes.on_main(note)


def write_reference(values: dict[str, np.ndarray], paths: RunPaths) -> None:
    """Write the reference of a run, by part of its data."""
    from safetensors.numpy import save_file

    with atomic_path(paths.reference) as temporary:
        save_file({part: np.ascontiguousarray(array) for part, array in values.items()}, temporary,
                  metadata={_RECORDED: json.dumps(paths.read_record()[_RECORDED])})  # fmt: skip


def take_reference(model: LanguageModel, dataset: TextDataset, paths: RunPaths) -> None:
    """Give a dataset the reference that its run has computed.

    `model` is the one that the run began from where that is kept: beside adapters. Raises TrainingError if the
    reference is gone, damaged, or of another model or other pairs than the run's.
    """
    recorded = paths.read_record().get(_RECORDED)
    values, stored = _read(paths.reference)
    now = {**stored, "pairs": _of_pairs(dataset), **({"base": base_checksum(model)} if has_adapters(model) else {})}
    if not stored == recorded == now:
        what = "pairs" if stored.get("pairs") != now["pairs"] else "model"
        raise TrainingError(
            f"{paths.reference} belongs to {'other pairs' if what == 'pairs' else 'another model'} than this run is "
            "trained with, which cannot go on with it: begin it again with --overwrite"
        )
    for part, rows in pair_rows(dataset).items():
        if part not in values or values[part].shape != (len(rows), 2):
            raise TrainingError(f"{paths.reference} has no values for all pairs of {rows.path}")
        rows.reference = values[part]


def pair_rows(dataset: TextDataset) -> dict[str, PairRows]:
    """Return the parts of a dataset of preference pairs; none for another dataset."""
    parts = {_TRAIN: dataset.train, _VALIDATION: dataset.validation}
    return {part: rows for part, rows in parts.items() if isinstance(rows, PairRows)}


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            values = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return values, json.loads((file.metadata() or {})[_RECORDED])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise TrainingError(
            f"{path}, which says what the pairs were to the model that the run began from, cannot be read ({error}): "
            "begin the run again with --overwrite"
        ) from error


def _of_pairs(dataset: TextDataset) -> str:
    """Return a fingerprint of the tokens of a dataset, and of what belongs together in them."""
    digest = hashlib.sha256()
    for part, rows in pair_rows(dataset).items():
        for path in (rows.path, *sorted(rows.path.parent.glob(f"{rows.path.stem}.*.bin"))):
            digest.update(f"{part} {path.name}".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
