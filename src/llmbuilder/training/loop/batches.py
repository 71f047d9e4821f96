"""The batches of each step, fetched when needed or ahead of time."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from llmbuilder.config.schema import TrainingConfig
from llmbuilder.errors import ConfigError
from llmbuilder.tokens.samples import SampleRows
from llmbuilder.tokens.windows import TokenWindows
from llmbuilder.training.processes.distributed import Processes


@dataclass(frozen=True)
class StepBatch:
    """What one process computes in a step: `parts` are the tensors of each accumulated forward pass.

    They are inputs, targets and, where samples share a row, positions: what `LanguageModel.summed_loss` takes; or what
    `PairRows.gather` gives. `num_targets` is the number of targets that count in the loss, or of pairs, in all parts of
    all processes.
    """

    parts: list[tuple[Tensor, ...]]
    num_targets: int


class StepBatches:
    """What each step trains on: a function of the number of its first sequence alone.

    `batch_size` times `gradient_accumulation_steps` sequences make a step, whatever the number of processes; each
    of several takes its part of them, in forward passes of at most `batch_size`.
    """

    def __init__(
        self,
        windows: TokenWindows | SampleRows,
        config: TrainingConfig,
        processes: Processes | None = None,
        *,
        pinned: bool = False,
    ) -> None:
        self.windows = windows
        self.sequences_per_step = config.batch_size * config.gradient_accumulation_steps
        processes = processes or Processes()
        if self.sequences_per_step % processes.count:
            raise ConfigError(
                f"{processes.count} processes cannot share the {self.sequences_per_step} sequences of a step evenly: "
                "choose training.batch_size or gradient_accumulation_steps so that their product is a multiple of "
                f"{processes.count}"
            )
        own = self.sequences_per_step // processes.count
        self._first = processes.rank * own
        self._parts = next(
            parts for parts in range(1, own + 1) if own % parts == 0 and own // parts <= config.batch_size
        )
        self._size = own // self._parts
        self._ahead = 2 * config.dataloader_num_workers
        self._pinned = pinned

    def steps_of(self, epochs: int, step: int, sequences: int) -> int:
        """Return the steps of a run of `epochs` passes over the data, `sequences` of them done in `step` steps."""
        left = epochs * len(self.windows) - sequences
        return max(1, step + math.ceil(left / self.sequences_per_step))

    def fetch(self, first: int) -> StepBatch:
        """Return this process's batches of the step whose first sequence has this number."""
        starts = self._starts(first)
        own = starts[self._first : self._first + self._parts * self._size]
        parts: list[tuple[Tensor, ...]] = [self.windows.gather(some) for some in np.split(own, self._parts)]
        if self._pinned:
            parts = [tuple(tensor.pin_memory() for tensor in part) for part in parts]
        return StepBatch(parts, self.windows.count_targets(starts))

    def starts(self, first: int) -> list[int]:
        """Return where the windows of a step, those of all processes, begin in the token file."""
        return self._starts(first).tolist()

    def _starts(self, first: int) -> np.ndarray:
        return self.windows.starts_at(first, self.sequences_per_step)

    @contextlib.contextmanager
    def stream(self, first: int) -> Iterator[Iterator[StepBatch]]:
        """Yield an endless iterator of steps' batches from a sequence on; with workers, a thread keeps some ready."""
        if not self._ahead:
            yield map(self.fetch, itertools.count(first, self.sequences_per_step))
            return
        with ThreadPoolExecutor(max_workers=1) as pool:  # one thread keeps the order
            yield self._fetch_ahead(pool, first)

    def _fetch_ahead(self, pool: ThreadPoolExecutor, first: int) -> Iterator[StepBatch]:
        waiting: deque[Future[StepBatch]] = deque()
        for begin in itertools.count(first, self.sequences_per_step):
            waiting.append(pool.submit(self.fetch, begin))
            if len(waiting) > self._ahead:
                yield waiting.popleft().result()


def dealt(batches: Iterator[Any], processes: Processes) -> Iterator[tuple[int, Any]]:
    """Deal batches to the processes in turn, as (1, batch); in the last round some get one that does not count."""
    while first := next(batches, None):
        hand = [first, *(batch for _, batch in zip(range(processes.count - 1), batches, strict=False))]
        counts = processes.rank < len(hand)
        yield int(counts), hand[processes.rank] if counts else first
