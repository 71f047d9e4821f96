"""Legacy configurations: nanoGPT's flat keys and Python files, minGPT's, and the older LLMBuilder's nested forms.

Everything here is pure (values in, values out) and nothing is executed: Python files are parsed, and only what needs no
running is understood. No key is dropped: what has no counterpart is kept in `legacy`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmbuilder.errors import ConfigError
from llmbuilder.formats.nanogpt.configuration.keys import CONVERTED_KEYS, FLAT_KEYS, NANOGPT_DEFAULTS
from llmbuilder.formats.nanogpt.configuration.migrated import Default, MigratedConfig, flatten, translate, weight_of
from llmbuilder.formats.nanogpt.configuration.mingpt import is_mingpt, migrate_mingpt
from llmbuilder.formats.nanogpt.configuration.nested import NESTED_MARKS, migrate_nested
from llmbuilder.formats.nanogpt.configuration.older_llmbuilder import (
    is_older_llmbuilder,
    is_older_training,
    migrate_older_llmbuilder,
    migrate_older_training,
)
from llmbuilder.formats.nanogpt.configuration.python_file import read_python_settings

__all__ = [
    "CONVERTED_KEYS",
    "FLAT_KEYS",
    "NANOGPT_DEFAULTS",
    "Default",
    "MigratedConfig",
    "is_legacy",
    "migrate_dictionary",
    "migrate_python_file",
    "place_of",
    "weight_of",
]
_FLAT_MARKS = frozenset({"n_layer", "n_head", "n_embd", "block_size", "max_iters", "learning_rate", "batch_size"})


def is_legacy(values: Mapping[str, Any]) -> bool:
    """Tell a legacy mapping from one in the new format."""
    marks = _FLAT_MARKS & values.keys() or NESTED_MARKS & flatten(values).keys()
    return bool(marks) or is_mingpt(values) or is_older_llmbuilder(values)


def place_of(key: str, value: Any) -> str | None:
    """Return the new key of one of nanoGPT's, or None if it has no counterpart."""
    target = CONVERTED_KEYS[key](value) if key in CONVERTED_KEYS else None
    return target[0] if target is not None else FLAT_KEYS.get(key)


def migrate_dictionary(values: Mapping[str, Any]) -> MigratedConfig:
    """Translate a legacy mapping, flat or nested. Raises ConfigError if it has no legacy key at all."""
    if not is_legacy(values):
        raise ConfigError("this is no legacy configuration: none of its keys is nanoGPT's or an older LLMBuilder's")
    if is_mingpt(values):
        return _finish(migrate_mingpt(values))
    if is_older_llmbuilder(values):
        return _finish(migrate_older_llmbuilder(values))
    if is_older_training(values):
        return _finish(migrate_older_training(values))
    if any(isinstance(value, Mapping) for value in values.values()):
        return _finish(migrate_nested(values))
    result = MigratedConfig({})
    translate(values, FLAT_KEYS, CONVERTED_KEYS, result)
    return _finish(result)


def migrate_python_file(
    path: Path, defaults: Mapping[str, Any] | None = None, defaults_of: str = "nanoGPT"
) -> MigratedConfig:
    """Translate a nanoGPT Python configuration by parsing it; nothing in it runs.

    Keys it leaves out get the program's own `defaults`, which are `defaults_of`'s, and nanoGPT's where that program has
    none. Raises ConfigError if the file cannot be read or is not Python.
    """
    found = read_python_settings(path)
    left_out = {key: Default(value, "nanoGPT") for key, value in NANOGPT_DEFAULTS.items()}
    left_out |= {key: Default(value, defaults_of) for key, value in (defaults or {}).items()}
    left_out = {key: default for key, default in left_out.items() if key not in found.values}
    result = MigratedConfig({}, defaults=left_out, skipped=found.skipped, is_program=found.is_program)
    translate({key: default.value for key, default in left_out.items()}, FLAT_KEYS, CONVERTED_KEYS, result)
    result.mapping.clear()
    translate(found.values, FLAT_KEYS, CONVERTED_KEYS, result)
    result.legacy_values |= {**found.skipped, **found.written} | {
        key: value for key, value in found.values.items() if key not in found.written or value != "auto"
    }
    return _finish(result)


def _finish(result: MigratedConfig) -> MigratedConfig:
    model = result.values.setdefault("model", {})
    is_llamas = {"n_kv_heads", "multiple_of"} & result.legacy_values.keys()  # llama2.c
    if is_llamas:
        _shape_llama(result, model)
    model.setdefault("model_type", "gpt")
    if model["model_type"] == "gpt":
        # Legacy models compute the exact GELU; their weights must keep it.
        model.setdefault("activation", "gelu")
    training = result.values.get("training", {})
    if training.get("lr_schedule") == "constant" and training.get("warmup_steps"):
        # nanoGPT warms up only when it decays; the number is kept for the record.
        result.unmapped["warmup_iters (unused without decay_lr)"] = training["warmup_steps"]
        training["warmup_steps"] = 0
    if training.get("max_grad_norm") is None:
        training.pop("max_grad_norm", None)
    if result.unmapped:
        result.values["legacy"] = dict(result.unmapped)
    return result


def _shape_llama(result: MigratedConfig, model: dict[str, Any]) -> None:
    """Set what llama2.c's model follows from its settings: the family, and the width inside the MLP."""
    model["model_type"] = "llama"
    width, multiple = model.get("embedding_dim"), result.unmapped.get("multiple_of", 256)
    hidden = result.unmapped.get("hidden_dim")
    if not isinstance(hidden, int) and isinstance(width, int) and isinstance(multiple, int) and multiple > 0:
        hidden = -(-(2 * (4 * width) // 3) // multiple) * multiple
    if isinstance(hidden, int):
        model["intermediate_size"] = hidden
        for key in ("multiple_of", "hidden_dim"):
            if key in result.unmapped:
                del result.unmapped[key]
                result.mapping[key] = "model.intermediate_size"
