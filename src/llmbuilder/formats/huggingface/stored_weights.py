"""The tensors of a folder of weights, known by name, shape and type before any of them is read.

They are read one at a time: those in float32 stay on the disk until they are used, and of the others no more than a
part of the file is in memory beside what they become.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llmbuilder.errors import CheckpointError
from llmbuilder.formats.torch_files import read_torch_file
from llmbuilder.notices import kind_of

_FILES = ("model.safetensors", "pytorch_model.bin")  # the first that is there, as transformers takes it
_MAPPED_AT_A_TIME = 1 << 24  # bytes of a file
_FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a file, not read yet."""

    file: Path
    key: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def numbers(self) -> int:
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.numbers * self.dtype.itemsize


def stored_tensors(folder: Path) -> list[StoredTensor]:
    """Return the tensors of a folder's weights: one file, or those that an index names.

    Raises CheckpointError for files that are missing or damaged, and for tensors that are no floating-point numbers.
    """
    for name in _FILES:
        if (folder / name).is_file():
            return _tensors_of(folder / name)
        if (folder / f"{name}.index.json").is_file():
            return _indexed(folder, folder / f"{name}.index.json")
    raise CheckpointError(f"{_FILES[0]} is missing: a folder holds its weights in it, or in files that an index names")


def _indexed(folder: Path, index: Path) -> list[StoredTensor]:
    values = read_json(index)
    places = values.get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise CheckpointError(f"{index.name} is damaged: it has no weight_map of names to files")
    found: dict[str, StoredTensor] = {}
    for name in sorted(set(places.values())):
        if Path(name).name != name:
            raise CheckpointError(f"{index.name} names a file outside the folder: {name!r}")
        if not (folder / name).is_file():
            raise CheckpointError(f"{name} is missing, which {index.name} names")
        for tensor in _tensors_of(folder / name):
            if places.get(tensor.key, name) == name:
                found[tensor.key] = tensor
    missing = sorted(places.keys() - found.keys())
    if missing:
        raise CheckpointError(f"{places[missing[0]]} lacks {missing[0]}, which {index.name} says is in it")
    return list(found.values())


def read_json(path: Path) -> dict[str, Any]:
    """Return the settings of a JSON file, with a byte order mark or without. Raises CheckpointError for others."""
    try:
        values = json.loads(path.read_text("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        said = "it is cut short" if path.stat().st_size == 0 else str(error)[:200]
        raise CheckpointError(f"{path.name} is no JSON: {said}") from error
    except OSError as error:
        raise CheckpointError(f"{path.name} cannot be read: {error.strerror or error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path.name} holds no settings but {kind_of(values)}")
    return values


def _tensors_of(path: Path) -> list[StoredTensor]:
    if path.suffix == ".bin":
        return [_stored(path, name, tensor.shape, tensor.dtype) for name, tensor in _torch_tensors(path).items()]
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as handle:
            parts = {name: handle.get_slice(name) for name in handle.keys()}  # noqa: SIM118 - not a dict
            described = {name: (part.get_shape(), part.get_dtype()) for name, part in parts.items()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path.name} is damaged: {error}") from error
    return [_stored(path, name, shape, _FLOATS.get(kind, kind)) for name, (shape, kind) in described.items()]


def _stored(path: Path, name: str, shape: Any, dtype: Any) -> StoredTensor:
    return StoredTensor(path, name, tuple(shape), dtype)


def _torch_tensors(path: Path) -> dict[str, Tensor]:
    content = read_torch_file(path, in_place=True)
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"{path.name} holds no state dict")
    return dict(content)


def require_floats(tensors: Mapping[str, StoredTensor]) -> None:
    """Raise CheckpointError, naming one, if weights are whole numbers, or floats that need scales beside them."""
    for tensor in tensors.values():
        if tensor.dtype not in _FLOATS.values():
            raise CheckpointError(
                f"{tensor.key} is stored as {tensor.dtype}: quantized weights are not supported; take the model's "
                "own weights, or its GGUF file"
            )


def read_tensors(tensors: Mapping[str, StoredTensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield each name and its tensor, file by file."""
    for file in dict.fromkeys(tensor.file for tensor in tensors.values()):
        inside = {name: tensor for name, tensor in tensors.items() if tensor.file == file}
        yield from _read_torch(file, inside) if file.suffix == ".bin" else _read_safetensors(file, inside)


def _read_torch(file: Path, inside: dict[str, StoredTensor]) -> Iterator[tuple[str, Tensor]]:
    content = _torch_tensors(file)
    yield from ((name, content.pop(tensor.key)) for name, tensor in inside.items())


def _read_safetensors(file: Path, inside: dict[str, StoredTensor]) -> Iterator[tuple[str, Tensor]]:
    """Opened anew every now and then: what was read of a file stays in memory as long as the file is open."""
    from safetensors import SafetensorError, safe_open

    handle, mapped = None, 0
    for name, tensor in inside.items():
        try:
            if handle is None or mapped > _MAPPED_AT_A_TIME:
                handle, mapped = safe_open(file, framework="pt"), 0
            read = handle.get_tensor(tensor.key)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{file.name} is damaged: {error}") from error
        mapped += tensor.bytes
        yield name, read
