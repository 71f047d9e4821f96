"""Checkpoints whose configuration is an object (a dataclass, a namespace), read without running anything in them.

nanoGPT's relatives store `model.config` itself, which needs the project's class to be unpickled. Here every class that
a file asks for is replaced by one that does nothing but hold values, so nothing of the project, nor of a library, is
called.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger("llmbuilder")
_DESCRIBING = ("config", "model_args", "model_config", "args", "hparams", "hyperparameters", "training_args")
_DEEPEST = 20


class InertObject:
    """What stands in the place of an object of a class that is not loaded: its fields, and nothing else."""

    def __new__(cls, *_: Any, **__: Any) -> InertObject:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update({str(key): value for key, value in state.items()})


def read_inert(path: Path) -> dict[str, Any] | None:
    """Return a checkpoint whose describing entries are objects, with those as dictionaries of their fields.

    Other entries with objects in them are left out, with a warning. None if the file cannot be read that way.
    """
    try:
        wanted = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
        stand_ins: list[Any] = [(type("InertObject", (InertObject,), {}), name) for name in wanted]
        with torch.serialization.safe_globals(stand_ins):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, ValueError, TypeError, AttributeError, RuntimeError, OSError, EOFError):
        return None
    if not isinstance(content, Mapping):
        return None
    plain = {
        key: plain_fields(value) if key in _DESCRIBING else value
        for key, value in content.items()
        if key in _DESCRIBING or not _holds_objects(value)
    }
    left = [str(key) for key in content if key not in plain]
    if left:
        logger.warning(f"{path}: left out, because they hold objects: {', '.join(left)}")
    return plain


def plain_fields(value: Any, depth: int = 0) -> Any:
    """Return dataclasses, namespaces and stand-ins as dictionaries of their fields, however deep they lie."""
    if depth > _DEEPEST or value is None or isinstance(value, bool | int | float | str | Tensor):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain_fields(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain_fields(item, depth + 1) for item in value]
    fields = getattr(value, "__dict__", None)
    return plain_fields(dict(fields), depth + 1) if isinstance(fields, dict) else str(value)


def _holds_objects(value: Any, depth: int = 0) -> bool:
    if isinstance(value, InertObject) or depth > _DEEPEST:
        return True
    if isinstance(value, Mapping):
        return any(_holds_objects(item, depth + 1) for item in value.values())
    return isinstance(value, list | tuple) and any(_holds_objects(item, depth + 1) for item in value)
