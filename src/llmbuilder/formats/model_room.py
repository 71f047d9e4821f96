"""Whether a model fits into this machine's memory, asked before it is read."""

from __future__ import annotations

import logging

import torch

from llmbuilder.errors import CheckpointError
from llmbuilder.machine import memory_bytes

logger = logging.getLogger("llmbuilder")


def fitting_dtype(parameters: int, stored_bytes: int, wanted: torch.dtype | None = None) -> torch.dtype | None:
    """Return the `wanted` type (default: float32) if a model fits into memory in it.

    None, with a warning, if no type was asked for and it fits only in the types that it is stored in.
    Raises CheckpointError, naming the largest model that fits, if it does not fit.
    """
    memory, size = memory_bytes(), (wanted or torch.float32).itemsize
    if size * parameters <= memory:
        return wanted or torch.float32
    needed = stored_bytes if wanted is None else size * parameters
    if needed > memory:
        largest = memory / (needed / parameters)
        raise CheckpointError(
            f"it has {parameters / 1e9:,.3f} billion parameters, which take {needed / 2**30:,.2f} GiB, and this "
            f"machine has {memory / 2**30:,.2f} GiB: the largest that fits has {largest / 1e9:,.3f} billion"
        )
    logger.warning(
        f"{parameters / 1e9:,.2f} billion parameters do not fit into memory in float32: they stay in the type that "
        "they are stored in, which is less exact and on many CPUs slower"
    )
    return None
