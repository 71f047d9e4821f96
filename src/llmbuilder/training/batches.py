"""The batches of each step, fetched when needed or ahead of time."""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from torch import Tensor

from llmbuilder.config.schema import TrainingConfig
from llmbuilder.data.dataset import TokenWindows

StepBatch = list[tuple[Tensor, Tensor]]  # (inputs, targets) of each accumulated forward pass


class StepBatches:
    """What each step trains on: a function of the step alone."""

    def __init__(self, windows: TokenWindows, config: TrainingConfig) -> None:
        self.windows = windows
        self._batch_size = config.batch_size
        self._parts = config.gradient_accumulation_steps
        self._ahead = config.dataloader_num_workers

    @property
    def sequences_per_step(self) -> int:
        return self._batch_size * self._parts

    def fetch(self, step: int) -> StepBatch:
        """Return the batches of a step."""
        first = step * self.sequences_per_step
        return [
            self.windows.gather(self.windows.starts_at(first + part * self._batch_size, self._batch_size))
            for part in range(self._parts)
        ]

    def starts(self, step: int) -> list[int]:
        """Return where the windows of a step begin in the token file."""
        return self.windows.starts_at(step * self.sequences_per_step, self.sequences_per_step).tolist()

    @contextlib.contextmanager
    def stream(self, first_step: int) -> Iterator[Iterator[StepBatch]]:
        """Yield an endless iterator of steps' batches; with workers, a thread keeps that many steps ready."""
        if not self._ahead:
            yield map(self.fetch, itertools.count(first_step))
            return
        with ThreadPoolExecutor(max_workers=1) as pool:  # one thread keeps the order
            yield self._fetch_ahead(pool, first_step)

    def _fetch_ahead(self, pool: ThreadPoolExecutor, first_step: int) -> Iterator[StepBatch]:
        waiting: deque[Future[StepBatch]] = deque()
        for step in itertools.count(first_step):
            waiting.append(pool.submit(self.fetch, step))
            if len(waiting) > self._ahead:
                yield waiting.popleft().result()
