"""Preference pairs: samples two by two, a chosen answer and behind it the rejected one.

Beside the files of samples (see `samples`), `NAME.chosen.bin` says of each sample whether it is the chosen one (a byte
each).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmbuilder.errors import DataError
from llmbuilder.files import atomic_file
from llmbuilder.tokens.samples import CHOSEN, IGNORED, SampleRows, SampleWriter

if TYPE_CHECKING:
    import torch

    from llmbuilder.tokens.shards import OpenedTokens


def has_pairs(token_file: Path) -> bool:
    """Whether the samples of a token file are preference pairs."""
    return token_file.with_suffix(CHOSEN).is_file()


class PairWriter(SampleWriter):
    """Writes a file of pairs: of each, the chosen sample is to be added first, then the rejected one."""

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        count = len(self._learned)
        if error is None and count:
            with atomic_file(self._path.with_suffix(CHOSEN)) as handle:
                handle.write(np.resize(np.array([1, 0], np.uint8), count).tobytes())
        super().__exit__(kind, error, trace)


class PairRows(SampleRows):
    """Pairs as the sequences of a batch; each has two rows in it, the chosen answer's first.

    `reference` has the log-likelihoods of both answers of each pair, in the order of the file, under the model that
    training begins from: shape (pairs, 2), None until they are known. Raises DataError as `SampleRows`.
    """

    def __init__(self, path: Path, block_size: int, seed: int, opened: OpenedTokens | None = None) -> None:
        super().__init__(path, block_size, seed, opened)
        self.sequence_tokens = 2 * block_size
        self.reference: np.ndarray | None = None

    def _arranged(self) -> list[list[int]]:
        is_chosen = np.fromfile(self.path.with_suffix(CHOSEN), np.uint8)
        if len(is_chosen) != len(self._lengths) or len(is_chosen) % 2 or (is_chosen.reshape(-1, 2) != [1, 0]).any():
            raise DataError(f"{self.path} and the files beside it do not belong together: tokenize the pairs again")
        return [[number, number + 1] for number in range(0, len(is_chosen), 2)]

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        """Return the tensors of a pair, each of its two rows."""
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self.gather(self._names[[index]])

    def gather(self, starts: np.ndarray) -> tuple[torch.Tensor, ...]:
        """Return inputs and targets, each of shape (2 pairs, longest), and what `reference` says is between the two.

        That is the log-likelihood of the chosen answer less that of the rejected one, shape (pairs); it is left out as
        long as `reference` is not known.
        """
        import torch

        pairs = self._numbers(starts)
        samples = [sample for pair in pairs for sample in self._rows[pair]]
        width = int(self._lengths[samples].max()) - 1
        inputs = np.zeros((len(samples), width), np.int64)
        targets = np.full((len(samples), width), IGNORED, np.int64)
        for row, sample in enumerate(samples):
            here = slice(0, int(self._lengths[sample]) - 1)
            inputs[row, here], targets[row, here] = self._predicted(sample)
        tensors = (torch.from_numpy(inputs), torch.from_numpy(targets))
        if self.reference is None:
            return tensors
        between = (self.reference[pairs, 0] - self.reference[pairs, 1]).astype(np.float32)
        return (*tensors, torch.from_numpy(between))

    def count_targets(self, starts: np.ndarray) -> int:
        """Return how many pairs these are: each counts once in the loss, however long its answers are."""
        return len(starts)
