"""What a checkpoint declares of its architecture, under common names, with a refusal for what is not understood.

The arguments of a model (`model_args`) are all architecture: each is known, or says that something is off, or is
refused. A training configuration holds hundreds of other things; there only what sounds like architecture counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from llmbuilder.errors import CheckpointError
from llmbuilder.formats.nanogpt.known_arguments import (
    IS_ARCHITECTURE,
    NEUTRAL,
    NO_ARCHITECTURE,
    PARAMETERS_OF,
    SPELLINGS,
)

_NAMES = {spelling: name for name, spellings in SPELLINGS.items() for spelling in spellings.split()}
_OFF = (None, False, 0, "", "none", "None", "off", "no", "disabled")
_TRAINING = {"learning_rate", "batch_size", "max_iters", "max_steps", "num_epochs", "epochs", "weight_decay", "lr"}
# What a model has by default, if its checkpoint says nothing; its sizes are the tensors' to tell.
_FROM_DEFAULTS = {"norm_eps", "rope_theta", "activation", "norm", "output_norm", "rmsnorm", "positions", "rotary",
                  "learned_positions", "rotary_width", "qk_norm", "mlp", "gated", "dropout"}  # fmt: skip
_ARGUMENTS = ("model_args", "model_config")
_CONFIGURATIONS = ("config", "args", "hparams", "hyperparameters")


@dataclass
class Declared:
    """Architecture under common names (`num_heads`, `norm_eps`), and everything as it stood."""

    values: dict[str, Any] = field(default_factory=dict)
    raw: dict[str, Any] = field(default_factory=dict)
    arguments: frozenset[str] = frozenset()  # the names in `model_args`, as they stood

    def number(self, name: str) -> int | None:
        """Return a whole number, None if it is not declared. Raises CheckpointError for anything else."""
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value or int(value) != value:
            raise CheckpointError(f"it declares {name} = {value!r}, which is no whole number")
        if value < 1:
            raise CheckpointError(f"it declares {name} = {value!r}, which must be at least 1")
        return int(value)

    def fraction(self, name: str) -> float | None:
        """Return a number, None if it is not declared. Raises CheckpointError for anything else."""
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            raise CheckpointError(f"it declares {name} = {value!r}, which is no number")
        return float(value)

    def text(self, name: str) -> str | None:
        value = self.values.get(name)
        return value.lower() if isinstance(value, str) else None


def declared_values(content: Mapping[Any, Any]) -> dict[str, Any]:
    """Return what a checkpoint says of its configuration, as it stands; the arguments of its model come first."""
    values: dict[str, Any] = {}
    for key in (*_CONFIGURATIONS, *_ARGUMENTS):
        values.update(_section(content, key))
    return values


def read_declared(content: Mapping[Any, Any], defaults: Mapping[str, Any]) -> Declared:
    """Collect what a checkpoint says of its model, and what the project's configuration has where it says nothing.

    Raises CheckpointError, naming key and value, for an argument that is not known and not off.
    """
    declared = Declared(raw=declared_values(content))
    configurations = [_section(content, key) for key in _CONFIGURATIONS]
    arguments = [_section(content, key) for key in _ARGUMENTS]
    context = {**defaults, **declared.raw}
    for values in configurations:
        is_training = any(arguments) or bool(_TRAINING & values.keys())
        _take(values, declared, context, is_training)
    for values in arguments:
        declared.arguments |= values.keys()
        _take(values, declared, context, is_training=False)
    unsaid = {key: value for key, value in defaults.items() if key not in declared.raw}
    said = {name: unsaid[key] for key, name in _NAMES.items() if key in unsaid and name in _FROM_DEFAULTS}
    _take({key: value for key, value in unsaid.items() if key not in _NAMES}, declared, context, is_training=False)
    declared.values = {**said, **declared.values}
    return declared


def _section(content: Mapping[Any, Any], key: str) -> dict[str, Any]:
    value = _plain_fields(content.get(key))
    if not isinstance(value, dict):
        return {}
    nested = value.get("model")
    return nested if isinstance(nested, dict) else value


def _take(values: Mapping[str, Any], declared: Declared, context: Mapping[str, Any], is_training: bool) -> None:
    for key, value in values.items():
        name = _NAMES.get(key)
        if name is not None and value is not None:
            declared.values[name] = value
        elif name is None and not _is_harmless(key, value, context, is_training):
            raise CheckpointError(
                f"it declares {key} = {value!r}, which this package does not know: its models cannot be said to "
                "compute the same"
            )


def _is_harmless(key: str, value: Any, context: Mapping[str, Any], is_training: bool) -> bool:
    if any(value is off or (type(value) is type(off) and value == off) for off in _OFF):
        return True
    if (isinstance(value, float) and value == 0) or (isinstance(value, dict | list) and not value):
        return True
    if NO_ARCHITECTURE.fullmatch(key):
        return True
    if key in NEUTRAL and isinstance(value, str | int | float) and value in NEUTRAL[key]:
        return True
    if is_training and key not in NEUTRAL and not IS_ARCHITECTURE.search(key):
        return True
    return _is_parameter_of_something_off(key, context)


def _is_parameter_of_something_off(key: str, values: Mapping[str, Any]) -> bool:
    """A number of experts says nothing in a model that is declared to have no mixture of experts."""
    for pattern, switch, harmless in PARAMETERS_OF:
        if switch in values and pattern.fullmatch(key):
            switched = values[switch]
            if switched is None or (isinstance(switched, str | bool | int) and switched in harmless):
                return True
    return any(
        switched is False and len(stem := switch.removeprefix("use_").removesuffix("_embeddings")) > 3
        and key != switch and key.startswith(f"{stem}_")
        for switch, switched in values.items()
    )  # fmt: skip


_DEEPEST = 20


def _plain_fields(value: Any, depth: int = 0) -> Any:
    """Return dataclasses and namespaces as dictionaries of their fields, however deep they lie."""
    if depth > _DEEPEST or value is None or isinstance(value, bool | int | float | str | Tensor):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain_fields(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain_fields(item, depth + 1) for item in value]
    fields = getattr(value, "__dict__", None)
    return _plain_fields(dict(fields), depth + 1) if isinstance(fields, dict) else str(value)
