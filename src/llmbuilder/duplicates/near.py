"""Near-duplicates: MinHash signatures, locality-sensitive hashing, verification, and who stays.

Texts become sets of word n-grams (`shingles`). Signatures (Broder 1997) are cut into bands; texts that agree in a
band are candidates (Indyk and Motwani 1998), and the true Jaccard similarity of candidates decides. Texts are passed
over twice and never held; what is known of them are files of fixed-size records.

The longest text comes first, of equally long ones the one that was read first. A text is dropped if it is itself alike
enough to one that stays, so nothing is lost by a chain of texts of which each is only like the next.
"""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmbuilder.config.schema import DataConfig
from llmbuilder.duplicates.shingles import iter_minhash_bands, iter_shingle_hashes
from llmbuilder.errors import ConfigError

_RECALL = 0.99  # of pairs exactly at the threshold; above it more
_NEIGHBOURS = 16  # of a bucket's members each is paired with, besides the first one


@dataclass(frozen=True)
class NearDuplicateSettings:
    """`threshold` is the Jaccard similarity from which texts count as duplicates, `ngram` the words of a shingle."""

    threshold: float = 0.8
    ngram: int = 5
    permutations: int = 64
    seed: int = 1

    def __post_init__(self) -> None:
        if not 0.1 <= self.threshold <= 1:
            raise ConfigError(f"the duplicate threshold must be between 0.1 and 1, not {self.threshold}")
        if self.ngram < 1 or self.permutations < 1:
            raise ConfigError(f"ngram ({self.ngram}) and permutations ({self.permutations}) must be at least 1")
        choose_bands(self.threshold, self.permutations)

    @classmethod
    def from_config(cls, data: DataConfig, auto: float | None = None) -> NearDuplicateSettings | None:
        """Return the settings of a configuration, None if near-duplicates stay; `auto` is what "auto" stands for."""
        threshold = auto if data.near_duplicates == "auto" else data.near_duplicates
        if threshold is None:
            return None
        return cls(float(threshold), data.near_duplicate_ngram, data.near_duplicate_permutations)


@dataclass(frozen=True)
class NearDuplicates:
    """What was found; `kept` maps the number of each text to drop to the one that stays in its place."""

    kept: dict[int, int]
    texts: int
    candidate_pairs: int
    compared_pairs: int

    @property
    def clusters(self) -> int:
        return len(set(self.kept.values()))


def choose_bands(threshold: float, permutations: int) -> tuple[int, int]:
    """Return (bands, rows): the most rows with which `permutations` suffice, and the fewest bands that do.

    Two texts of similarity s become candidates with probability 1 - (1 - s^r)^b, which must be 99% at the threshold;
    more rows make fewer false ones. Raises ConfigError if even single rows cannot reach that.
    """
    best = None
    for rows in range(1, permutations + 1):
        alike = threshold**rows
        bands = 1 if alike == 1 else math.ceil(math.log(1 - _RECALL) / math.log1p(-alike))
        if bands * rows > permutations:
            break
        best = bands, rows
    if best is not None:
        return best
    needed = math.ceil(math.log(1 - _RECALL) / math.log(1 - threshold))
    raise ConfigError(
        f"{permutations} permutations (data.near_duplicate_permutations) cannot find a similarity of {threshold}; use "
        f"{needed} or more"
    )


def find_near_duplicates(
    texts: Iterable[str],
    settings: NearDuplicateSettings | None = None,
    *,
    work_folder: str | Path | None = None,
) -> NearDuplicates:
    """Find the texts whose n-grams overlap by at least the threshold with those of a text that stays.

    `texts` is a sequence, or anything else that yields the same texts each time it is iterated: it is read twice.
    Of texts alike the longest stays, of equally long ones the first.
    `work_folder` holds temporary files: signatures (8 bytes a band and text) and the candidates' shingles.
    """
    settings = settings or NearDuplicateSettings()
    with tempfile.TemporaryDirectory(prefix="near-duplicates-", dir=work_folder) as folder:
        signatures = _write_signatures(texts, settings, Path(folder))
        return choose_near_duplicates(
            signatures,
            lambda candidates: _write_shingles(texts, candidates, signatures.count, settings, Path(folder)),
            settings.threshold,
        )


def choose_near_duplicates(
    signatures: Signatures, read_shingles: Callable[[np.ndarray], Shingles], threshold: float
) -> NearDuplicates:
    """Find near-duplicates by signatures; `read_shingles` is given the numbers of the texts that are compared."""
    order = np.lexsort((np.arange(signatures.count), -signatures.lengths))  # the longest first
    pairs = _candidate_pairs(signatures, order)
    shingles = read_shingles(np.unique(order[pairs]))
    kept, compared = _verified(pairs, order, shingles, threshold)
    return NearDuplicates(kept, signatures.count, len(pairs), compared)


def iter_signatures(texts: Iterable[str], settings: NearDuplicateSettings) -> Iterator[bytes]:
    """Yield the hashes of the bands of each text's signature, 8 bytes each."""
    bands, rows = choose_bands(settings.threshold, settings.permutations)
    for signed in iter_minhash_bands(texts, settings.ngram, bands, rows, settings.seed):
        yield from map(np.ndarray.tobytes, signed)


@dataclass(frozen=True)
class Signatures:
    """Band hashes of shape (bands, texts), memory-mapped, and the texts' lengths in characters."""

    bands: np.ndarray
    lengths: np.ndarray

    @property
    def count(self) -> int:
        return len(self.lengths)


