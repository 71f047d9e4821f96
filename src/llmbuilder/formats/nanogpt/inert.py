"""Objects of programs as what they hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

_DEEPEST = 20


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
