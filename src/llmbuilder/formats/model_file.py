"""Model files.

`model.pt` holds tensors and plain values only (it opens with `weights_only=True`): configuration, weights,
tokenizer, metadata, and a checksum over the weights. `.safetensors` holds the same; a folder is a Hugging Face
checkpoint. `load_model` opens all three, GGUF files, run directories, and legacy checkpoints.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor

from llmbuilder import __version__
from llmbuilder.config.schema import Config, ModelConfig
from llmbuilder.errors import CheckpointError, ConfigError, TokenizerError
from llmbuilder.files import atomic_path, set_aside
from llmbuilder.formats.gguf.reading import read_gguf, read_gguf_metadata
from llmbuilder.formats.huggingface.belongings import kept_metadata
from llmbuilder.formats.huggingface.reading import read_folder
from llmbuilder.formats.huggingface.writing import write_folder
from llmbuilder.formats.model_places import folder_from_hub, is_gguf, is_on_hub, require_model
from llmbuilder.formats.nanogpt.checkpoint import convert_checkpoint, is_legacy_checkpoint
from llmbuilder.formats.nanogpt.source import ArchitectureFacts
from llmbuilder.formats.number_types import as_computed, as_stored, is_short, usual_dtype
from llmbuilder.formats.torch_files import read_torch_file, write_torch_file
from llmbuilder.machine import resolve_device
from llmbuilder.model.base import LanguageModel
from llmbuilder.model.building import FAMILIES
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.tokenizer.places import SENTENCEPIECE, has_tokenizer

logger = logging.getLogger("llmbuilder")
MODEL_FORMAT = "llmbuilder-model"
MODEL_FORMAT_VERSION = 1
_FOREIGN_SUFFIXES = (".gguf", ".bin", ".onnx", ".h5")  # a folder of such a name would be taken for a file


def save_model(
    model: LanguageModel,
    path: str | Path,
    metadata: Mapping[str, Any] | None = None,
    *,
    tokenizer: Tokenizer | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a self-contained model file, or a Hugging Face folder for a path without .pt or .safetensors.

    `metadata` may hold a Config, training results and plain values. The tokenizer the model was trained with
    goes along (or `tokenizer`, when given). The file is complete or not there; an earlier one is kept under a
    numbered name unless `overwrite` is set.
    Raises CheckpointError for metadata that has no plain form and for names of files that are not written here,
    ExportError for a folder of a model that transformers has no family for, LLMBuilderError if the disk is full.
    """
    path = Path(path)
    if path.suffix in _FOREIGN_SUFFIXES:
        raise CheckpointError(
            f"{path} is no name of what is written: model.pt, model.safetensors or a folder (for llama.cpp there is "
            "`llmbuilder export gguf`)"
        )
    tokenizer = model.tokenizer if tokenizer is None else tokenizer
    described = {**model.metadata, **plain_values(dict(metadata or {}))}
    writer = {".pt": _write_pt, ".safetensors": _write_safetensors}.get(path.suffix)
    if writer is None:
        if not overwrite:
            set_aside(path)
        write_folder(model, path, tokenizer)
        return path
    content = {
        "format": MODEL_FORMAT,
        "format_version": MODEL_FORMAT_VERSION,
        "llmbuilder": __version__,
        "model_config": model.config.model_dump(mode="json"),
        **({"tokenizer": None} if tokenizer is None else tokenizer.to_dict()),
        "metadata": described,
    }
    own = {name: tensor.detach().to("cpu").contiguous() for name, tensor in model.weights().items()}
    weights = as_stored(own, model.stored_dtype)
    content["checksum"] = weights_checksum(weights)
    with atomic_path(path) as temporary:
        writer(content, weights, temporary)
        if not overwrite:
            set_aside(path)
    return path


def _write_pt(content: dict[str, Any], weights: dict[str, Tensor], path: Path) -> None:
    write_torch_file({**content, "weights": weights}, path)


