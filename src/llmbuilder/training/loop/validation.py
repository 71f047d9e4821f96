"""The loss on text that is not trained on."""

from __future__ import annotations

import torch

from llmbuilder.config.schema import TrainingConfig
from llmbuilder.tokens.windows import TokenWindows
from llmbuilder.training.loop.batches import dealt
from llmbuilder.training.loop.learner import Learner


@torch.no_grad()
def mean_loss(learner: Learner, windows: TokenWindows, settings: TrainingConfig) -> float:
    """Return the mean loss over the windows in file order (at most `eval_batches` batches), the same in all processes.

    The model is in training mode afterwards.
    """
    learner.model.eval()
    total = torch.zeros(2, dtype=torch.float64, device=learner.device)
    batches = windows.in_order(settings.batch_size, settings.eval_batches)
    for counts, (inputs, targets) in dealt(batches, learner.processes):
        tokens = targets.numel() * counts
        total += torch.tensor([learner.loss(inputs, targets).item() * tokens, tokens], device=learner.device)
    learner.model.train()
    loss, tokens = learner.processes.mean(total).tolist()
    return loss / tokens
