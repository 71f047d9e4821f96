"""Token files: a flat little-endian `NAME.bin` of uint16 or uint32 ids and a `NAME.json` that describes it.

The `.bin` is nanoGPT's format; a `.bin` without a `.json` is read as nanoGPT wrote it (uint16).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from llmbuilder.errors import DataError
from llmbuilder.files import atomic_path, write_json


@dataclass(frozen=True)
class TokenFileInfo:
    """What a token file holds."""

    tokens: int
    dtype: str
    tokenizer: str | None
    documents: int
    bytes_of_text: int

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TokenFileInfo:
        """Return what a description says; what other versions add to it is passed over."""
        return cls(**{field.name: values[field.name] for field in fields(cls)})


class TokenWriter:
    """Writes one token file as a context manager; nothing appears under the final name until all is written."""

    def __init__(self, path: Path, vocab_size: int, *, tokenizer: str | None, separator: int | None) -> None:
        self._path = path
        self._dtype = np.dtype("<u2") if vocab_size <= 1 << 16 else np.dtype("<u4")
        self._tokenizer = tokenizer
        self._separator = separator
        self._tokens = self._bytes = self._documents = 0
        self._begin = 0  # of the current document
        self._lengths: Counter[int] = Counter()

    def __enter__(self) -> TokenWriter:
        self._context = atomic_path(self._path)
        self._handle = open(self._context.__enter__(), "wb")
        return self

    def add(self, ids: Sequence[int] | np.ndarray, bytes_of_text: int) -> None:
        """Append tokens of the current document."""
        values = np.asarray(ids, dtype=self._dtype)
        self._handle.write(values.tobytes())
        self._tokens += len(values)
        self._bytes += bytes_of_text

    def end_document(self) -> None:
        """Close the current document with the separator token, if there is one."""
        self._lengths[max(1, self._tokens - self._begin).bit_length() - 1] += 1
        if self._separator is not None:
            self.add([self._separator], 0)
        self._documents += 1
        self._begin = self._tokens

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._handle.close()
        self._context.__exit__(kind, error, trace)
        if error is None:
            write_json(self._path.with_suffix(".json"), self.summary())

    def summary(self) -> dict[str, Any]:
        """Return what was written; `lengths` counts documents by the power of two below their number of tokens."""
        return {
            "tokens": self._tokens,
            "dtype": self._dtype.name,
            "tokenizer": self._tokenizer,
            "documents": self._documents,
            "bytes_of_text": self._bytes,
            "lengths": {str(key): self._lengths[key] for key in sorted(self._lengths)},
        }


class TokenShards:
    """Several token files as one sequence, memory-mapped; indexing takes slices and arrays of positions."""

    def __init__(self, arrays: Sequence[np.ndarray]) -> None:
        self._arrays = arrays
        self._ends = np.cumsum([len(array) for array in arrays])
        self.dtype = arrays[0].dtype

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        if isinstance(index, slice):
            index = np.arange(*index.indices(len(self)))
        result = np.empty(index.shape, self.dtype)
        shards = np.searchsorted(self._ends, index, side="right")
        for number in np.unique(shards):
            here = shards == number
            begin = self._ends[number] - len(self._arrays[number])
            result[here] = self._arrays[number][index[here] - begin]
        return result

    def max(self) -> int:
        """Return the largest id (reads everything)."""
        return max(int(array.max()) for array in self._arrays)


OpenedTokens = tuple["np.ndarray | TokenShards", TokenFileInfo]


def open_shards(folder: Path, description: dict[str, Any]) -> OpenedTokens:
    """Memory-map the shards of a part of a prepared corpus. Raises DataError if one is missing or cut short."""
    opened: list[Any] = [open_tokens(folder / name)[0] for name in description["shards"]]
    whole: np.ndarray | TokenShards = opened[0] if len(opened) == 1 else TokenShards(opened)
    if len(whole) != description["tokens"]:
        raise DataError(f"{folder} holds {len(whole):,} tokens, expected {description['tokens']:,}: prepare it again")
    return whole, TokenFileInfo.from_dict(description)


def open_tokens(path: Path) -> OpenedTokens:
    """Memory-map a token file. Raises DataError if it is missing, empty or not what its description says."""
    if not path.is_file():
        raise DataError(f"no such token file: {path}")
    description = path.with_suffix(".json")
    size = path.stat().st_size
    if description.is_file():
        try:
            info = TokenFileInfo.from_dict(json.loads(description.read_text("utf-8")))
            dtype = np.dtype(info.dtype).newbyteorder("<")
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise DataError(f"{description} does not describe a token file: {error}") from error
    else:
        dtype = np.dtype("<u2")
        info = TokenFileInfo(size // 2, "uint16", None, 1, 0)
    if size == 0 or size != info.tokens * dtype.itemsize:
        raise DataError(f"{path} is {size} bytes, expected {info.tokens * dtype.itemsize}: it is empty or cut short")
    return np.memmap(path, dtype=dtype, mode="r"), info
