"""Checkpoints of a model cut over processes: a folder of safetensors shards, one a process, and `state.json`.

Written and read by torch.distributed.checkpoint, which finds the parts that a process needs, so that a run goes on
with another number of processes. Everything in them is plain: no pickled object is ever read.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict

from llmbuilder import __version__
from llmbuilder.errors import CheckpointError
from llmbuilder.files import file_checksum, remove_path, write_json
from llmbuilder.formats.torch_files import read_torch_file, write_torch_file
from llmbuilder.model import LanguageModel
from llmbuilder.training.processes.distributed import Processes

CHECKPOINT_FORMAT_VERSION = 1
_STATE = "state.json"
_RANDOM = "random.pt"


def is_sharded(path: Path) -> bool:
    """Whether a path is a folder of shards; one appears with its description or not at all."""
    return (path / _STATE).is_file()


def remove_sharded(path: Path) -> None:
    """Delete the files that a sharded checkpoint lists as its own, and its folder if nothing else is in it."""
    for name in (*json.loads((path / _STATE).read_text("utf-8"))["files"], _STATE):
        (path / name).unlink(missing_ok=True)
    if not any(path.iterdir()):
        path.rmdir()


def write_sharded(
    folder: Path,
    step: int,
    model: LanguageModel,
    optimizer: torch.optim.Optimizer,
    values: dict[str, Any],
    processes: Processes,
) -> Path:
    """Write a checkpoint together; every process must call this. `values` are plain, but for the random states."""
    path = folder / f"step-{step:08d}"
    temporary = folder / f".step-{step:08d}.tmp"
    processes.on_main(lambda: _fresh_folder(temporary))
    tensors, _ = _flat_state(model, optimizer)
    try:
        with _quiet():
            dcp.save(tensors, storage_writer=dcp.HuggingFaceStorageWriter(str(temporary), save_distributed=True))
    except dcp.api.CheckpointException as error:
        raise CheckpointError(
            f"cannot write {path}: {_root_cause(error)}; earlier checkpoints are unchanged"
        ) from error

    def complete() -> None:
        write_torch_file(values["random"], temporary / _RANDOM)
        plain = {name: value for name, value in values.items() if name != "random"}
        described = {
            "format_version": CHECKPOINT_FORMAT_VERSION,
            "llmbuilder": __version__,
            "torch": str(torch.__version__),
        }
        sums = {file.name: file_checksum(file) for file in sorted(temporary.iterdir())}
        write_json(temporary / _STATE, {**described, **plain, "step": step, "files": sums})
        # At every moment one that is whole is there, by its own name or by the temporary one.
        earlier = folder / f".step-{step:08d}.old.tmp"
        remove_path(earlier)
        if path.exists():
            path.rename(earlier)
        os.replace(temporary, path)
        remove_path(earlier)

    processes.on_main(complete)
    return path


def read_sharded_state(path: Path) -> dict[str, Any]:
    """Return what a sharded checkpoint holds besides tensors. Raises CheckpointError if a shard is damaged."""
    try:
        content = json.loads((path / _STATE).read_text("utf-8"))
        for name, checksum in content["files"].items():
            if file_checksum(path / name) != checksum:
                raise CheckpointError(f"{path} is damaged: the checksum of {name} does not match")
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    tensors = {"random": read_torch_file(path / _RANDOM), "weights": {}, "optimizers": []}
    return {**content, **tensors, "sharded": str(path)}


def load_sharded(path: Path, model: LanguageModel, optimizer: torch.optim.Optimizer) -> None:
    """Fill model and optimizer, whole or cut over any number of processes, from a sharded checkpoint."""
    tensors, optimizer_state = _flat_state(model, optimizer)
    with _quiet():
        dcp.load(tensors, storage_reader=dcp.HuggingFaceStorageReader(str(path)))
    weights: dict[str, Any] = {
        name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")
    }
    for name, state in optimizer_state["state"].items():
        for key, value in state.items():
            state[key] = tensors[f"optimizer.{name}.{key}"].reshape(value.shape)
    set_state_dict(
        model,
        optimizer,
        model_state_dict=weights,
        optim_state_dict=optimizer_state,
        options=StateDictOptions(strict=not model.config.tie_embeddings),
    )


def _flat_state(model: LanguageModel, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return all tensors under one level of names, and the optimizer's state they came from."""
    weights, optimizer_state = get_state_dict(model, optimizer)
    # Without the output projection where that is the embedding: a file holds no tensor twice.
    tensors: dict[str, Any] = {f"model.{name}": weights[name] for name in model.weights()}
    for name, state in optimizer_state["state"].items():  # type: ignore[union-attr]
        for key, value in state.items():  # type: ignore[union-attr]
            tensors[f"optimizer.{name}.{key}"] = value if value.dim() else value.reshape(1)  # type: ignore[union-attr]
    return tensors, optimizer_state  # type: ignore[return-value]


def _fresh_folder(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    try:
        path.mkdir(parents=True)
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {error.strerror}") from error


def _root_cause(error: BaseException) -> str:
    failures = getattr(error, "failures", None)
    return "; ".join(str(failure[0]) for failure in failures.values()) if failures else str(error)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's remark that one process alone is loading."""
    level = logging.getLogger("torch.distributed.checkpoint").level
    logging.getLogger("torch.distributed.checkpoint").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        logging.getLogger("torch.distributed.checkpoint").setLevel(level)
