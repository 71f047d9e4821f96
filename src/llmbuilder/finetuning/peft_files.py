"""Adapters as files, in the format of the `peft` library: `adapter_config.json` beside `adapter_model.safetensors`.

The tensors say which layers have an adapter, and of which rank; the configuration says what they are multiplied by.
What would change the computation and is not understood is refused by its name.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from llmbuilder.errors import CheckpointError, ConfigError
from llmbuilder.files import atomic_path, require_absent, write_json
from llmbuilder.formats.model_file import checksum_in_order, load_model
from llmbuilder.formats.model_places import ADAPTER_FILES, require_adapter
from llmbuilder.machine import resolve_device
from llmbuilder.model import LanguageModel
from llmbuilder.model.adapters import (
    AdapterShape,
    adapted_layers,
    adapter_weights,
    add_adapters,
    linear_layers,
)
from llmbuilder.notices import kind_of

CONFIG, WEIGHTS = ADAPTER_FILES
_PREFIX = "base_model.model."
_BASE = "llmbuilder_base"  # in the header of our own files: the checksum of the weights they belong to
_PLAIN = re.compile(r"[\w.]+")  # a name, or the end of one
_KINDS = {"lora_A.weight", "lora_B.weight", "lora_magnitude_vector"}
# Fields of LoraConfig that say what is computed, with the values that this package computes alike.
_ACTING: Mapping[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",), "task_type": ("CAUSAL_LM", None), "bias": ("none",), "modules_to_save": (None, []),
    "use_qalora": (False, None), "lora_bias": (False, None), "target_parameters": (None, []),
    "trainable_token_indices": (None, []), "alora_invocation_tokens": (None, []), "corda_config": (None,),
    "eva_config": (None,), "arrow_config": (None,), "layer_replication": (None, []),
    "ensure_weight_tying": (False, None),
}  # fmt: skip
# Read below, or of importance to training and book-keeping alone: the tensors say the rest.
_KNOWN = {"r", "lora_alpha", "alpha_pattern", "rank_pattern", "use_rslora", "use_dora", "target_modules",
          "lora_dropout", "fan_in_fan_out", "inference_mode", "base_model_name_or_path", "revision", "auto_mapping",
          "peft_version",
          "init_lora_weights", "loftq_config", "megatron_config", "megatron_core", "layers_to_transform",
          "layers_pattern", "exclude_modules", "runtime_config", "qalora_group_size", "lora_ga_config"}  # fmt: skip


def save_adapter(
    model: LanguageModel,
    folder: str | Path,
    *,
    base: str | None = None,
    checksum: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the adapters of a model to a folder that `peft` opens, and return the folder.

    `base` is the name of the model that they belong to, for whoever finds the folder; `checksum` what `base_checksum`
    returns for this model (default: it is computed).
    Raises ConfigError for a model without adapters, CheckpointError if the folder holds something already.
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    require_absent(folder, overwrite=overwrite, error=CheckpointError)
    layers = dict(adapted_layers(model))
    if not layers:
        raise ConfigError("this model has no adapters to save")
    weights = {_PREFIX + name: tensor.detach().cpu().contiguous() for name, tensor in adapter_weights(model).items()}
    with atomic_path(folder / WEIGHTS) as temporary:
        save_file(weights, temporary, metadata={"format": "pt", _BASE: checksum or base_checksum(model)})
    shapes = {name: layer.shape for name, layer in layers.items()}
    write_json(folder / CONFIG, _config(model, shapes, base))
    return folder


def base_checksum(model: LanguageModel) -> str:
    """Return a checksum of the weights that the adapters of a model lie beside."""
    weights = {name: tensor for name, tensor in model.state_dict().items() if "lora_" not in name}
    adapted = {f"{name}.weight": layer for name, layer in adapted_layers(model)}
    return checksum_in_order(
        (name, adapted[name].whole_weight() if name in adapted else weights[name]) for name in sorted(weights)
    )


def _config(model: LanguageModel, shapes: Mapping[str, AdapterShape], base: str | None) -> dict[str, Any]:
    first = next(iter(shapes.values()))
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": first.rank,
        "lora_alpha": first.scale * first.rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "use_rslora": False,
        "use_dora": first.has_magnitudes,
        "fan_in_fan_out": model.config.model_type == "gpt",  # transformers stores these the other way
        "target_modules": _ends_of(shapes, model),
        "rank_pattern": {name: shape.rank for name, shape in shapes.items() if shape.rank != first.rank},
        "alpha_pattern": {
            name: shape.scale * shape.rank
            for name, shape in shapes.items()
            if shape.scale * shape.rank != first.scale * first.rank
        },
        "init_lora_weights": True,
        "inference_mode": True,
    }


def _ends_of(adapted: Collection[str], model: LanguageModel) -> list[str]:
    """Return the ends that name the adapted layers and no others: the last part, or where others have it the whole."""
    others = [layer for layer in linear_layers(model) if layer not in adapted]
    last = {layer: layer.rpartition(".")[2] for layer in adapted}
    return sorted({layer if any(_ends_with(o, end) for o in others) else end for layer, end in last.items()})


def load_adapted(base: str | Path, folder: str | Path, device: str | None = None) -> LanguageModel:
    """Open a model with the adapters of a folder beside its matrices. Raises as `load_model` and `load_adapter` do."""
    return load_adapter(load_model(base, "cpu"), folder).to(resolve_device(device or "auto"))


def load_adapter(model: LanguageModel, folder: str | Path) -> LanguageModel:
    """Put the adapters of a folder beside the matrices of `model`, and return the model.

    Raises CheckpointError if the folder holds none, belongs to another model, or asks for what is not computed here.
    """
    folder = Path(folder)
    require_adapter(folder)
    values = _read_config(folder)
    weights, own_base = _read_weights(folder)
    named = dict(_named(weights, folder))
    _require_layers(model, named, folder)
    _require_complete(model, named, values, folder)
    if own_base is not None and own_base != base_checksum(model):
        raise CheckpointError(f"{folder} belongs to another model: its base had other weights than this one")
    shapes = {layer: _shape(layer, parts, values, folder) for layer, parts in named.items()}
    add_adapters(model, shapes)
    for layer, module in adapted_layers(model):
        module.load_state_dict(named[layer], strict=False)
    return model


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        values = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds {kind_of(values)}, no settings")
    for name, value in values.items():
        if name in _ACTING and value not in _ACTING[name]:
            raise CheckpointError(f"{path} asks for {name} {value!r}, not supported"[:200])
        if name not in _ACTING and name not in _KNOWN and value not in (None, False, [], {}):
            raise CheckpointError(f"{path} asks for {name} {value!r}, which is not known here"[:200])
    return values


def _read_weights(folder: Path) -> tuple[dict[str, Tensor], str | None]:
    from safetensors import SafetensorError, safe_open

    path = folder / WEIGHTS
    if not path.is_file():
        others = [name for name in ("adapter_model.bin", "adapter_model.pt") if (folder / name).is_file()]
        hint = f"; {others[0]} is a pickle, which is not opened: save it with safetensors" if others else ""
        raise CheckpointError(f"{folder} holds no {WEIGHTS}{hint}")
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, (file.metadata() or {}).get(_BASE)  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def _named(weights: Mapping[str, Tensor], folder: Path) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield each layer's name and its tensors by kind."""
    layers: dict[str, dict[str, Tensor]] = {}
    for name, tensor in weights.items():
        plain = re.sub(r"\.default(?=\.weight$|$)", "", name).replace(
            "lora_magnitude_vector.weight", "lora_magnitude_vector"
        )
        layer, _, kind = plain.removeprefix(_PREFIX).partition(".lora_")
        if f"lora_{kind}" not in _KINDS:
            raise CheckpointError(
                f"{folder / WEIGHTS} holds {name}, not supported: only LoRA and DoRA beside matrices are"
            )
        layers.setdefault(layer, {})[f"lora_{kind}"] = tensor
    if not layers:
        raise CheckpointError(f"{folder / WEIGHTS} is empty")
    yield from layers.items()


