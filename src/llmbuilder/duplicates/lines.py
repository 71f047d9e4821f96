"""Lines that many documents share, such as a licence or a menu."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

_LEAST_LINE = 15  # characters; shorter lines, such as a closing bracket, repeat in any text
_PARTITIONS = 64


def count_lines(texts: Iterable[str]) -> np.ndarray:
    """Return the sorted hashes of the lines of some texts and in how many of the texts each is, of shape (2, lines)."""
    counts: Counter[int] = Counter()
    for text in texts:
        counts.update({_line_hash(line) for line in text.split("\n") if _matters(line)})
    return np.array(sorted(counts.items()), np.uint64).reshape(-1, 2).T


def frequent_lines(tables: Sequence[np.ndarray], least: int) -> np.ndarray:
    """Return the sorted hashes whose counts over all tables of `count_lines` reach `least`.

    A slice of all hashes is in memory at a time.
    """
    edges = [int(2**64 * part / _PARTITIONS) for part in range(_PARTITIONS)]
    found: list[np.ndarray] = []
    for low, high in zip(edges, [*edges[1:], None], strict=True):
        slices = []
        for table in tables:
            begin = np.searchsorted(table[0], np.uint64(low))
            end = table.shape[1] if high is None else np.searchsorted(table[0], np.uint64(high))
            slices.append(table[:, begin:end])
        hashes, places = np.unique(np.concatenate([part[0] for part in slices]), return_inverse=True)
        counts = np.bincount(places, np.concatenate([part[1] for part in slices]), len(hashes))
        found.append(hashes[counts >= least])
    return np.concatenate(found)


def remove_lines(text: str, hashes: np.ndarray) -> tuple[str, int]:
    """Return a text without the lines of these hashes (sorted), and how many were removed."""
    lines = text.split("\n")
    keep = [not (_matters(line) and _is_among(_line_hash(line), hashes)) for line in lines]
    if all(keep):
        return text, 0
    kept = "\n".join(line for line, stays in zip(lines, keep, strict=True) if stays).strip("\n")
    return kept, keep.count(False)


def _is_among(value: int, hashes: np.ndarray) -> bool:
    place = int(np.searchsorted(hashes, np.uint64(value)))
    return place < len(hashes) and int(hashes[place]) == value


def _matters(line: str) -> bool:
    return len(line.strip()) >= _LEAST_LINE


def _line_hash(line: str) -> int:
    """Return a 64-bit hash of a line, case and surrounding blanks aside."""
    plain = line.strip().casefold().encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(plain, digest_size=8).digest(), "little")
