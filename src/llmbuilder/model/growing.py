"""More rows for a model's embedding and output projection: tokens that its vocabulary gets later."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from llmbuilder.model.base import LanguageModel


@torch.no_grad()
def add_rows(model: LanguageModel, tokens: Sequence[int], known: int) -> None:
    """Give `tokens` rows, which begin at the mean of the first `known` ones: as likely as any, and near to all.

    Rows that the model has for nothing are used first.
    """
    size = max(model.config.vocab_size, max(tokens) + 1)
    head, embedding = model.lm_head, model.embedding
    embedding.weight = nn.Parameter(_grown(embedding.weight, tokens, known, size))
    embedding.num_embeddings = head.out_features = size
    if not model.config.tie_embeddings:
        head.weight = nn.Parameter(_grown(head.weight, tokens, known, size))
    model.config.vocab_size = size
    model.tie_embeddings()


def _grown(rows: Tensor, tokens: Sequence[int], known: int, size: int) -> Tensor:
    mean = rows[:known].float().mean(0).to(rows.dtype)
    grown = torch.cat([rows, mean.expand(size - len(rows), -1)])
    grown[list(tokens)] = mean
    return grown
