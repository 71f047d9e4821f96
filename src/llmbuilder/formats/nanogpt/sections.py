"""Where in a checkpoint the shape of its model is declared: told by what a mapping says, not by what it is called.

A mapping or an object that names attention heads, and a width or a number of layers that the tensors have, describes
the model. So do the attributes of the modules of a model that was pickled whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from numbers import Number
from typing import Any

from torch import Tensor

from llmbuilder.errors import CheckpointError
from llmbuilder.formats.nanogpt.known_arguments import SPELLINGS
from llmbuilder.formats.nanogpt.names import find_weights, shape_of
from llmbuilder.formats.torch_files import HeldModule, ModuleWeights

NAMES = {spelling: name for name, spellings in SPELLINGS.items() for spelling in spellings.split()}
_TRAINING = {"learning_rate", "batch_size", "max_iters", "max_steps", "num_epochs", "epochs", "weight_decay", "lr",
             "num_workers", "optimizer", "optim"}  # fmt: skip
_ARGUMENTS = ("model_args", "model_config")
_CONFIGURATIONS = ("config", "args", "hparams", "hyperparameters", "hyper_parameters")
_DEEPEST_PLACE = 3  # mappings within each other
_DEEPEST_VALUE = 20
_NO_TENSOR_SHOWS = frozenset({"num_heads", "kv_heads", "head_dim", "rope_theta", "norm_eps", "activation"})
_EPSILONS = ("eps", "epsilon", "variance_epsilon")
_ACTIVATION_MODULES = {"GELU", "NewGELU", "ReLU", "SiLU", "LeakyReLU", "ELU", "Mish", "ReLU6", "Hardswish"}


@dataclass(frozen=True)
class Section:
    """A part of a checkpoint that describes its model."""

    place: str  # such as "cfg" or "hyper_parameters.model"
    values: dict[str, Any]
    is_arguments: bool = False  # what the model was made with, and nothing else
    is_held: bool = False  # attributes of the model's own modules

    @property
    def is_of_training(self) -> bool:
        """Whether it sets a training, too: then most of its keys say nothing of the model."""
        return is_of_training(self.values)


def is_of_training(values: Mapping[str, Any], depth: int = 0) -> bool:
    """Whether a mapping, or one within it, sets a training."""
    if _TRAINING & values.keys():
        return True
    inner = [value for value in values.values() if isinstance(value, Mapping)]
    return depth < _DEEPEST_PLACE and any(is_of_training(value, depth + 1) for value in inner)


def find_sections(content: Mapping[Any, Any]) -> list[Section]:
    """Return what describes a checkpoint's model; of what they say differently, the last one's word counts.

    Raises CheckpointError where two of them, neither of which is the training's configuration beside the model's own
    arguments, contradict each other.
    """
    weights = find_weights(content) or {}
    width, layers = shape_of(weights)
    known = [Section(key, values, key in _ARGUMENTS) for key in (*_CONFIGURATIONS, *_ARGUMENTS)
             if (values := _known(content, key))]  # fmt: skip
    described = [section for section in _described(content, weights) if names_shape(section.values, width, layers)]
    # A section that is called as nanoGPT's is one of those already.
    others = [one for one in described if all(one.values != section.values for section in known)]
    fitting = [section for section in known if names_shape(section.values, width, layers)] + others
    held = list(_held(weights, width, layers))
    of_the_model = [section for section in fitting if not section.is_of_training]
    _require_agreement(of_the_model or fitting, _NO_TENSOR_SHOWS)
    _require_agreement(held, _NO_TENSOR_SHOWS)
    # A configuration's "gelu" may mean either form; the module that computes it says which.
    _require_agreement([*(of_the_model or fitting), *held], _NO_TENSOR_SHOWS - {"activation"})
    by_rank = sorted(
        [*known, *others],
        key=lambda s: (not _is_of_another_shape(s.values, width, layers), not s.is_of_training, s.is_arguments),
    )
    return [*by_rank, *held]


def names_shape(values: Mapping[str, Any], width: int | None, layers: int | None) -> bool:
    """Whether a mapping names heads, and a width or a number of layers that is the tensors' own."""
    found = _numbers(values)
    is_fitting = found.get("embedding_dim", -1) == width or found.get("num_layers", -1) == layers
    return "num_heads" in found and is_fitting


def _is_of_another_shape(values: Mapping[str, Any], width: int | None, layers: int | None) -> bool:
    found = _numbers(values)
    said = [found[name] == own for name, own in (("embedding_dim", width), ("num_layers", layers)) if name in found]
    return bool(said) and not any(said)