def _require_layers(model: LanguageModel, named: Mapping[str, Mapping[str, Tensor]], folder: Path) -> None:
    known = set(linear_layers(model))
    for layer, parts in named.items():
        if layer not in known:
            raise CheckpointError(f"{folder} belongs to another model: this one has no {layer}")
        if not {"lora_A.weight", "lora_B.weight"} <= parts.keys():
            raise CheckpointError(f"{folder / WEIGHTS} is incomplete: {layer} has only {', '.join(sorted(parts))}")
        base = model.get_submodule(layer)
        a, b = parts["lora_A.weight"], parts["lora_B.weight"]
        wanted = (base.out_features, base.in_features)
        if a.dim() != 2 or b.dim() != 2 or a.shape[0] != b.shape[1] or (b.shape[0], a.shape[1]) != wanted:
            raise CheckpointError(
                f"{folder} belongs to another model: {layer} is {wanted[0]} x {wanted[1]} here, its adapter "
                f"{tuple(b.shape)} by {tuple(a.shape)}"
            )


def _require_complete(
    model: LanguageModel, named: Mapping[str, Mapping[str, Tensor]], values: Mapping[str, Any], folder: Path
) -> None:
    """Raise CheckpointError for tensors that are not those which the settings beside them tell of."""
    told = _told(model, values)
    if told is not None:
        lacking, extra = sorted(told - named.keys()), sorted(named.keys() - told)
        if lacking:
            more = f" and {len(lacking) - 1:,} more" if len(lacking) > 1 else ""
            raise CheckpointError(f"{folder / WEIGHTS} is incomplete: it lacks the adapters of {lacking[0]}{more}")
        if extra:
            raise CheckpointError(f"{folder / CONFIG} tells of no adapters beside {extra[0]}, and {WEIGHTS} holds some")
    patterns = values.get("rank_pattern") or {}
    for layer, parts in named.items():
        there = len(parts["lora_A.weight"])
        rank = _pattern(layer, patterns, values.get("r"), folder) if all(map(_PLAIN.fullmatch, patterns)) else None
        if rank is not None and rank != there:
            raise CheckpointError(f"{folder / CONFIG} says rank {rank!r}, and the adapter of {layer} has {there}")
        if values.get("use_dora") and "lora_magnitude_vector" not in parts:
            raise CheckpointError(f"{folder / WEIGHTS} is incomplete: {layer} has no lora_magnitude_vector")
        if not all(tensor.isfinite().all() for tensor in parts.values()):
            raise CheckpointError(
                f"{folder / WEIGHTS} is damaged: the adapter of {layer} has values that are no numbers"
            )


