"""Samples: token sequences that stand for themselves, of which only some tokens are learned, packed into rows.

Beside a token file `NAME.bin`, `NAME.ends.bin` says where each sample ends (int64), and `NAME.learned.bin` which tokens
are learned (a byte each). A row holds several samples, each with positions that begin anew and without attention to the
others, so that every token is trained on once an epoch and exactly as if it stood alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmbuilder.errors import DataError
from llmbuilder.files import atomic_file
from llmbuilder.tokens.shards import OpenedTokens, TokenWriter, open_tokens
from llmbuilder.tokens.shuffling import Shuffled

if TYPE_CHECKING:
    import torch

IGNORED = -100  # a target that does not count
_ENDS, _LEARNED = ".ends.bin", ".learned.bin"
CHOSEN = ".chosen.bin"  # of preference pairs, see `pairs`
LEFT_OUT = "left_out.jsonl"  # rows of the source that became no sample, each with its place and the reason
SAMPLE_FILES = (
    *(f"{part}{kind}" for part in ("train", "validation") for kind in (_ENDS, _LEARNED, CHOSEN)),
    LEFT_OUT,
)


def has_samples(token_file: Path) -> bool:
    """Whether a token file holds samples, and no running text."""
    return token_file.with_suffix(_ENDS).is_file()


class SampleWriter:
    """Writes a file of samples as a context manager; nothing appears under the final names until all is written."""

    def __init__(self, path: Path, vocab_size: int, *, tokenizer: str | None) -> None:
        self._path = path
        self._tokens = TokenWriter(path, vocab_size, tokenizer=tokenizer, separator=None)
        self._ends: list[int] = [0]
        self._learned: list[np.ndarray] = []

    def __enter__(self) -> SampleWriter:
        self._tokens.__enter__()
        return self

    def add(self, ids: np.ndarray, is_learned: np.ndarray, bytes_of_text: int) -> None:
        """Append a sample of at least two tokens."""
        self._tokens.add(ids, bytes_of_text)
        self._tokens.end_document()
        self._ends.append(self._ends[-1] + len(ids))
        self._learned.append(is_learned.astype(np.uint8))

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error is None and len(self._ends) > 1:
            for name, values in ((_LEARNED, np.concatenate(self._learned)), (_ENDS, np.array(self._ends[1:], "<i8"))):
                with atomic_file(self._path.with_suffix(name)) as handle:
                    handle.write(values.tobytes())
        self._tokens.__exit__(kind, error, trace)


class SampleRows:
    """Rows of `block_size` tokens to predict at most, over samples in a memory-mapped token file.

    Samples are put together by best fit, the longest first, always alike: which rows a step sees follows from the seed
    and the step. Raises DataError for files that do not belong together, and a sample that is longer than a row.
    """

    def __init__(self, path: Path, block_size: int, seed: int, opened: OpenedTokens | None = None) -> None:
        self.path = path
        self.tokens, self.info = opened or open_tokens(path)
        self.block_size = self.stride = self.sequence_tokens = block_size
        self.seed = seed
        ends = np.fromfile(path.with_suffix(_ENDS), "<i8")
        self._learned = np.memmap(path.with_suffix(_LEARNED), np.uint8, mode="r")
        if not len(ends) or int(ends[-1]) != len(self.tokens) or len(self._learned) != len(self.tokens):
            raise DataError(f"{path} and the files beside it do not belong together: tokenize the conversations again")
        self._begins = np.concatenate([[0], ends[:-1]])
        self._lengths = np.diff(ends, prepend=0)
        if int(self._lengths.max()) > block_size + 1:
            raise DataError(f"{path} holds samples that are longer than {block_size:,} tokens: tokenize them again")
        counts = np.add.reduceat(self._learned, self._begins, dtype=np.int64) - self._learned[self._begins]
        self._rows = self._arranged()
        self._targets = np.array([counts[row].sum() for row in self._rows])
        # A row is called by where its first sample begins.
        names = self._begins[[row[0] for row in self._rows]]
        self._order = np.argsort(names)
        self._names, self._sorted_names = names, names[self._order]

    def _arranged(self) -> list[list[int]]:
        """Return the numbers of the samples of each row."""
        return _packed(self._lengths - 1, self.block_size)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        """Return the tensors of a row."""
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return tuple(tensor[0] for tensor in self.gather(self._names[[index]]))

    def answers(self) -> np.ndarray:
        """Return the tokens that are learned, one sample's after the other."""
        return np.asarray(self.tokens[:])[np.asarray(self._learned) > 0]

    def gather(self, starts: np.ndarray) -> tuple[torch.Tensor, ...]:
        """Return inputs, targets and, where samples share a row, positions, each of shape (batch, longest row)."""
        import torch

        rows = [self._rows[number] for number in self._numbers(starts)]
        width = max(int((self._lengths[row] - 1).sum()) for row in rows)
        inputs, positions = np.zeros((2, len(rows), width), np.int64)
        targets = np.full((len(rows), width), IGNORED, np.int64)
        for number, row in enumerate(rows):
            at = 0
            for sample in row:
                length = int(self._lengths[sample]) - 1
                here = slice(at, at + length)
                inputs[number, here], targets[number, here] = self._predicted(sample)
                positions[number, here] = np.arange(length)
                at += length
            positions[number, at:] = np.arange(width - at)  # what fills a row up is a sample of its own, never learned
        tensors = tuple(map(torch.from_numpy, (inputs, targets, positions)))
        return tensors if any(len(row) > 1 for row in rows) else tensors[:2]

    def _predicted(self, sample: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a sample's inputs and targets."""
        begin, end = int(self._begins[sample]), int(self._begins[sample] + self._lengths[sample])
        ids = np.asarray(self.tokens[begin:end], np.int64)
        return ids[:-1], np.where(self._learned[begin + 1 : end] > 0, ids[1:], IGNORED)

    def starts_at(self, first: int, count: int) -> np.ndarray:
        """Return the names of `count` rows, from number `first` on, of an endless stream of shuffled epochs."""
        numbers = np.arange(first, first + count)
        rows = np.empty(count, dtype=np.int64)
        for epoch in np.unique(numbers // len(self)):
            here = numbers // len(self) == epoch
            random = np.random.default_rng([self.seed, int(epoch)])
            rows[here] = Shuffled(len(self), random)[numbers[here] % len(self)]
        return self._names[rows]

    def count_targets(self, starts: np.ndarray) -> int:
        """Return how many targets of these rows count in the loss."""
        return int(self._targets[self._numbers(starts)].sum())

    def in_order(self, batch_size: int, limit: int | None = None) -> Iterator[tuple[torch.Tensor, ...]]:
        """Yield batches of the rows, at most `limit` of them, spread evenly."""
        names = self._names
        if limit is not None and limit * batch_size < len(names):
            names = names[np.arange(limit * batch_size) * len(names) // (limit * batch_size)]
        for begin in range(0, len(names), batch_size):
            yield self.gather(names[begin : begin + batch_size])

    def _numbers(self, starts: np.ndarray) -> np.ndarray:
        return self._order[np.searchsorted(self._sorted_names, starts)]


def _packed(lengths: np.ndarray, size: int) -> list[list[int]]:
    """Return the numbers of the samples of each row: best fit, the longest first (Johnson 1973)."""
    rows: list[list[int]] = []
    with_room: dict[int, list[int]] = {}  # rows by the room that is left in them
    rooms = 0  # a bit for each room that some row has
    for sample in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[sample])
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            row = with_room[room].pop()
            if not with_room[room]:
                rooms &= ~(1 << room)
            rows[row].append(sample)
        else:
            room, row = size, len(rows)
            rows.append([sample])
        if left := room - length:
            with_room.setdefault(left, []).append(row)
            rooms |= 1 << left
    return rows
