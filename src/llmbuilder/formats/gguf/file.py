"""The container: the metadata and the tensors of a GGUF file, mapped and read under limits.

Nothing that the file says of itself is believed before it was held against the file's size. The `gguf` library's own
reader is for files that are whole: it cuts slices off at the file's end without a word, and makes an object of every
number in a list. What its tensors' types mean, that library tells.
Source: ggml's docs/gguf.md.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmbuilder.errors import CheckpointError
from llmbuilder.formats.model_places import GGUF_MAGIC

_VERSIONS = (2, 3)
_SCALARS = {
    0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "<u1", 10: "<u8", 11: "<i8", 12: "<f8",
}  # fmt: skip
_BOOL, _STRING, _ARRAY = 7, 8, 9
_MOST_KEYS = _MOST_TENSORS = 1 << 16
_MOST_STRINGS = 1 << 22  # in all lists together: a vocabulary and its merges have a million
_LONGEST_TEXT = 1 << 26  # bytes
_LONGEST_NAME = 1 << 16  # bytes
_MOST_DIMENSIONS = 4
_LARGEST_ALIGNMENT = 1 << 20
_PIECE = 1 << 20  # numbers converted at a time


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies: `shape` has the innermost dimension last, `kind` is the number of its type in ggml."""

    name: str
    shape: tuple[int, ...]
    kind: int
    begin: int
    bytes: int


class GGUFFile:
    """A GGUF file's `fields` (numbers, texts, lists of texts, NumPy arrays) and `tensors`, by name.

    Raises CheckpointError, naming the file and the field, for what is no whole GGUF file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            with open(self.path, "rb") as handle:
                if os.fstat(handle.fileno()).st_size == 0:
                    raise CheckpointError(f"{path} is empty")
                self._data = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
        cursor = _Cursor(self.path, self._data)
        keys, tensors = _counts(cursor)
        self.fields: dict[str, Any] = {}
        for number in range(keys):
            name = cursor.text(f"the name of metadata key {number + 1} of {keys}", _LONGEST_NAME)
            if name in self.fields:
                raise cursor.damaged(f"it has the metadata key {name!r} twice")
            self.fields[name] = cursor.value(name)
        self.tensors = _tensors(cursor, tensors, _alignment(cursor, self.fields))

    def read(self, name: str) -> np.ndarray:
        """Return a tensor in float32.

        Raises CheckpointError for a type that the `gguf` library does not convert.
        """
        stored = self.tensors[name]
        found = np.empty((math.prod(stored.shape[:-1]), stored.shape[-1]), np.float32)
        begin = 0
        for rows in self.read_rows(name):
            found[begin : begin + len(rows)] = rows
            begin += len(rows)
        return found.reshape(stored.shape)

    def read_rows(self, name: str) -> Iterator[np.ndarray]:
        """Yield the rows of a tensor in float32, as many at a time as take a few megabytes."""
        import gguf

        stored = self.tensors[name]
        kind = gguf.GGMLQuantizationType(stored.kind)
        rows = math.prod(stored.shape[:-1])
        raw = np.frombuffer(self._data, np.uint8, stored.bytes, stored.begin).reshape(rows, stored.bytes // rows)
        step = max(1, _PIECE // stored.shape[-1])
        for begin in range(0, rows, step):
            yield self._converted(raw[begin : begin + step], kind, name)

    def _converted(self, rows: np.ndarray, kind: Any, name: str) -> np.ndarray:
        import gguf

        try:
            with np.errstate(all="ignore"):  # what is not finite in the file, is not finite here
                return gguf.quants.dequantize(rows, kind)
        except NotImplementedError:
            raise CheckpointError(
                f"{self.path}: the type {kind.name} of tensor {name} cannot be converted here: make a file of another "
                "type with llama.cpp's llama-quantize"
            ) from None


class _Cursor:
    """A place in the file that only moves forward, and never past the end."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path, self.data, self.at = path, data, 0
        self._strings = 0

    def damaged(self, reason: str) -> CheckpointError:
        return CheckpointError(f"{self.path} is damaged or cut short: {reason}; download or export it again")

    def skip(self, size: int, what: str) -> int:
        """Return where `size` bytes begin, and go behind them."""
        begin, left = self.at, len(self.data) - self.at
        if size > left:
            raise self.damaged(f"{what} takes {size:,} bytes at byte {begin:,}, where {max(0, left):,} are left")
        self.at += size
        return begin

    def number(self, form: str, what: str) -> int:
        return struct.unpack_from(form, self.data, self.skip(struct.calcsize(form), what))[0]

    def text(self, what: str, most: int = _LONGEST_TEXT) -> str:
        size = self.number("<Q", f"the length of {what}")
        if size > most:
            raise self.damaged(f"{what} is said to have {size:,} bytes, more than {most:,}")
        begin = self.skip(size, what)
        try:
            return self.data[begin : begin + size].decode("utf-8")
        except UnicodeDecodeError:
            raise self.damaged(f"{what} is no text in UTF-8") from None

    def value(self, name: str) -> Any:
        kind = self.number("<I", f"the type of {name!r}")
        if kind == _STRING:
            return self.text(f"the text of {name!r}")
        if kind == _ARRAY:
            return self._list(name)
        found = self._numbers(name, kind, 1)[0]
        # The shortest number that is the same in float32: the one that was meant.
        return float(str(found)) if found.dtype == np.float32 else found.item()

    def _list(self, name: str) -> Any:
        kind, count = self.number("<I", f"the type in {name!r}"), self.number("<Q", f"the length of {name!r}")
        if kind != _STRING:
            return self._numbers(name, kind, count)
        self._strings += count
        if self._strings > _MOST_STRINGS:
            raise self.damaged(f"{name!r} is said to have {count:,} texts, more than any vocabulary")
        return [self.text(f"text {number} of {name!r}") for number in range(count)]

    def _numbers(self, name: str, kind: int, count: int) -> np.ndarray:
        if kind not in _SCALARS:
            raise self.damaged(f"{name!r} has the unknown type {kind}" if kind != _ARRAY else f"{name!r} is nested")
        form = np.dtype(_SCALARS[kind])
        begin = self.skip(count * form.itemsize, f"the value of {name!r}")
        found = np.frombuffer(self.data, form, count, begin)
        return found != 0 if kind == _BOOL else found


