"""What predicting tokens costs a model: nats, and the bytes of text that they bought."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from llmbuilder.evaluation.intervals import Blocks
from llmbuilder.model import LanguageModel
from llmbuilder.model.loss import IGNORE_INDEX
from llmbuilder.threads import FairThreads


@dataclass
class Score:
    """Sums over tokens: `nats` of all `tokens`, `text_nats` of those that stand for the `bytes_of_text`.

    `blocks` are the same sums of parts of the text.
    """

    nats: float = 0.0
    tokens: int = 0
    text_nats: float = 0.0
    bytes_of_text: int = 0
    blocks: Blocks = field(default_factory=Blocks)

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.nats / self.tokens

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte of text, special tokens counting in neither; not a number where there is no text."""
        return self.text_nats / self.bytes_of_text / math.log(2) if self.bytes_of_text else math.nan


@torch.inference_mode()
def score(
    model: LanguageModel,
    batches: Iterable[tuple[Tensor, ...]],
    sizes: np.ndarray,
    scored: Callable[[int], None] | None = None,
) -> Score:
    """Return the score of a model on batches of what `LanguageModel.losses` takes; targets of -100 do not count.

    `sizes` are the bytes of each token (see `token_bytes`). `scored` is told after each batch how many tokens are.
    """
    model.eval()
    table = torch.from_numpy(sizes)
    found = Score()
    with FairThreads.on(model.device) as threads:
        for batch in batches:
            begin = time.perf_counter()
            nats = model.losses(*(tensor.to(model.device) for tensor in batch)).flatten().double().cpu()
            threads.note(time.perf_counter() - begin)
            flat = batch[1].flatten()
            counted = flat != IGNORE_INDEX
            nats, bytes_of = nats[counted], table[flat[counted]]
            is_text = bytes_of >= 0
            found.nats += float(nats.sum())
            found.tokens += int(counted.sum())
            found.text_nats += float(nats[is_text].sum())
            found.bytes_of_text += int(bytes_of[is_text].sum())
            found.blocks.add(nats.numpy(), bytes_of.numpy())
            if scored is not None:
                scored(found.tokens)
    return found


def sliding_windows(
    pieces: Iterable[np.ndarray], context: int, stride: int | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (inputs, targets) over a stream of tokens, of which no more is held than a window and a piece.

    Windows of `context` tokens advance by `stride` (default: half the context); the last one ends with the stream.
    Targets already scored by an earlier window, and nothing else, are -100.
    """
    step = max(1, min(stride or context // 2, context))
    passed = held = np.empty(0, dtype=np.int64)
    scored = 1  # of the tokens held, from the first on; the very first has nothing to be predicted from
    for piece in pieces:
        held = np.concatenate([held, piece.astype(np.int64)])
        while len(held) > context:
            yield _window(held[: context + 1], scored)
            passed, held = held[:step], held[step:]
            scored = context + 1 - step
    unscored = len(held) - scored
    if unscored > 0:
        last = np.concatenate([passed, held])[-(context + 1) :]
        yield _window(last, len(last) - unscored)


def _window(tokens: np.ndarray, scored: int) -> tuple[np.ndarray, np.ndarray]:
    targets = tokens[1:].copy()
    targets[: scored - 1] = IGNORE_INDEX
    return tokens[:-1], targets


def batched_windows(windows: Iterable[tuple[np.ndarray, np.ndarray]], size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield windows `size` at a time, as tensors; shorter ones are filled up with tokens that do not count."""
    batch: list[tuple[np.ndarray, np.ndarray]] = []
    for window in windows:
        batch.append(window)
        if len(batch) == size:
            yield _stack(batch)
            batch = []
    if batch:
        yield _stack(batch)


def _stack(batch: list[tuple[np.ndarray, np.ndarray]]) -> tuple[Tensor, Tensor]:
    length = max(len(inputs) for inputs, _ in batch)
    filled = np.zeros((2, len(batch), length), np.int64)
    filled[1] = IGNORE_INDEX
    for row, (inputs, targets) in enumerate(batch):
        filled[0, row, : len(inputs)], filled[1, row, : len(targets)] = inputs, targets
    return torch.from_numpy(filled[0]), torch.from_numpy(filled[1])
