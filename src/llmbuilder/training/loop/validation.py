"""The loss on text that is not trained on."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from llmbuilder.config.schema import TrainingConfig
from llmbuilder.model.loss import IGNORE_INDEX
from llmbuilder.tokens.samples import SampleRows
from llmbuilder.tokens.windows import TokenWindows
from llmbuilder.training.loop.batches import dealt
from llmbuilder.training.loop.learner import Learner


@torch.no_grad()
def mean_loss(learner: Learner, windows: TokenWindows | SampleRows, settings: TrainingConfig) -> float:
    """Return the mean loss over the windows in file order (at most `eval_batches` batches), the same in all processes.

    The model is in training mode afterwards.
    """
    learner.model.eval()
    sums: list[Tensor] = []
    tokens = 0
    batches = windows.in_order(settings.batch_size, settings.eval_batches)
    for counts, batch in dealt(batches, learner.processes):
        sums.append(learner.summed_loss(*batch) * counts)
        tokens += int((batch[1] != IGNORE_INDEX).sum()) * counts
    learner.model.train()
    shares = learner.processes.gather((math.fsum(torch.stack(sums).tolist()) if sums else 0.0, tokens))
    return math.fsum(nats for nats, _ in shares) / sum(count for _, count in shares)
