"""Token files: a flat little-endian `NAME.bin` of uint16 or uint32 ids and a `NAME.json` that describes it.

The `.bin` is nanoGPT's format; a `.bin` without a `.json` is read as nanoGPT wrote it (uint16).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmbuilder.errors import DataError
from llmbuilder.files import atomic_path, write_json


@dataclass(frozen=True)
class TokenFileInfo:
    """What a token file holds; `document_ends` are the positions behind each document's last token."""

    tokens: int
    dtype: str
    tokenizer: str | None
    documents: int
    bytes_of_text: int
    document_ends: list[int]


class TokenWriter:
    """Writes one token file as a context manager; nothing appears under the final name until all is written."""

    def __init__(self, path: Path, vocab_size: int, *, tokenizer: str | None, separator: int | None) -> None:
        self._path = path
        self._dtype = np.dtype("<u2") if vocab_size <= 1 << 16 else np.dtype("<u4")
        self._tokenizer = tokenizer
        self._separator = separator
        self._tokens = self._bytes = 0
        self._ends: list[int] = []

    def __enter__(self) -> TokenWriter:
        self._context = atomic_path(self._path)
        self._handle = open(self._context.__enter__(), "wb")
        return self

    def add(self, ids: Iterable[int], bytes_of_text: int) -> None:
        """Append tokens of the current document."""
        values = np.asarray(ids, dtype=self._dtype)
        self._handle.write(values.tobytes())
        self._tokens += len(values)
        self._bytes += bytes_of_text

    def end_document(self) -> None:
        """Close the current document with the separator token, if there is one."""
        if self._separator is not None:
            self.add([self._separator], 0)
        self._ends.append(self._tokens)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._handle.close()
        self._context.__exit__(kind, error, trace)
        if error is None:
            info = TokenFileInfo(
                self._tokens, self._dtype.name, self._tokenizer, len(self._ends), self._bytes, self._ends
            )
            write_json(self._path.with_suffix(".json"), asdict(info))


def open_tokens(path: Path) -> tuple[np.ndarray, TokenFileInfo]:
    """Memory-map a token file. Raises DataError if it is missing, empty or not what its description says."""
    if not path.is_file():
        raise DataError(f"no such token file: {path}")
    description = path.with_suffix(".json")
    size = path.stat().st_size
    if description.is_file():
        try:
            info = TokenFileInfo(**json.loads(description.read_text("utf-8")))
            dtype = np.dtype(info.dtype).newbyteorder("<")
        except (json.JSONDecodeError, TypeError) as error:
            raise DataError(f"{description} does not describe a token file: {error}") from error
    else:
        dtype = np.dtype("<u2")
        info = TokenFileInfo(size // 2, "uint16", None, 1, 0, [size // 2])
    if size == 0 or size != info.tokens * dtype.itemsize:
        raise DataError(f"{path} is {size} bytes, expected {info.tokens * dtype.itemsize}: it is empty or cut short")
    return np.memmap(path, dtype=dtype, mode="r"), info
