"""Losses that should not be: not finite, or far above the recent ones."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import deque

_WINDOW = 100
_COMPARED = 20
_JUDGES_FROM = 30  # steps; before, the loss falls too fast to tell a spike
# Between sequences, of the mean and in nats. One that is harder than all the last hundred steps held is no spike: it
# counts for what it adds to the mean of its step, which is all in a step of one and next to nothing in a large one.
_SPREAD, _SPREAD_NATS = 0.3, 0.5
_LEAST_RISE = 0.1  # of the recent mean, so that a very even run does not call noise a spike


class LossWatch:
    """Knows the recent losses and tells when one does not belong to them, by steps of so many sequences."""

    def __init__(self, threshold: float, sequences_per_step: int = 1024) -> None:
        self._threshold = threshold
        self._per_step = sequences_per_step
        self.losses: deque[float] = deque(maxlen=_WINDOW)

    def problem(self, loss: float, grad_norm: float | None) -> str | None:
        """Return what is wrong with a step's loss or gradient norm, or None; fine losses are remembered."""
        if not math.isfinite(loss):
            return f"the loss became {loss}"
        if grad_norm is not None and not math.isfinite(grad_norm):
            return f"the gradient norm became {grad_norm}"
        if self._threshold and len(self.losses) >= _JUDGES_FROM:
            mean, seen = self._recent_noise()
            deviation = max(seen, max(_SPREAD * mean, _SPREAD_NATS) / self._per_step)
            if loss > mean + max(self._threshold * deviation, _LEAST_RISE * mean):
                return (
                    f"the loss rose to {loss:.4f}, {(loss - mean) / max(deviation, 1e-9):.0f} standard deviations "
                    f"above the {mean:.4f} of the last {_COMPARED} steps"
                )
        self.losses.append(loss)
        return None

    def _recent_noise(self) -> tuple[float, float]:
        """Return the mean of the last losses, and their noise: from step to step, because the loss also falls."""
        losses = list(self.losses)
        changes = [after - before for before, after in itertools.pairwise(losses)]
        return statistics.fmean(losses[-_COMPARED:]), statistics.pstdev(changes) / math.sqrt(2)

    def recent(self, count: int) -> float | None:
        """Return the mean of the last `count` losses, or None before the first."""
        last = list(self.losses)[-count:]
        return sum(last) / len(last) if last else None
