"""How likely each answer of the preference pairs is to the model that a run begins from, computed once."""

from __future__ import annotations

import itertools
import time

import numpy as np
import torch

from llmbuilder.data.dataset import TextDataset
from llmbuilder.tokens.pairs import PairRows
from llmbuilder.training.loop.batches import dealt
from llmbuilder.training.loop.learner import Learner
from llmbuilder.training.storage.paths import RunPaths
from llmbuilder.training.storage.reference import pair_rows, write_reference


def keep_reference(learner: Learner, dataset: TextDataset, paths: RunPaths, batch_size: int) -> float:
    """Give preference pairs the log-likelihoods of this moment, keep them with the run, and return the seconds taken.

    For the time before the first step, when adapters change nothing yet. With another dataset there is nothing to do.
    """
    begin = time.perf_counter()
    parts = pair_rows(dataset)
    if not parts:
        return 0.0
    learner.model.eval()
    values = {part: _log_likelihoods(learner, rows, batch_size) for part, rows in parts.items()}
    learner.model.train()
    for part, rows in parts.items():
        rows.reference = values[part]
    learner.processes.on_main(lambda: write_reference(values, paths))
    return time.perf_counter() - begin


def _log_likelihoods(learner: Learner, rows: PairRows, batch_size: int) -> np.ndarray:
    """Return the log-likelihoods of both answers of each pair in nats, shape (pairs, 2), the same in all processes."""
    own = [
        learner.log_likelihoods(*batch).float().view(-1, 2)[: len(batch[0]) // 2 * counts]
        for counts, batch in dealt(rows.in_order(batch_size), learner.processes)
    ]
    hands = itertools.zip_longest(*learner.processes.gather(own))
    return torch.cat([values for hand in hands for values in hand if values is not None]).numpy()
