"""Near-duplicates: MinHash signatures, locality-sensitive hashing, verification, connected components.

Texts become sets of word n-grams ("shingles") after lower-casing and removing ASCII punctuation. Signatures
(Broder 1997) are cut into bands; texts that agree in a band are candidates (Indyk and Motwani 1998), and the
candidates' true Jaccard similarity decides. What passes over texts is a Daft program, which streams on one machine and
runs on a Ray cluster; what passes over numbers is NumPy on files of fixed-size records, so memory does not hold texts.
"""

from __future__ import annotations

import math
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmbuilder.config.schema import DataConfig
from llmbuilder.data.components import Components
from llmbuilder.errors import ConfigError, DataError, MissingDependencyError

if TYPE_CHECKING:
    import daft

_RECALL = 0.99  # of pairs exactly at the threshold; above it more
_NEIGHBOURS = 16  # of a bucket's members each is paired with, besides the first one
_MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class NearDuplicateSettings:
    """`threshold` is the Jaccard similarity from which texts count as duplicates, `ngram` the words of a shingle."""

    threshold: float = 0.8
    ngram: int = 5
    permutations: int = 128
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
    """Return (bands, rows): of r rows and permutations // r bands the largest r that finds 99% at the threshold.

    Two texts of similarity s become candidates with probability 1 - (1 - s^r)^b; more rows make fewer false ones.
    Raises ConfigError if even single rows cannot reach that.
    """
    for rows in range(permutations, 0, -1):
        bands = permutations // rows
        if 1 - (1 - threshold**rows) ** bands >= _RECALL:
            return bands, rows
    needed = math.ceil(math.log(1 - _RECALL) / math.log(1 - threshold))
    raise ConfigError(f"{permutations} permutations cannot find a similarity of {threshold}; use {needed} or more")


def find_near_duplicates(
    texts: Sequence[str] | daft.DataFrame,
    settings: NearDuplicateSettings | None = None,
    *,
    work_folder: str | Path | None = None,
) -> NearDuplicates:
    """Group texts whose n-grams overlap by at least the threshold, directly or through others, and keep one of each.

    `texts` are strings, or a Daft DataFrame with a string column `text` and an integer column `number` that
    counts from 0. Of a group the longest text stays, of equally long ones the one with the lowest number.
    `work_folder` holds temporary files: signatures (8 bytes a band and text) and the candidates' shingles.
    """
    settings = settings or NearDuplicateSettings()
    frame = _as_frame(texts)
    with tempfile.TemporaryDirectory(prefix="near-duplicates-", dir=work_folder) as folder:
        signatures = _write_signatures(frame, settings, Path(folder))
        return group_near_duplicates(
            signatures,
            lambda candidates: _write_shingles(frame, candidates, settings, Path(folder)),
            settings.threshold,
        )


def group_near_duplicates(
    signatures: Signatures, read_shingles: Callable[[np.ndarray], Shingles], threshold: float
) -> NearDuplicates:
    """Group texts by signatures; `read_shingles` is given the numbers of the texts whose n-grams are compared."""
    pairs = _candidate_pairs(signatures)
    shingles = read_shingles(np.unique(pairs))
    components, compared = _verified_components(pairs, shingles, threshold)
    kept = components.choose_kept(signatures.lengths)
    return NearDuplicates(kept, signatures.count, len(pairs), compared)


def sign_texts(texts: Sequence[str], settings: NearDuplicateSettings) -> tuple[list[str], list[bytes]]:
    """Return the normalised texts, whose n-grams `shingle_hashes` takes, and their bands' hashes, 8 bytes each."""
    import pyarrow
    from daft.expressions import ExpressionsProjection
    from daft.recordbatch import MicroPartition

    batch = MicroPartition.from_arrow(pyarrow.table({"text": pyarrow.array(texts, pyarrow.large_string())}))
    plain = batch.eval_expression_list(ExpressionsProjection([_plain_text().alias("plain")]))
    signed = plain.eval_expression_list(ExpressionsProjection([_signature(settings).alias("signature")]))
    hashes = _band_hashes(
        signed.get_column_by_name("signature"), *choose_bands(settings.threshold, settings.permutations)
    )
    return plain.get_column_by_name("plain").to_pylist(), hashes.to_pylist()


