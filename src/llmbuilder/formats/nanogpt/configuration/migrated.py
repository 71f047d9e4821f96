"""`MigratedConfig`: a legacy configuration in the new format, with an account of every key."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Converter = Callable[[Any], "tuple[str, Any] | None"]

# The parts of a program by how much a setting of each changes the result. A key belongs to the first whose words it
# has, so what only watches stands before what it watches ("log_attention" is logging).
_LOGGING, _PATHS, _SYSTEM, _GENERATION, _TRAINING, _DATA, _SHAPE, _WHOLE = range(8)
_UNKNOWN = _TRAINING
_WORDS: tuple[tuple[int, str], ...] = (
    (_LOGGING, "log logs logging logger wandb tensorboard tb trackio mlflow verbose print plot plots progress debug "
               "profile profiler profiling notes tags description csv comment author version name timestamp color "
               "upload report level format"),
    (_WHOLE, "preset pretrained variant architecture arch family"),
    (_PATHS, "dir dirs path paths folder file filename output cache save checkpoint keep backup"),
    (_GENERATION, "generation generate inference sampling sample samples temperature top prompt start stop penalty "
                  "beams beam evaluation"),
    (_TRAINING, "lr learning rate optimizer optim optimization betas beta beta1 beta2 decay warmup clip grad gradient "
                "accumulation iters steps epochs epoch schedule scheduler loss ema momentum label smoothing seed muon "
                "adam regularization early patience"),
    (_DATA, "data dataset datasets tokenizer tokenization vocab vocabulary preprocessing cleaning dedup deduplication "
            "ingestion split text corpus shuffle stride language bos eos pad unk token tokens train training "
            "validation val test batch"),
    (_SHAPE, "model layer layers head heads embd embedding embeddings dim hidden inner width depth attention attn "
             "norm rope rotary position positional pos activation act mlp ffn bias qkv kv moe expert experts block "
             "window sliding tie tied weight weights init dropout eps epsilon residual gate gated conv state ssm"),
    (_SYSTEM, "device system dtype precision compile cuda gpu cpu mps threads workers worker memory backend ddp fsdp "
              "distributed num_workers pin prefetch mkldnn world rank flash deterministic amp fused"),
)  # fmt: skip
_WEIGHTS = [(weight, frozenset(words.split())) for weight, words in _WORDS]
_BY_NAME = {"model_preset": _WHOLE, "model_type": _WHOLE, "init_from": _WHOLE, "model": _WHOLE, "model_name": _WHOLE,
            "num_workers": _SYSTEM, "out_dir": _PATHS}  # fmt: skip

_SECTIONS = {"model": _SHAPE, "data": _DATA, "preprocessing": _DATA, "tokenizer": _DATA, "tokenizer_training": _DATA,
             "train": _TRAINING, "training": _TRAINING, "trainer": _TRAINING, "optimization": _TRAINING,
             "inference": _GENERATION, "evaluation": _GENERATION, "generation": _GENERATION, "system": _SYSTEM,
             "device": _SYSTEM, "paths": _PATHS, "gguf_conversion": _PATHS, "logging": _LOGGING,
             "project": _LOGGING}  # fmt: skip


class Default(NamedTuple):
    """A value that a configuration leaves to its program."""

    value: Any
    origin: str  # the program whose default it is


def weight_of(key: str) -> int:
    """Return how much a setting changes the result, judged by its name: 7 for the choice of a model, 0 for logging."""
    *sections, last = key.split(".")
    if last in _BY_NAME:
        return _BY_NAME[last]
    words = set(re.findall(r"[a-z]+\d*", last.lower()))
    found = next((weight for weight, known in _WEIGHTS if words & known), None)
    if found == _LOGGING or not sections:
        return _UNKNOWN if found is None else found
    return _SECTIONS.get(sections[0], _UNKNOWN if found is None else found)


@dataclass
class MigratedConfig:
    """The values of a legacy configuration in the new format, and an account of every key."""

    values: dict[str, Any]
    mapping: dict[str, str] = field(default_factory=dict)  # legacy key -> new key
    unmapped: dict[str, Any] = field(default_factory=dict)
    defaults: dict[str, Default] = field(default_factory=dict)  # keys filled with the legacy program's own defaults
    skipped: dict[str, str] = field(default_factory=dict)  # statements of a Python file that are not plain settings
    legacy_values: dict[str, Any] = field(default_factory=dict)  # every key above -> its value as it was written
    remarks: dict[str, str] = field(default_factory=dict)  # key -> why it has no counterpart, or how it was converted
    is_program: bool = False  # a Python file that defines functions, so rather a program than a configuration

    def weight(self, key: str) -> int:
        """Return how much a key changes the result, judged by its name: 7 for the choice of a model, 0 for logging."""
        return weight_of(key)

    def unmapped_by_weight(self) -> list[str]:
        """Return the keys without effect here, first those that change the result most."""
        return sorted(self.unmapped, key=lambda key: -weight_of(key))

    def notice(self) -> str:
        """Return the one line that tells a user what happened."""
        text = f"legacy configuration migrated: {len(self.mapping)} keys carried over"
        for origin in dict.fromkeys(default.origin for default in self.defaults.values()):
            names = [key for key, default in self.defaults.items() if default.origin == origin]
            text += f", {len(names)} left to {origin}'s own defaults ({', '.join(names)})"
        if self.unmapped:
            named = (
                f"{key} ({self.remarks[key]})" if key in self.remarks else key for key in self.unmapped_by_weight()
            )
            text += f"; without a counterpart, kept under 'legacy': {', '.join(named)}"
        if self.skipped:
            text += f"; not understood: {', '.join(self.skipped)}"
        return text

    def _unmapped_by_remark(self) -> str:
        groups: dict[str, list[str]] = {}
        for key in self.unmapped_by_weight():
            groups.setdefault(self.remarks.get(key, ""), []).append(key)
        return ", ".join(", ".join(keys) + (f" ({said})" if said else "") for said, keys in groups.items())


def translate(
    values: Mapping[str, Any],
    names: Mapping[str, str],
    converted: Mapping[str, Converter],
    result: MigratedConfig,
) -> None:
    """Put each legacy value where it lives now, or under what has no counterpart; no key is dropped."""
    for key, value in values.items():
        result.legacy_values[key] = value
        target = converted[key](value) if key in converted else (names[key], value) if key in names else None
        if target is None:
            result.unmapped[key] = value
        else:
            result.mapping[key] = target[0]
            put(result.values, *target)


def put(values: dict[str, Any], dotted: str, value: Any) -> None:
    """Set "section.key" of nested values."""
    section, _, key = dotted.partition(".")
    values.setdefault(section, {})[key] = value


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values inside nested mappings by their dotted names; an empty mapping is a value."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def new_format_keys() -> frozenset[str]:
    """Return "section.key" of every setting of the new format."""
    from llmbuilder.config.schema import Config

    return frozenset(
        f"{section}.{key}"
        for section, info in Config.model_fields.items()
        for key in getattr(info.annotation, "model_fields", ())
    )
