"""The loss on text that is not trained on, and what the objective reports beside it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from llmbuilder.config.schema import TrainingConfig
from llmbuilder.errors import TrainingError
from llmbuilder.tokens.samples import SampleRows
from llmbuilder.tokens.windows import TokenWindows
from llmbuilder.training.loop.batches import dealt
from llmbuilder.training.loop.learner import Learner


@torch.no_grad()
def validate(learner: Learner, windows: TokenWindows | SampleRows | None, settings: TrainingConfig) -> dict[str, float]:
    """Return the mean loss over the windows in file order (at most `eval_batches` batches), the same in all processes.

    It is called `validation_loss`; what the objective reports has its name behind `validation_`, too. The model is in
    training mode afterwards. Raises TrainingError if there is no validation part.
    """
    if windows is None:
        raise TrainingError("there is no validation part: give TextDataset a train_split below 1")
    learner.model.eval()
    names = ["loss", *learner.objective.reported]
    sums: list[Tensor] = []
    number = 0
    batches = windows.in_order(settings.batch_size, settings.eval_batches)
    for counts, batch in dealt(batches, learner.processes):
        sums.append(learner.summed_loss(*batch) * counts)
        number += learner.objective.count(*batch) * counts
    learner.model.train()
    rows = torch.stack(sums).tolist() if sums else [[0.0] * len(names)]
    shares = learner.processes.gather(([math.fsum(column) for column in zip(*rows, strict=True)], number))
    whole = sum(count for _, count in shares)
    return {
        f"validation_{name}": math.fsum(share[place] for share, _ in shares) / whole for place, name in enumerate(names)
    }