def _counts(cursor: _Cursor) -> tuple[int, int]:
    """Return how many metadata keys and tensors the file says it has."""
    if cursor.data[:4] != GGUF_MAGIC:
        raise CheckpointError(f"{cursor.path} is no GGUF file: it begins with {bytes(cursor.data[:4])!r}")
    cursor.skip(4, "its beginning")
    version = cursor.number("<I", "its version")
    if version not in _VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big") in _VERSIONS
        reason = "its numbers are big-endian" if swapped else f"its version of the format is {version}"
        raise CheckpointError(f"{cursor.path} cannot be read: {reason}; only little-endian versions 2 and 3 can be")
    tensors, keys = cursor.number("<Q", "its number of tensors"), cursor.number("<Q", "its number of metadata keys")
    for count, most, what in ((tensors, _MOST_TENSORS, "tensors"), (keys, _MOST_KEYS, "metadata keys")):
        if count > most:
            raise cursor.damaged(f"it is said to have {count:,} {what}, more than {most:,}")
    return keys, tensors


def _alignment(cursor: _Cursor, fields: Mapping[str, Any]) -> int:
    found = fields.get("general.alignment", 32)
    if not isinstance(found, int) or not 0 < found <= _LARGEST_ALIGNMENT or found & (found - 1):
        raise cursor.damaged(f"general.alignment is {found!r}, no power of two")
    return found


def _tensors(cursor: _Cursor, count: int, alignment: int) -> dict[str, StoredTensor]:
    found: dict[str, StoredTensor] = {}
    for number in range(count):
        tensor = _tensor(cursor, f"tensor {number + 1} of {count}")
        if tensor.name in found:
            raise cursor.damaged(f"it has the tensor {tensor.name!r} twice")
        found[tensor.name] = tensor
    start = -(-cursor.at // alignment) * alignment
    placed = {
        name: StoredTensor(name, one.shape, one.kind, start + one.begin, one.bytes) for name, one in found.items()
    }
    _require_apart(cursor, placed, alignment)
    return placed


def _tensor(cursor: _Cursor, what: str) -> StoredTensor:
    """Read one entry of the list of tensors; its place is still counted from the beginning of the data."""
    import gguf

    name = cursor.text(f"the name of {what}", _LONGEST_NAME)
    dimensions = cursor.number("<I", f"the dimensions of {name!r}")
    if not 0 < dimensions <= _MOST_DIMENSIONS:
        raise cursor.damaged(f"tensor {name!r} has {dimensions} dimensions")
    shape = tuple(cursor.number("<Q", f"the shape of {name!r}") for _ in range(dimensions))[::-1]
    kind, begin = cursor.number("<I", f"the type of {name!r}"), cursor.number("<Q", f"the place of {name!r}")
    known = {member.value: member for member in gguf.GGMLQuantizationType}
    if kind not in known:
        raise CheckpointError(f"{cursor.path}: tensor {name!r} has the unknown type {kind}: it may need a newer gguf")
    block, block_bytes = gguf.GGML_QUANT_SIZES[known[kind]]
    if min(shape) == 0 or shape[-1] % block:
        raise cursor.damaged(f"tensor {name!r} has the shape {shape}, which {known[kind].name} cannot have")
    return StoredTensor(name, shape, kind, begin, math.prod(shape) // block * block_bytes)


def _require_apart(cursor: _Cursor, tensors: Mapping[str, StoredTensor], alignment: int) -> None:
    """Raise CheckpointError for tensors that lie past the file's end or on each other: small files are small models."""
    size, before = len(cursor.data), 0
    for tensor in sorted(tensors.values(), key=lambda one: one.begin):
        if tensor.begin + tensor.bytes > size:
            raise cursor.damaged(
                f"tensor {tensor.name!r} of {tensor.shape} takes {tensor.bytes:,} bytes at byte {tensor.begin:,} of "
                f"{size:,}"
            )
        if tensor.begin % alignment or tensor.begin < before:
            raise cursor.damaged(
                f"tensor {tensor.name!r} lies at byte {tensor.begin:,}, where another one is or none can be"
            )
        before = tensor.begin + tensor.bytes