def _write_signatures(texts: Iterable[str], settings: NearDuplicateSettings, folder: Path) -> Signatures:
    lengths: list[int] = []

    def measured() -> Iterator[str]:
        for text in texts:
            lengths.append(len(text))
            yield text

    with open(folder / "bands", "wb") as handle:
        handle.writelines(iter_signatures(measured(), settings))
    bands = choose_bands(settings.threshold, settings.permutations)[0]
    return read_signatures(folder / "bands", np.array(lengths, np.int64), bands)


def read_signatures(path: Path, lengths: np.ndarray, bands: int) -> Signatures:
    """Return the signatures in a file of band hashes, text after text, by band."""
    count = len(lengths)
    by_text = np.memmap(path, np.uint64, "r", shape=(count, bands)) if count else np.zeros((0, bands))
    by_band = np.lib.format.open_memmap(path.with_suffix(".npy"), "w+", np.uint64, (bands, count))
    for begin in range(0, count, 1 << 18):
        part = by_text[begin : begin + (1 << 18)]
        by_band[:, begin : begin + len(part)] = part.T
    return Signatures(by_band, lengths)


def _candidate_pairs(signatures: Signatures, order: np.ndarray) -> np.ndarray:
    """Return pairs of texts that share a band, each once, of shape (pairs, 2).

    They are places in `order`, an earlier and a later one, sorted by the later. In a bucket each member is paired with
    the first and with its nearest neighbours: not quadratic in the size of a large bucket, and enough to find the text
    that stays, as that of an earlier one which is dropped is compared, too.
    """
    found = [np.zeros(0, np.uint64)]
    count = np.uint64(max(1, signatures.count))
    for stored in signatures.bands:
        band = stored[order]
        places = np.argsort(band, kind="stable").astype(np.uint64)
        hashes = band[places]
        for offset in range(1, _NEIGHBOURS + 1):
            same = hashes[offset:] == hashes[:-offset]
            if not same.any():
                break
            found.append(places[offset:][same] * count + places[:-offset][same])
        starts = np.flatnonzero(np.append(True, hashes[1:] != hashes[:-1])[: len(hashes)])
        sizes = np.diff(np.append(starts, len(hashes)))
        for start, size in zip(*(part[sizes > _NEIGHBOURS + 1] for part in (starts, sizes)), strict=True):
            found.append(places[start + _NEIGHBOURS + 1 : start + size] * count + places[start])
        if sum(map(len, found)) > 1 << 24:
            found = [np.unique(np.concatenate(found))]
    keys = np.unique(np.concatenate(found))
    return np.stack([keys % count, keys // count], axis=1).astype(np.int64)


class Shingles:
    """Sorted hashes of the candidates' n-grams, memory-mapped."""

    def __init__(self, numbers: np.ndarray, ends: np.ndarray, values: np.ndarray) -> None:
        self._place = {int(number): place for place, number in enumerate(numbers)}
        self._ends = np.concatenate([[0], ends])
        self._values = values

    @classmethod
    def open(cls, numbers: np.ndarray, sizes: np.ndarray, path: Path) -> Shingles:
        """Open a file that holds the hashes of text after text, `sizes` of each."""
        values = np.asarray(np.memmap(path, np.uint64, "r")) if sizes.sum() else np.zeros(0, np.uint64)
        return cls(numbers, np.cumsum(sizes), values)

    def __getitem__(self, number: int) -> np.ndarray:
        place = self._place[number]
        return self._values[self._ends[place] : self._ends[place + 1]]


def _write_shingles(
    texts: Iterable[str], candidates: np.ndarray, count: int, settings: NearDuplicateSettings, folder: Path
) -> Shingles:
    is_candidate = np.zeros(count, bool)
    is_candidate[candidates] = True
    sizes: list[int] = []
    with open(folder / "shingles", "wb") as handle:
        for hashes in iter_shingle_hashes(itertools.compress(texts, is_candidate), settings.ngram):
            sizes.append(len(hashes))
            handle.write(hashes.data)
    return Shingles.open(candidates, np.array(sizes, np.int64), folder / "shingles")


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    """Return the Jaccard similarity of two sorted arrays without repetitions; two empty ones are equal."""
    if not len(one) or not len(other):
        return float(len(one) == len(other))
    merged = np.concatenate((one, other))
    merged.sort()
    both = np.count_nonzero(merged[1:] == merged[:-1])
    return both / (len(merged) - both)


def _verified(pairs: np.ndarray, order: np.ndarray, shingles: Shingles, threshold: float) -> tuple[dict[int, int], int]:
    """Return for the number of each text to drop the one that stays, and how many pairs were compared.

    `pairs` are places in `order`, sorted by the later one, so that of the earlier ones it is known whether they stay.
    """
    kept: dict[int, int] = {}
    compared = 0
    for place, candidates in itertools.groupby(pairs.tolist(), key=lambda pair: pair[1]):
        number = int(order[place])
        earlier = [int(order[candidate]) for candidate, _ in candidates]
        # In the order in which they come, and each once: many are copies of the same text.
        for other in dict.fromkeys(kept.get(candidate, candidate) for candidate in earlier):
            compared += 1
            if jaccard(shingles[number], shingles[other]) >= threshold:
                kept[number] = other
                break
    return kept, compared