def _as_frame(texts: Sequence[str] | daft.DataFrame) -> daft.DataFrame:
    try:
        import daft
    except ImportError:
        raise MissingDependencyError("daft", "corpus", "finding near-duplicates") from None
    if isinstance(texts, daft.DataFrame):
        return texts
    import pyarrow

    # A string column longer than 2 GB does not fit 32-bit offsets.
    columns = {"number": pyarrow.array(range(len(texts)), pyarrow.int64())}
    return daft.from_arrow(pyarrow.table({**columns, "text": pyarrow.array(texts, pyarrow.large_string())}))


def _plain_text() -> daft.Expression:
    from daft import col
    from daft.functions import normalize

    return normalize(col("text"), lowercase=True, remove_punct=True, white_space=True)


def _signature(settings: NearDuplicateSettings) -> daft.Expression:
    from daft import col
    from daft.functions import minhash

    return minhash(
        col("plain"),
        num_hashes=settings.permutations,
        ngram_size=settings.ngram,
        seed=settings.seed,
        hash_function="xxhash",
    )


def _normalized(frame: daft.DataFrame) -> daft.DataFrame:
    from daft import col

    return frame.select(col("number"), _plain_text().alias("plain"), col("text").length().alias("length"))


@dataclass(frozen=True)
class Signatures:
    """Band hashes of shape (bands, texts), memory-mapped, and the texts' lengths in characters."""

    bands: np.ndarray
    lengths: np.ndarray

    @property
    def count(self) -> int:
        return len(self.lengths)


def _write_signatures(frame: daft.DataFrame, settings: NearDuplicateSettings, folder: Path) -> Signatures:
    import daft

    bands, rows = choose_bands(settings.threshold, settings.permutations)

    @daft.func.batch(return_dtype=daft.DataType.binary(), use_process=False)
    def band_hashes(signatures: daft.Series) -> Any:
        return _band_hashes(signatures, bands, rows)

    result = _normalized(frame).select("number", "length", band_hashes(_signature(settings)).alias("bands"))
    with open(folder / "bands", "wb") as handle:
        numbers, lengths = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for batch in result.to_arrow_iter():
            numbers.append(batch.column("number").to_numpy(zero_copy_only=False).astype(np.int64))
            lengths.append(batch.column("length").to_numpy(zero_copy_only=False).astype(np.int64))
            handle.writelines(batch.column("bands").to_pylist())
    order = np.argsort(np.concatenate(numbers), kind="stable")
    if len(order) and not np.array_equal(np.sort(np.concatenate(numbers)), np.arange(len(order))):
        raise DataError("the texts' numbers must be 0, 1, 2, ... each once")
    return read_signatures(folder / "bands", np.concatenate(lengths)[order], bands, order)


def read_signatures(path: Path, lengths: np.ndarray, bands: int, order: np.ndarray | None = None) -> Signatures:
    """Return the signatures in a file of band hashes, text after text (`order` gives their places), by band."""
    count = len(lengths)
    by_text = np.memmap(path, np.uint64, "r", shape=(count, bands)) if count else np.zeros((0, bands))
    by_band = np.lib.format.open_memmap(path.with_suffix(".npy"), "w+", np.uint64, (bands, count))
    for begin in range(0, count, 1 << 18):
        part = slice(begin, begin + (1 << 18)) if order is None else order[begin : begin + (1 << 18)]
        chosen = by_text[part]
        by_band[:, begin : begin + len(chosen)] = chosen.T
    return Signatures(by_band, lengths)


def _band_hashes(signatures: daft.Series, bands: int, rows: int) -> Any:
    """Return one byte string a text: a 64-bit hash of each band of its signature."""
    import pyarrow

    array = signatures.to_arrow()
    values = array.flatten().to_numpy().reshape(len(array), array.type.list_size)[:, : bands * rows].astype(np.uint64)
    mixed = np.zeros((len(array), bands), np.uint64)
    with np.errstate(over="ignore"):
        for row in range(rows):
            mixed = (mixed ^ values[:, row::rows][:, :bands]) * _MIX
            mixed ^= mixed >> np.uint64(29)
    return pyarrow.array([row.tobytes() for row in mixed], pyarrow.large_binary())