def _write_safetensors(content: dict[str, Any], weights: dict[str, Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    save_file(weights, path, metadata={"format": "pt", MODEL_FORMAT: json.dumps(content)})


def weights_checksum(weights: Mapping[str, Tensor]) -> str:
    """Return a SHA-256 over names, shapes and bytes of the weights, in the order of the names."""
    return checksum_in_order((name, weights[name]) for name in sorted(weights))


def checksum_in_order(weights: Iterable[tuple[str, Tensor]]) -> str:
    """Return the same of weights that come one at a time, already in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in weights:
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        if tensor.numel():
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def plain_values(value: Any) -> Any:
    """Return `value` as JSON-like plain data. Raises CheckpointError for objects without such a form."""
    if value is None or isinstance(value, bool):
        return value
    for plain in (str, int, float):  # subclasses, such as PyTorch's version string, become the plain type
        if isinstance(value, plain):
            return plain(value)
    if isinstance(value, Config):
        return value.to_dict()
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain_values({item.name: getattr(value, item.name) for item in dataclasses.fields(value)})
    if isinstance(value, Mapping):
        return {str(key): plain_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain_values(item) for item in value]
    if isinstance(value, Tensor | np.ndarray | np.generic):
        return plain_values(value.tolist())
    if isinstance(value, Path | datetime.date):
        return str(value)
    raise CheckpointError(f"metadata cannot hold a {type(value).__name__}: use numbers, text, lists and dictionaries")


def load_model(
    path: str | Path,
    device: str | torch.device | None = None,
    *,
    dtype: torch.dtype | None = None,
    config: ModelConfig | None = None,
    source: ArchitectureFacts | None = None,
    activation: str | None = None,
) -> LanguageModel:
    """Open a model file, GGUF file, Hugging Face folder, run directory or legacy checkpoint, ready for inference.

    A name such as owner/name or hf:name that is no path is looked up in the Hugging Face cache, then on the hub.
    `device` defaults to the best present one. Weights are computed with in `dtype`, by default in float32: bfloat16 is
    emulated on most CPUs and rounds differently on each, and training needs the exact form. A Hugging Face folder that
    would fit into memory only in the type that it is stored in keeps that. What was stored in a shorter type is written
    in it again by `save_model`, unless training has changed it.

    The others are for a legacy checkpoint only: `config` where it does not say its shape, `source` and `activation` as
    for `convert_checkpoint`. The checksum is verified.
    Raises CheckpointError, naming the file and the reason, for files that are missing, cut short, foreign,
    newer than this version, or that would have to run code to be opened.
    """
    require_model(path)
    path = folder_from_hub(str(path)) if is_on_hub(path) else Path(path)
    if path.is_dir():
        model = _load_folder(path, dtype)
    elif is_gguf(path):
        model = read_gguf(path, dtype)
    elif path.suffix == ".safetensors":
        model = _from_content(*_read_safetensors(path), path, dtype)
    else:
        model = _load_pt(path, config, source, activation, dtype=dtype)
    if model.tokenizer is None:
        model.tokenizer = _neighbouring_tokenizer(path, model.config.vocab_size)
    target = resolve_device(str(device) if device is not None else "auto")
    return model.to(target).eval()


def _neighbouring_tokenizer(path: Path, vocab_size: int) -> Tokenizer | None:
    """Return the tokenizer in the folder `tokenizer/` beside a model that holds none, if the model can use it."""
    folder = path.parent / "tokenizer"
    if not (folder / "tokenizer.json").is_file():
        return None
    tokenizer = Tokenizer.from_pretrained(folder)
    if len(tokenizer) > vocab_size:
        return None
    logger.warning(f"{path} holds no tokenizer: using the one beside it, {folder}")
    return tokenizer


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Return a model file's metadata (training configuration, metrics, provenance) without building the model."""
    path = Path(path)
    if is_gguf(path):
        return read_gguf_metadata(path)
    if path.is_dir():
        path = path / "model.pt"
    content = _read_safetensors(path)[0] if path.suffix == ".safetensors" else read_torch_file(path)
    return dict(content.get("metadata") or {}) if content.get("format") == MODEL_FORMAT else {}


def _load_folder(folder: Path, dtype: torch.dtype | None) -> LanguageModel:
    if (folder / "model.pt").is_file():
        return _load_pt(folder / "model.pt", dtype=dtype)
    try:
        found = read_folder(folder, dtype)
        metadata = kept_metadata(folder)
    except (CheckpointError, ConfigError) as error:
        raise CheckpointError(f"{folder} cannot be opened: {error}") from error
    tokenizer = _folder_tokenizer(folder, found.config.vocab_size)
    return _assemble(found.config, found.weights, tokenizer, metadata, folder, found.stored_dtype)


def _folder_tokenizer(folder: Path, rows: int) -> Tokenizer | None:
    """Return the tokenizer of a model's folder, without added tokens that the model has no rows for."""
    if not has_tokenizer(folder):
        if (folder / "tokenizer.model").is_file():
            logger.warning(f"{folder}: {SENTENCEPIECE}")
        return None
    try:
        tokenizer, left_out = Tokenizer.from_pretrained(folder).for_rows(rows)
    except TokenizerError as error:
        raise TokenizerError(f"{folder}: {error}" if str(folder) not in str(error) else str(error)) from error
    if left_out:
        named = ", ".join(map(repr, left_out[:5]))
        logger.warning(f"{folder}: its tokenizer is used without {named}: the model has {rows:,} rows, none for them")
    return tokenizer


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise CheckpointError(f"no such model file: {path}")
    try:
        with safe_open(path, framework="pt") as handle:
            content = json.loads((handle.metadata() or {}).get(MODEL_FORMAT, "{}"))
            return content, {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} is no complete safetensors file: {error}") from error


def read_weight(path: Path, name: str) -> Tensor:
    """Return one tensor of a .safetensors model file as it is stored. Raises CheckpointError if it cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as handle:
            return handle.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def _load_pt(
    path: Path,
    config: ModelConfig | None = None,
    source: ArchitectureFacts | None = None,
    activation: str | None = None,
    *,
    dtype: torch.dtype | None = None,
) -> LanguageModel:
    content = read_torch_file(path)
    if isinstance(content, dict) and content.get("format") == MODEL_FORMAT:
        return _from_content(content, dict(content.pop("weights", None) or {}), path, dtype)
    if is_legacy_checkpoint(content):
        try:
            legacy = convert_checkpoint(content, config, source=source, activation=activation)
        except (CheckpointError, ValidationError) as error:
            raise CheckpointError(f"{path}: {error}") from error
        for sentence in [*legacy.assumed, *legacy.left]:
            logger.warning(f"{path}: {sentence}")
        origin = {"origin": legacy.origin, "step": legacy.step, "best_validation_loss": legacy.best_validation_loss}
        return _assemble(legacy.config, legacy.weights, None, {"legacy": origin}, path)
    keys = ", ".join(map(str, list(content)[:8])) if isinstance(content, Mapping) else type(content).__name__
    raise CheckpointError(f"{path} is no model of this package, of nanoGPT or of the older scripts (it holds {keys})")


def _from_content(
    content: dict[str, Any], weights: dict[str, Tensor], path: Path, dtype: torch.dtype | None
) -> LanguageModel:
    if content.get("format") != MODEL_FORMAT:
        raise CheckpointError(f"{path} was not written by save_model: it does not say how its weights are used")
    version = content.get("format_version", 0)
    if version > MODEL_FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format version {version}, made by LLMBuilder {content.get('llmbuilder')}; this is "
            f"{__version__}, which reads up to version {MODEL_FORMAT_VERSION}: upgrade with pip install -U llmbuilder"
        )
    if weights_checksum(weights) != content.get("checksum"):
        raise CheckpointError(f"{path} is damaged: the checksum of its weights does not match")
    try:
        config = ModelConfig.model_validate(content["model_config"])
    except (ValidationError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged: its configuration cannot be read ({error})") from error
    try:
        tokenizer = Tokenizer.from_dict(content) if content.get("tokenizer") else None
    except TokenizerError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    stored = usual_dtype((tensor.dtype, tensor.numel()) for tensor in weights.values())
    computed = as_computed(weights, dtype)
    return _assemble(config, computed, tokenizer, dict(content.get("metadata") or {}), path, stored)


def _assemble(
    config: ModelConfig,
    weights: dict[str, Tensor],
    tokenizer: Tokenizer | None,
    metadata: dict[str, Any],
    path: Path,
    stored_dtype: torch.dtype | None = None,
) -> LanguageModel:
    try:
        with torch.device("meta"):
            model = FAMILIES[config.model_type](config)
        model.load_weights(weights)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error
    model.tokenizer = tokenizer
    model.metadata = metadata
    model.stored_dtype = stored_dtype if is_short(stored_dtype) else None
    return model
