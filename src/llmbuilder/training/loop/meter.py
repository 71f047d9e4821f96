"""Where the time of a run goes: speed, use of the device, waiting for data, memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, TypeVar

import torch

from llmbuilder.machine import used_memory_bytes

T = TypeVar("T")


class Meter:
    """Adds up steps between two lines of the log."""

    def __init__(self, device: torch.device, tokens_per_step: int, flops_per_token: int, peak: float | None) -> None:
        self._device = device
        self._tokens = tokens_per_step
        self._flops = flops_per_token
        self._peak = peak
        self._clear()

    def _clear(self) -> None:
        self._steps, self._seconds, self._waiting, self._stalled = 0, 0.0, 0.0, 0.0

    def add_step(self, seconds: float, waiting: float) -> None:
        """Count a step of `seconds`, `waiting` of them for its data."""
        self._steps += 1
        self._seconds += seconds
        self._waiting += waiting

    def add_stall(self, seconds: float) -> None:
        """Count seconds in which a checkpoint kept the next step from beginning."""
        self._stalled += seconds

    def speed(self) -> dict[str, float]:
        """Return tokens per second and, where the device's peak is known, model FLOPs utilisation (MFU).

        MFU is the share of the peak that the model's own operations reach (Chowdhery et al. 2022, appendix B).
        """
        rate = self._steps * self._tokens / self._seconds if self._seconds else 0.0
        return {"tokens_per_second": rate, **({"mfu": rate * self._flops / self._peak} if self._peak else {})}

    def take(self) -> dict[str, Any]:
        """Return what came together since the last call, and begin anew."""
        metrics: dict[str, Any] = {**self.speed(), "data_wait": self._waiting / self._seconds if self._seconds else 0.0}
        if self._stalled:
            metrics["checkpoint_stall_seconds"] = self._stalled
        if memory := used_memory_bytes(self._device):
            metrics["memory_bytes"] = memory
        self._clear()
        return metrics


def timed(items: Iterator[T]) -> Iterator[tuple[float, T]]:
    """Yield each item with the seconds that waiting for it took."""
    while True:
        begin = time.perf_counter()
        item = next(items)
        yield time.perf_counter() - begin, item
