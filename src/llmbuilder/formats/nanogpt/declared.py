"""What a checkpoint declares of its architecture, under common names, with a refusal for what is not understood.

The arguments of a model (`model_args`) are all architecture: each is known, or says that something is off, or is
refused. A training configuration holds hundreds of other things; there only what sounds like architecture counts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from llmbuilder.errors import CheckpointError
from llmbuilder.formats.nanogpt.known_arguments import (
    IS_ARCHITECTURE,
    NEUTRAL,
    NO_ARCHITECTURE,
    PARAMETERS_OF,
    PARAMETERS_OF_PARTS,
)
from llmbuilder.formats.nanogpt.sections import NAMES, find_sections, is_of_training

_OFF = (None, False, 0, "", "none", "None", "off", "no", "disabled")
# What a model has by default, if its checkpoint says nothing; its sizes are the tensors' to tell.
_FROM_DEFAULTS = {"norm_eps", "rope_theta", "activation", "norm", "output_norm", "rmsnorm", "positions", "rotary",
                  "learned_positions", "rotary_width", "qk_norm", "mlp", "gated", "dropout"}  # fmt: skip
BY_DEFAULT = "the checkpoint says nothing of it, and the project's own default is"


@dataclass
class Declared:
    """Architecture under common names (`num_heads`, `norm_eps`), and everything as it stood."""

    values: dict[str, Any] = field(default_factory=dict)
    raw: dict[str, Any] = field(default_factory=dict)
    arguments: frozenset[str] = frozenset()  # the names in `model_args`, as they stood
    held: frozenset[str] = frozenset()  # names of values that the modules of a pickled model say
    by_default: Set[str] = frozenset()  # names of values that only the project's defaults say

    def said(self, name: str) -> str:
        """Return the words that a value's refusal begins with: whose word it is."""
        return f"{BY_DEFAULT if name in self.by_default else 'it declares'} {name} = {self.values.get(name)!r}"

    def number(self, name: str) -> int | None:
        """Return a whole number, None if it is not declared. Raises CheckpointError for anything else."""
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value or int(value) != value:
            raise CheckpointError(f"{self.said(name)}, which is no whole number")
        if value < 1:
            raise CheckpointError(f"{self.said(name)}, which must be at least 1")
        return int(value)

    def fraction(self, name: str) -> float | None:
        """Return a number, None if it is not declared. Raises CheckpointError for anything else."""
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            raise CheckpointError(f"{self.said(name)}, which is no number")
        return float(value)

    def text(self, name: str) -> str | None:
        value = self.values.get(name)
        return value.lower() if isinstance(value, str) else None


def declared_values(content: Mapping[Any, Any]) -> dict[str, Any]:
    """Return what a checkpoint says of its configuration, as it stands; what it says of its model itself counts."""
    return {key: value for section in find_sections(content) for key, value in section.values.items()}


def read_declared(content: Mapping[Any, Any], defaults: Mapping[str, Any], absent: Collection[str] = ()) -> Declared:
    """Collect what a checkpoint says of its model, and what the project's configuration has where it says nothing.

    `absent` are the parts that its tensors show it not to have: "gate", "q_norm".
    Raises CheckpointError, naming key and value, for an argument that is not known and not off.
    """
    sections = find_sections(content)
    declared = Declared(raw={key: value for section in sections for key, value in section.values.items()})
    context = {**defaults, **declared.raw}
    groups = [section.values for section in sections]
    has_arguments = any(section.is_arguments for section in sections)
    for section in sections:
        is_training = not section.is_arguments and (has_arguments or section.is_of_training)
        is_training |= section.is_held or section.place == "the checkpoint"
        values = {key: value for key, value in section.values.items() if value not in groups}
        if section.is_arguments:
            declared.arguments |= values.keys()
        if section.is_held:
            declared.held |= {NAMES[key] for key in values if key in NAMES}
        _take(values, declared, _Reading("it declares", context, is_training, absent))
    unsaid = {key: value for key, value in defaults.items() if key not in declared.raw}
    said = {name: unsaid[key] for key, name in NAMES.items() if key in unsaid and name in _FROM_DEFAULTS}
    others = {key: value for key, value in unsaid.items() if key not in NAMES}
    _take(others, declared, _Reading(BY_DEFAULT, context, False, absent))
    declared.by_default = said.keys() - declared.values.keys()
    declared.values = {**said, **declared.values}
    return declared


@dataclass(frozen=True)
class _Reading:
    """How arguments are read: whose word they are, what else is said, and what the model does not have."""

    word: str
    context: Mapping[str, Any]
    is_training: bool
    absent: Collection[str]


def _take(values: Mapping[str, Any], declared: Declared, reading: _Reading) -> None:
    for key, value in values.items():
        name = NAMES.get(key)
        if name is not None and value is not None:
            declared.values[name] = value
        elif name is None and not _is_harmless(key, value, reading):
            raise CheckpointError(
                f"{reading.word} {key} = {value!r}, which this package does not know: its models cannot be said to "
                "compute the same"
            )


def _is_harmless(key: str, value: Any, reading: _Reading) -> bool:
    if any(value is off or (type(value) is type(off) and value == off) for off in _OFF):
        return True
    if (isinstance(value, float) and value == 0) or (isinstance(value, dict | list) and not value):
        return True
    if NO_ARCHITECTURE.fullmatch(key):
        return True
    if isinstance(value, dict) and is_of_training(value) and not IS_ARCHITECTURE.search(key):
        return True
    if key in NEUTRAL and isinstance(value, str | int | float) and value in NEUTRAL[key]:
        return True
    if any(pattern.fullmatch(key) for part, pattern in PARAMETERS_OF_PARTS.items() if part in reading.absent):
        return True
    if reading.is_training and key not in NEUTRAL and not IS_ARCHITECTURE.search(key):
        return True
    return _is_parameter_of_something_off(key, reading.context)


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
