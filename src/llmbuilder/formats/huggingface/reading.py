"""A Hugging Face folder read into a model's parts: weights one at a time, under the names they have here.

What can be known beforehand is: whether this package has the architecture, whether the weights are those of the
configuration, whether they fit into memory.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from llmbuilder.config.schema import ModelConfig
from llmbuilder.config.sizes import count_parameters
from llmbuilder.errors import CheckpointError
from llmbuilder.formats.huggingface.stored_weights import (
    StoredTensor,
    read_json,
    read_tensors,
    require_floats,
    stored_tensors,
)
from llmbuilder.formats.huggingface.translating import NewWeights, config_from_huggingface
from llmbuilder.formats.model_room import fitting_dtype
from llmbuilder.formats.number_types import usual_dtype
from llmbuilder.model.base import require_buildable
from llmbuilder.model.building import FAMILIES

logger = logging.getLogger("llmbuilder")
# What programs that hold a model put into the names of its weights, before them or between their parts.
_WRAPPERS = {"module", "_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
_HOLDERS = ("model", "transformer")
# Computed by the model itself, and stored by some versions of its program.
_BUFFERS = re.compile(r"\.(rotary_emb\.(inv_freq|cos_cached|sin_cached)|attn\.(masked_)?bias)$")
_LAYER = re.compile(r"^(?:model\.layers|transformer\.h)\.(\d+)\.")
_HEAD = "lm_head.weight"
_SIZES = ("vocab_size", "embedding_dim", "intermediate_size", "num_heads", "num_key_value_heads", "head_dim")
_EMBEDDINGS = {
    "gpt": "transformer.wte.weight", "llama": "model.embed_tokens.weight", "gemma3": "model.embed_tokens.weight",
}  # fmt: skip


@dataclass(frozen=True)
class FolderModel:
    """What a folder holds: the shape, the weights, and the type most of them are stored in."""

    config: ModelConfig
    weights: dict[str, Tensor]
    stored_dtype: torch.dtype | None


def read_folder(folder: Path, dtype: torch.dtype | None = None) -> FolderModel:
    """Return the model of a Hugging Face folder, its weights in `dtype` (default: see `load_model`).

    Raises CheckpointError, without the folder's name, for what is damaged, unknown, or does not fit together or into
    memory.
    """
    config, renew = config_from_huggingface(read_json(folder / "config.json"))
    named = _tied(_named(stored_tensors(folder), config), config)
    require_floats(named)
    _require_same_model(named, config, renew)
    numbers, stored_bytes = (sum(getattr(tensor, part) for tensor in named.values()) for part in ("numbers", "bytes"))
    chosen = fitting_dtype(numbers, stored_bytes, dtype)
    weights = {name: renew(name, tensor.to(chosen or tensor.dtype)) for name, tensor in read_tensors(named)}
    return FolderModel(config, weights, usual_dtype((tensor.dtype, tensor.numbers) for tensor in named.values()))


def _named(tensors: Iterable[StoredTensor], config: ModelConfig) -> dict[str, StoredTensor]:
    """Return the tensors under the names that they have in this package, without what models compute themselves."""
    holder = _EMBEDDINGS[config.model_type].partition(".")[0]
    named: dict[str, StoredTensor] = {}
    for tensor in tensors:
        parts = [part for part in tensor.key.split(".") if part not in _WRAPPERS]
        while parts and parts[0] in _HOLDERS:
            parts.pop(0)
        name = ".".join(parts if parts[:1] == ["lm_head"] else [holder, *parts])
        if _BUFFERS.search(name):
            continue
        if "lora_" in name:
            raise CheckpointError(f"{tensor.key} belongs to an adapter (LoRA): merge it into its base first")
        if name in named:
            raise CheckpointError(f"two of its weights are {name}: {named[name].key} and {tensor.key}")
        named[name] = tensor
    return named


def _tied(named: dict[str, StoredTensor], config: ModelConfig) -> dict[str, StoredTensor]:
    """Return the weights with one table for a model whose output projection is its embedding, under either name.

    Where both are there and differ, the configuration is wrong and is changed, as transformers does it.
    """
    embedding = _EMBEDDINGS[config.model_type]
    if not config.tie_embeddings or _HEAD not in named:
        return named
    rest = {name: tensor for name, tensor in named.items() if name != _HEAD}
    if embedding not in rest:
        return {embedding: named[_HEAD], **rest}
    one, other = (table.float() for _, table in read_tensors({name: named[name] for name in (embedding, _HEAD)}))
    if torch.equal(one, other):
        return rest
    logger.warning("its config.json says tie_word_embeddings, but its output projection is another table: not tied")
    config.tie_embeddings = False
    return named


def _require_same_model(named: Mapping[str, StoredTensor], config: ModelConfig, renew: NewWeights) -> None:
    """Raise CheckpointError if names, shapes or sizes of the weights are not those of the configuration."""
    layers = 1 + max((int(found[1]) for name in named if (found := _LAYER.match(name))), default=-1)
    if layers != config.num_layers:
        raise CheckpointError(f"its config.json says {config.num_layers:,} layers, and its weights have {layers:,}")
    held = sum(tensor.numbers for tensor in named.values())
    for name in _SIZES:
        if (getattr(config, name) or 0) > held:
            raise CheckpointError(f"its config.json is of another model: {name} is larger than all of its weights")
    require_buildable(config)
    if count_parameters(config) > 2 * held:  # building so much would take memory, or be impossible
        raise CheckpointError(
            f"its config.json describes {count_parameters(config):,} parameters, and its weights are {held:,}"
        )
    with torch.device("meta"):
        model = FAMILIES[config.model_type](config)
        model.require_weights(
            {name: renew(name, torch.empty(tensor.shape, dtype=tensor.dtype)) for name, tensor in named.items()}
        )