def _candidate_pairs(signatures: Signatures) -> np.ndarray:
    """Return pairs of texts that share a band, each once, lower number first, of shape (pairs, 2).

    In a bucket each member is paired with the first and with its nearest neighbours in order: enough to connect
    copies of one text, and not quadratic in the size of a large bucket.
    """
    found = [np.zeros(0, np.uint64)]
    count = np.uint64(max(1, signatures.count))
    for band in signatures.bands:
        order = np.argsort(band, kind="stable").astype(np.uint64)
        hashes = band[order]
        for offset in range(1, _NEIGHBOURS + 1):
            same = hashes[offset:] == hashes[:-offset]
            if not same.any():
                break
            found.append(order[:-offset][same] * count + order[offset:][same])
        starts = np.flatnonzero(np.append(True, hashes[1:] != hashes[:-1])[: len(hashes)])
        sizes = np.diff(np.append(starts, len(hashes)))
        for start, size in zip(*(part[sizes > _NEIGHBOURS + 1] for part in (starts, sizes)), strict=True):
            found.append(order[start] * count + order[start + _NEIGHBOURS + 1 : start + size])
        if sum(map(len, found)) > 1 << 24:
            found = [np.unique(np.concatenate(found))]
    keys = np.unique(np.concatenate(found))
    return np.stack([keys // count, keys % count], axis=1).astype(np.int64)


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
    frame: daft.DataFrame, candidates: np.ndarray, settings: NearDuplicateSettings, folder: Path
) -> Shingles:
    import daft
    from daft import col

    if not len(candidates):
        return Shingles(candidates, np.zeros(0, np.int64), np.zeros(0, np.uint64))

    @daft.func.batch(return_dtype=daft.DataType.bool(), use_process=False)
    def is_candidate(numbers: daft.Series) -> Any:
        import pyarrow

        return pyarrow.array(np.isin(numbers.to_arrow().to_numpy(zero_copy_only=False), candidates, kind="sort"))

    @daft.func.batch(return_dtype=daft.DataType.binary(), use_process=False)
    def hash_shingles(texts: daft.Series) -> Any:
        import pyarrow

        hashed = (shingle_hashes(text, settings.ngram).tobytes() for text in texts.to_pylist())
        return pyarrow.array(hashed, pyarrow.large_binary())

    chosen = _normalized(frame.where(is_candidate(col("number"))))
    result = chosen.select("number", hash_shingles(col("plain")).alias("shingles"))
    numbers: list[int] = []
    sizes: list[int] = []
    with open(folder / "shingles", "wb") as handle:
        for batch in result.to_arrow_iter():
            numbers += batch.column("number").to_pylist()
            for shingles in batch.column("shingles").to_pylist():
                sizes.append(len(shingles) // 8)
                handle.write(shingles)
    return Shingles.open(np.array(numbers), np.array(sizes), folder / "shingles")


def shingle_hashes(plain: str, ngram: int) -> np.ndarray:
    """Return the sorted 64-bit hashes of a normalised text's word n-grams; a shorter text is one n-gram."""
    words = plain.encode("utf-8", "surrogatepass").split()
    codes = np.fromiter(map(zlib.crc32, words), np.uint64, len(words))
    length = min(ngram, max(1, len(words)))
    mixed = np.zeros(max(0, len(codes) - length + 1), np.uint64)
    with np.errstate(over="ignore"):
        for offset in range(length):
            mixed = (mixed ^ codes[offset : offset + len(mixed)]) * _MIX
            mixed ^= mixed >> np.uint64(29)
    return np.unique(mixed)


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    """Return the Jaccard similarity of two sorted arrays without repetitions; two empty ones are equal."""
    if not len(one) or not len(other):
        return float(len(one) == len(other))
    merged = np.concatenate((one, other))
    merged.sort()
    both = np.count_nonzero(merged[1:] == merged[:-1])
    return both / (len(merged) - both)


def _verified_components(pairs: np.ndarray, shingles: Shingles, threshold: float) -> tuple[Components, int]:
    """Return the groups of texts and how many pairs were compared; pairs that are connected already are not."""
    components = Components()
    compared = 0
    for first, second in pairs.tolist():
        if components.root(first) == components.root(second):
            continue
        compared += 1
        if jaccard(shingles[first], shingles[second]) >= threshold:
            components.join(first, second)
    return components, compared
