"""What training makes smaller: how unlikely the text is, or how little a chosen answer is preferred to a rejected one.

An objective is called with a model and the tensors of one part of a `StepBatch`. It returns sums over what counts in
that part: first the loss in nats, then, without gradients, what its `reported` names.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from llmbuilder.config.schema import FinetuningConfig
from llmbuilder.model import LanguageModel
from llmbuilder.model.loss import IGNORE_INDEX


class Objective(Protocol):
    """What an objective owes to the loop."""

    reported: tuple[str, ...]

    def __call__(self, model: LanguageModel, *batch: Tensor) -> Tensor:
        """Return the sums over what counts in a part of a batch, the loss first."""

    def count(self, *batch: Tensor) -> int:
        """Return how much counts in a part of a batch."""

    def perplexity(self, loss: float) -> float | None:
        """Return the perplexity that a mean loss means; None where it means none."""


class Likelihood:
    """The cross-entropy of the targets that count."""

    reported: tuple[str, ...] = ()

    def __call__(self, model: LanguageModel, *batch: Tensor) -> Tensor:
        return model.summed_loss(*batch).unsqueeze(0)

    def count(self, *batch: Tensor) -> int:
        return int((batch[1] != IGNORE_INDEX).sum())

    def perplexity(self, loss: float) -> float | None:
        return math.exp(min(loss, 700))


class Preferences:
    """Direct preference optimization (Rafailov et al. 2023): -log sigmoid(margin) of each pair.

    The reward of an answer is `beta` times what its log-likelihood has gained over the model that training began from.
    The margin of a pair is the reward of its chosen answer less that of the rejected one. Reported are the margin, and
    in which share of the pairs it is positive. A batch is what `tokens.pairs.PairRows` gives.
    """

    reported: tuple[str, ...] = ("reward_margin", "reward_accuracy")

    def __init__(self, beta: float) -> None:
        self._beta = beta

    def __call__(self, model: LanguageModel, *batch: Tensor) -> Tensor:
        tokens, targets, *reference = batch
        of_chosen, of_rejected = model.log_likelihoods(tokens, targets).view(-1, 2).unbind(1)
        # Without a reference nothing is learned: a pass is timed before there is one.
        margins = self._beta * (of_chosen - of_rejected - (reference[0] if reference else 0.0))
        seen = margins.detach()
        return torch.stack([-F.logsigmoid(margins).sum(), seen.sum(), (seen > 0).sum().to(seen.dtype)])

    def count(self, *batch: Tensor) -> int:
        return len(batch[0]) // 2

    def perplexity(self, loss: float) -> float | None:
        return None


def objective_of(finetuning: FinetuningConfig) -> Objective:
    """Return the objective that a configuration asks for."""
    return Preferences(finetuning.dpo_beta) if finetuning.objective == "dpo" else Likelihood()
