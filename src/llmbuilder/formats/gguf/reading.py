"""A GGUF file as a model of this package: weights in float32, one tensor at a time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llmbuilder.config.model_schema import ModelConfig
from llmbuilder.config.sizes import count_parameters, head_dim
from llmbuilder.errors import CheckpointError, ConfigError, TokenizerError
from llmbuilder.formats.gguf.architecture import config_of
from llmbuilder.formats.gguf.file import GGUFFile
from llmbuilder.formats.gguf.metadata import kept_metadata
from llmbuilder.formats.gguf.names import is_permuted, pair_halves, stored_name
from llmbuilder.formats.gguf.positions import FREQUENCY_DIVISORS
from llmbuilder.formats.gguf.tokenizer_reading import read_tokenizer
from llmbuilder.formats.model_room import fitting_dtype
from llmbuilder.formats.number_types import is_short, usual_dtype
from llmbuilder.model.base import LanguageModel
from llmbuilder.model.building import FAMILIES
from llmbuilder.tokenizer import Tokenizer

_SHORT = {1: torch.float16, 30: torch.bfloat16}  # by ggml's numbers of types


def read_gguf(path: str | Path, dtype: torch.dtype | None = None) -> LanguageModel:
    """Open a GGUF file: the model with its tokenizer, and in its metadata what else the file says of it.

    Weights are in `dtype`, float32 by default, or as they are stored if a file of 16 bits fits into memory only so.

    Raises CheckpointError, naming the file and the field, for a file that is cut short or damaged, that lacks a
    tokenizer, whose model computes what no model of this package does, or that does not fit in memory.
    """
    file = GGUFFile(path)
    config = config_of(file)
    tokenizer = _tokenizer(file)
    count = len(file.fields["tokenizer.ggml.tokens"])
    if count != config.vocab_size:
        raise CheckpointError(
            f"{path}: tokenizer.ggml.tokens has {count:,} entries, token_embd.weight {config.vocab_size:,} rows"
        )
    found = _dtype(file, config, dtype)
    try:
        with torch.device("meta"):
            model = FAMILIES[config.model_type](config)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error
    model.load_weights(_weights(file, model, found))
    stored = _stored_dtype(file)
    model.stored_dtype = stored if is_short(stored) else None
    model.tokenizer = tokenizer
    model.metadata = kept_metadata(file.fields, tokenizer)
    return model


def read_gguf_metadata(path: str | Path) -> dict[str, Any]:
    """Return the metadata of a GGUF file's model without its weights. Raises CheckpointError as `read_gguf` does."""
    file = GGUFFile(path)
    return kept_metadata(file.fields, _tokenizer(file))


def _tokenizer(file: GGUFFile) -> Tokenizer:
    try:
        return read_tokenizer(file)
    except TokenizerError as error:
        raise CheckpointError(f"{file.path}: {error}") from error


def _stored_dtype(file: GGUFFile) -> torch.dtype:
    """Return the type that most numbers of a file can be written in again without a loss."""
    sizes = [(_SHORT.get(tensor.kind, torch.float32), math.prod(tensor.shape)) for tensor in file.tensors.values()]
    return usual_dtype(sizes) or torch.float32


def _dtype(file: GGUFFile, config: ModelConfig, wanted: torch.dtype | None) -> torch.dtype:
    stored, parameters = _stored_dtype(file), count_parameters(config)
    try:
        return fitting_dtype(parameters, stored.itemsize * parameters, wanted) or stored
    except CheckpointError as error:
        raise CheckpointError(f"{file.path} cannot be opened: {error}") from error


def _weights(file: GGUFFile, model: LanguageModel, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the state dict of a model, read from a file that has its tensors and no others."""
    places = {name: stored_name(name, model.config) for name in model.weights()}
    missing = [place for place in places.values() if place not in file.tensors]
    extra = sorted(file.tensors.keys() - set(places.values()) - {FREQUENCY_DIVISORS})
    if missing or extra:
        said = [f"has no tensor {', '.join(missing[:4])}"] if missing else []
        said += [f"has the tensors {', '.join(extra[:4])}, which no model of this kind has here"] if extra else []
        raise CheckpointError(f"{file.path} {' and '.join(said)}")
    shapes = {name: tuple(tensor.shape) for name, tensor in model.weights().items()}
    for name, place in places.items():
        if file.tensors[place].shape != shapes[name]:
            raise CheckpointError(
                f"{file.path}: tensor {place} is {file.tensors[place].shape}, and the metadata make it {shapes[name]}"
            )
    architecture = file.fields["general.architecture"]
    width = head_dim(model.config)
    return {name: _read(file, place, architecture, width).to(dtype) for name, place in places.items()}


def _read(file: GGUFFile, place: str, architecture: str, width: int) -> Tensor:
    tensor = torch.from_numpy(file.read(place))
    return pair_halves(tensor, width).contiguous() if is_permuted(place, architecture) else tensor
