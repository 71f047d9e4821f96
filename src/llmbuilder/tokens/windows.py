"""Windows of tokens for training and validation, memory-mapped.

Which windows a step sees is a pure function of the seed and the step, so a resumed run sees the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from llmbuilder.errors import DataError
from llmbuilder.tokens.shards import OpenedTokens, open_tokens
from llmbuilder.tokens.shuffling import Shuffled

if TYPE_CHECKING:
    import torch


class TokenWindows:
    """Windows of `block_size` + 1 tokens over a memory-mapped token file or shards `opened` already, `stride` apart.

    Without a stride windows follow each other without overlap, and each epoch begins at another offset so
    that tokens change their place in the window. Those of a text shorter than two windows overlap: all of it is seen.
    With `first_of_document`, the id that documents begin with, these have positions of their own and do not see others.
    """

    def __init__(
        self,
        path: Path,
        block_size: int,
        stride: int | None,
        seed: int,
        opened: OpenedTokens | None = None,
        *,
        first_of_document: int | None = None,
    ) -> None:
        self.path = path
        self.tokens, self.info = opened or open_tokens(path)
        self.seed = seed
        if len(self.tokens) < block_size + 1:
            raise DataError(
                f"too little text: {path.stem} has {len(self.tokens):,} tokens, and a window of block_size "
                f"{block_size} needs {block_size + 1:,}; use block_size {max(1, len(self.tokens) - 1)} or less, "
                "or add text"
            )
        self._first_of_document = first_of_document
        self.block_size = self.sequence_tokens = block_size
        self.stride = stride or block_size
        room = len(self.tokens) - 1 - block_size
        self._slack = 1
        if stride is None and 0 < room < 2 * block_size - 1:  # two windows: with one alone, part of it is never seen
            self.stride = min(block_size, room)
            self._slack = room - self.stride + 1
        elif stride is None and room > 0:
            self._slack = block_size
        self._count = (room - (self._slack - 1)) // self.stride + 1

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        """Return the tensors of window `index` in file order, each of shape (block_size,)."""
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return tuple(tensor[0] for tensor in self.gather(np.array([index % len(self) * self.stride])))

    def gather(self, starts: np.ndarray) -> tuple[torch.Tensor, ...]:
        """Return inputs, targets and, where documents meet, positions of windows that begin at these tokens.

        Each has the shape (batch, block_size).
        """
        import torch

        rows = self.tokens[starts[:, None] + np.arange(self.block_size + 1)].astype(np.int64)
        batch = torch.from_numpy(rows)
        inputs, targets = batch[:, :-1], batch[:, 1:]
        if self._first_of_document is None:
            return inputs, targets
        begins = rows[:, :-1] == self._first_of_document
        begins[:, 0] = True
        if begins.sum() == len(rows):
            return inputs, targets
        places = np.arange(self.block_size)
        return inputs, targets, torch.from_numpy(places - np.maximum.accumulate(np.where(begins, places, 0), axis=1))

    def starts_at(self, first: int, count: int) -> np.ndarray:
        """Return where `count` windows begin, from number `first` on, of an endless stream of shuffled epochs."""
        numbers = np.arange(first, first + count)
        starts = np.empty(count, dtype=np.int64)
        for epoch in np.unique(numbers // len(self)):
            here = numbers // len(self) == epoch
            random = np.random.default_rng([self.seed, int(epoch)])
            offset = int(random.integers(self._slack)) if epoch else 0
            starts[here] = Shuffled(len(self), random)[numbers[here] % len(self)] * self.stride + offset
        return starts

    def count_targets(self, starts: np.ndarray) -> int:
        """Return how many targets of the windows that begin at these tokens count in the loss: all of them."""
        return len(starts) * self.block_size

    def in_order(self, batch_size: int, limit: int | None = None) -> Iterator[tuple[torch.Tensor, ...]]:
        """Yield batches of the non-overlapping windows in file order, at most `limit` of them, spread evenly."""
        starts = np.arange(0, len(self.tokens) - self.block_size, self.block_size)
        if limit is not None and limit * batch_size < len(starts):
            starts = starts[np.arange(limit * batch_size) * len(starts) // (limit * batch_size)]
        for begin in range(0, len(starts), batch_size):
            yield self.gather(starts[begin : begin + batch_size])
