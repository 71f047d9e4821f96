"""Loss, perplexity and bits per byte over a text.

Each token is scored once, with the longest context the window leaves it.
Source of the sliding window: Hugging Face, "Perplexity of fixed-length models".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from llmbuilder.corpus.corpus_files import iter_pieces
from llmbuilder.errors import DataError
from llmbuilder.inference.generation import load_generator
from llmbuilder.model import LanguageModel
from llmbuilder.tokenizer import Tokenizer


@dataclass(frozen=True)
class Evaluation:
    """Mean negative log-likelihood in nats per token, its exponential, and bits per UTF-8 byte of the text."""

    loss: float
    perplexity: float
    bits_per_byte: float
    tokens: int
    bytes_of_text: int


def evaluate_model(
    model: str | Path | LanguageModel,
    data: str | Path,
    tokenizer: str | Path | Tokenizer | None = None,
    *,
    stride: int | None = None,
    batch_size: int = 8,
    device: str | None = None,
) -> Evaluation:
    """Measure how well a model predicts the text of a corpus file.

    Windows of the model's context length advance by `stride` tokens (default: half the context).
    Raises DataError if the text is empty or shorter than two tokens.
    """
    generator = load_generator(model, tokenizer, device)
    pieces: list[np.ndarray] = []
    size = 0
    separator = generator.tokenizer.end_of_text_id
    begins = True
    for text, ends in iter_pieces(Path(data)):
        begin = generator.tokenizer.beginning_ids if begins else []
        end = [separator] if ends and separator is not None else []
        pieces.append(np.asarray(begin + generator.tokenizer.encode(text) + end, dtype=np.uint32))
        begins = ends
        size += len(text.encode("utf-8"))
    tokens = np.concatenate(pieces)
    total = score_tokens(generator.model, tokens, stride=stride, batch_size=batch_size)
    loss = total / (len(tokens) - 1)
    return Evaluation(loss, math.exp(min(loss, 700)), total / math.log(2) / size, len(tokens), size)


@torch.inference_mode()
def score_tokens(model: LanguageModel, tokens: np.ndarray, *, stride: int | None = None, batch_size: int = 8) -> float:
    """Return the negative log-likelihood, in nats, of all tokens but the first. Raises DataError below two tokens."""
    if len(tokens) < 2:
        raise DataError(f"evaluation needs at least 2 tokens, the text has {len(tokens)}")
    model.eval()
    total = 0.0
    for inputs, targets in _batches(_windows(tokens, model.config.max_seq_length, stride), batch_size):
        logits = model(inputs.to(model.device))[0].float()
        total += float(F.cross_entropy(logits.flatten(0, 1), targets.to(model.device).flatten(), reduction="sum"))
    return total


def _windows(tokens: np.ndarray, context: int, stride: int | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (inputs, targets); targets already scored by an earlier window are -100."""
    context = min(context, len(tokens) - 1)
    step = max(1, min(stride or context // 2, context))
    scored = 0
    for begin in range(0, len(tokens) - 1, step):
        begin = min(begin, len(tokens) - 1 - context)
        targets = tokens[begin + 1 : begin + 1 + context].astype(np.int64)
        targets[: max(0, scored - begin)] = -100
        yield tokens[begin : begin + context].astype(np.int64), targets
        scored = begin + context
        if scored >= len(tokens) - 1:
            return


def _batches(
    windows: Iterator[tuple[np.ndarray, np.ndarray]], size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    batch: list[tuple[np.ndarray, np.ndarray]] = []
    for window in windows:
        batch.append(window)
        if len(batch) == size:
            yield _stack(batch)
            batch = []
    if batch:
        yield _stack(batch)


def _stack(batch: list[tuple[np.ndarray, np.ndarray]]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(np.stack([i for i, _ in batch])), torch.from_numpy(np.stack([t for _, t in batch]))