def _numbers(values: Mapping[str, Any]) -> dict[str, int]:
    return {NAMES[key]: value for key, value in values.items() if key in NAMES and type(value) is int}


def declared_heads(content: Mapping[Any, Any]) -> int | None:
    """Return the number of attention heads that a checkpoint itself declares, None if it says nothing of them."""
    heads = None
    for section in find_sections(content):
        for key, value in section.values.items():
            if NAMES.get(key) == "num_heads" and value is not None:
                heads = value
    return heads if type(heads) is int else None


def plain_fields(value: Any, depth: int = 0) -> Any:
    """Return dataclasses and namespaces as dictionaries of their fields, however deep they lie."""
    if value is None or isinstance(value, bool | int | float | str | Tensor):
        return value
    if depth > _DEEPEST_VALUE:
        return str(type(value))
    if isinstance(value, Number) and hasattr(value, "item"):  # NumPy's
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): plain_fields(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain_fields(item, depth + 1) for item in value]
    fields = getattr(value, "__dict__", None)
    return plain_fields(dict(fields), depth + 1) if isinstance(fields, dict) else str(value)


def _known(content: Mapping[Any, Any], key: str) -> dict[str, Any]:
    value = plain_fields(content.get(key))
    if not isinstance(value, dict):
        return {}
    nested = value.get("model")
    return nested if isinstance(nested, dict) else value


def _described(content: Mapping[Any, Any], weights: Mapping[str, Tensor]) -> Iterator[Section]:
    """Yield every mapping and object of a checkpoint that is no group of tensors, with the checkpoint's own keys."""
    flat = {str(key): value for key, value in content.items() if isinstance(value, bool | int | float | str)}
    yield Section("the checkpoint", flat)
    for key, value in content.items():
        is_plain = isinstance(value, bool | int | float | str | list | tuple | Tensor) or value is None
        if is_plain or value is weights or str(key).startswith("optim"):
            continue
        fields = plain_fields(value)
        if isinstance(fields, dict) and not any(isinstance(item, Tensor) for item in fields.values()):
            yield from _nested(str(key), fields, 1)


def _nested(place: str, values: dict[str, Any], depth: int) -> Iterator[Section]:
    yield Section(place, values)
    for key, value in values.items():
        if isinstance(value, dict) and depth < _DEEPEST_PLACE:
            yield from _nested(f"{place}.{key}", value, depth + 1)


def _held(weights: Mapping[str, Tensor], width: int | None, layers: int | None) -> Iterator[Section]:
    """Yield what the modules of a model that was pickled whole say of it; the same is said once."""
    if not isinstance(weights, ModuleWeights):
        return
    seen: list[dict[str, Any]] = []
    for module in weights.modules:
        found = [_attributes(module)]
        found += [value for value in module.attributes.values() if isinstance(value, dict)
                  and names_shape(value, width, layers)]  # fmt: skip
        for values in found:
            if values and values not in seen:
                seen.append(values)
                yield Section(f"its module {module.path or module.kind}", values, is_held=True)


def _attributes(module: HeldModule) -> dict[str, Any]:
    kind = module.kind.rpartition(".")[2]
    values: dict[str, Any] = {
        key: value
        for key, value in module.attributes.items()
        if NAMES.get(key) in ("num_heads", "kv_heads", "head_dim") and type(value) is int
    }
    if "norm" in kind.lower():
        epsilon = next((e for key in _EPSILONS if isinstance(e := module.attributes.get(key), float)), None)
        values |= {"norm_eps": epsilon} if epsilon is not None else {}
        values |= {"norm_type": "rmsnorm"} if kind == "RMSNorm" else {}
    if kind in _ACTIVATION_MODULES:
        is_tanh = module.attributes.get("approximate") == "tanh" or kind == "NewGELU"
        values["activation"] = "gelu_tanh" if is_tanh else kind.lower()
    return values


def _require_agreement(sections: list[Section], names: Set[str]) -> None:
    said: dict[str, tuple[Any, str]] = {}
    for section in sections:
        for key, value in section.values.items():
            name = NAMES.get(key, "")
            if name not in names or value is None:
                continue
            other, place = said.setdefault(name, (value, section.place))
            if other != value and str(other).lower() != str(value).lower():
                raise CheckpointError(
                    f"it contradicts itself: {place} has {name} = {other!r}, and {section.place} has {value!r}"
                )
