"""How likely each answer of the preference pairs is to the model that a run begins from, computed once."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from llmbuilder.data.dataset import TextDataset
from llmbuilder.notices import counted
from llmbuilder.tokens.pairs import PairRows
from llmbuilder.training.loop.batches import dealt
from llmbuilder.training.loop.learner import Learner
from llmbuilder.training.storage.paths import RunPaths
from llmbuilder.training.storage.reference import pair_rows, write_reference

_SILENCE = 15.0  # seconds between two lines about a long reference


def keep_reference(
    learner: Learner,
    dataset: TextDataset,
    paths: RunPaths,
    batch_size: int,
    log: Callable[[dict[str, Any]], None],
) -> float:
    """Give preference pairs the log-likelihoods of this moment, keep them with the run, and return the seconds taken.

    For the time before the first step, when adapters change nothing yet. With another dataset there is nothing to do.
    """
    begin = time.perf_counter()
    parts = pair_rows(dataset)
    if not parts:
        return 0.0
    learner.model.eval()
    news = _News(sum(map(len, parts.values())), log)
    values = {part: _log_likelihoods(learner, rows, batch_size, news) for part, rows in parts.items()}
    learner.model.train()
    for part, rows in parts.items():
        rows.reference = values[part]
    learner.processes.on_main(lambda: write_reference(values, paths))
    return time.perf_counter() - begin


class _News:
    """Says at first, and then now and then, how many of `total` pairs are done."""

    def __init__(self, total: int, log: Callable[[dict[str, Any]], None]) -> None:
        self._total, self._log = total, log
        self._done = 0
        self._at = time.monotonic()
        self._tell(f"Computing what {counted(total, 'pair is', 'pairs are')} to the model before it learns")

    def add(self, pairs: int) -> None:
        self._done = min(self._done + pairs, self._total)
        if time.monotonic() - self._at >= _SILENCE:
            self._at = time.monotonic()
            self._tell(f"{self._done:,} of {counted(self._total, 'pair')} computed")

    def _tell(self, event: str) -> None:
        self._log({"step": 0, "event": event})


def _log_likelihoods(learner: Learner, rows: PairRows, batch_size: int, news: _News) -> np.ndarray:
    """Return the log-likelihoods of both answers of each pair in nats, shape (pairs, 2), the same in all processes."""
    own = []
    for counts, batch in dealt(rows.in_order(batch_size), learner.processes):
        own.append(learner.log_likelihoods(*batch).float().view(-1, 2)[: len(batch[0]) // 2 * counts])
        news.add(len(batch[0]) // 2 * learner.processes.count)
    hands = itertools.zip_longest(*learner.processes.gather(own))
    return torch.cat([values for hand in hands for values in hand if values is not None]).numpy()