def _told(model: LanguageModel, values: Mapping[str, Any]) -> set[str] | None:
    """Return the layers that settings put adapters beside; None where they say it in other ways than by names."""
    ends, numbers = values.get("target_modules"), values.get("layers_to_transform")
    numbers = [numbers] if isinstance(numbers, int) else numbers or []
    if values.get("exclude_modules") or values.get("layers_pattern") or not isinstance(ends, list) or not ends:
        return None
    if not all(isinstance(end, str) and _PLAIN.fullmatch(end) for end in ends):
        return None
    found = {layer for layer in linear_layers(model) if any(_ends_with(layer, end) for end in ends)}
    return {layer for layer in found if not numbers or any(f".{number}." in layer for number in numbers)}


def _ends_with(layer: str, end: str) -> bool:
    return layer == end or layer.endswith(f".{end}")


def _shape(layer: str, parts: Mapping[str, Tensor], values: Mapping[str, Any], folder: Path) -> AdapterShape:
    rank = parts["lora_A.weight"].shape[0]
    alpha = _pattern(layer, values.get("alpha_pattern"), values.get("lora_alpha", 8), folder)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise CheckpointError(f"{folder / CONFIG}: lora_alpha {alpha!r} is no number")
    scale = alpha / (math.sqrt(rank) if values.get("use_rslora") else rank)
    return AdapterShape(rank, scale, "lora_magnitude_vector" in parts)


def _pattern(layer: str, patterns: Any, usual: Any, folder: Path) -> Any:
    """Return a layer's own value: a pattern is a name, or its end."""
    for pattern, value in (patterns or {}).items():
        if not _PLAIN.fullmatch(pattern):
            raise CheckpointError(f"{folder / CONFIG}: the pattern {pattern!r} is not supported: only names are"[:200])
        if _ends_with(layer, pattern):
            return value
    return usual
