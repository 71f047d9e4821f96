"""Files of legacy checkpoints: PyTorch's, and weights in safetensors with the JSON files that describe them beside."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from llmbuilder.errors import CheckpointError
from llmbuilder.formats.torch_files import read_torch_file

_LARGEST_DESCRIPTION = 1 << 20  # bytes
_NO_SECTIONS = ("model", "model_state_dict", "state_dict", "optimizer")  # what else a checkpoint has under these names


def read_checkpoint_file(path: Path, *, in_place: bool = False) -> Any:
    """Load a legacy checkpoint; of a .safetensors file, its weights and what the JSON files beside it say.

    Raises CheckpointError for a file that cannot be read, would have to call something, or is Hugging Face's.
    """
    if path.suffix != ".safetensors":
        return read_torch_file(path, in_place=in_place)
    described = dict(_descriptions(path))
    told = described.get("config")
    if told is not None and ("architectures" in told or ("model_type" in told and "block_size" not in told)):
        raise CheckpointError(
            f"it is a model in Hugging Face's form: `llmbuilder import hf {path.parent.name or '.'}` reads its folder"
        )
    weights, metadata = _read(path)
    own = {key: value for key, value in _parsed(metadata) if key not in _NO_SECTIONS}
    return {**own, **described, "model": weights}


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is cut short or no model file: {str(error)[:200]}") from error


def _parsed(metadata: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """Yield a file's metadata, which are strings: those that hold JSON as what it says."""
    for key, text in metadata.items():
        try:
            yield key, json.loads(text)
        except ValueError:
            yield key, text


def _descriptions(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the mappings in the JSON files beside a model, by their names; where one has its name, only that one."""
    own = path.with_suffix(".json")
    for file in [own] if own.is_file() else sorted(path.parent.glob("*.json")):
        if (file.stem in _NO_SECTIONS and file != own) or file.stat().st_size > _LARGEST_DESCRIPTION:
            continue
        try:
            values = json.loads(file.read_text("utf-8-sig"))
        except (ValueError, RecursionError):  # not JSON: it describes nothing
            continue
        if isinstance(values, dict):
            yield ("config" if file == own else file.stem), values
