"""Which documents of a corpus validate, and how much of them the others hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmbuilder.corpus.document_files import DocumentFile
from llmbuilder.corpus.keys import digest
from llmbuilder.documents.tables import iter_parquet_rows
from llmbuilder.tokens.grouping import NGRAM, bits_left_out, find_groups, held_out_overlaps
from llmbuilder.tokens.splitting import Split, choose_split

Run = Callable[[str, list[dict[str, Any]]], None]
_MOST_NAMED = 20


@dataclass(frozen=True)
class Division:
    """What of each file validates, as plain values; the held-out documents with the largest overlaps; files of use."""

    splits: list[dict[str, Any]]
    overlaps: list[dict[str, Any]]
    files: list[Path]

    @property
    def held_out(self) -> int:
        """How many whole documents validate."""
        return sum(len(split["validation"]) for split in self.splits)


def divide_documents(files: Sequence[DocumentFile], train_share: float, seed: int, folder: Path, run: Run) -> Division:
    """Divide the documents of some files. `run` works on units of a task, `folder` keeps what can be used again."""
    lengths = [length for file in files for length in file.lengths]
    checksums = [checksum for file in files for checksum in file.checksums]
    samples: list[np.ndarray] = []
    used: list[Path] = []

    def read_groups() -> np.ndarray:
        used.extend(_write_samples(files, bits_left_out(sum(lengths)), folder, run))
        for file, path in zip(files, used, strict=True):
            samples.extend(_read_samples(path, len(file.lengths)))
        return find_groups(samples)

    split = choose_split(lengths, checksums, train_share, seed, read_groups)
    parts = split.divided([file.lengths for file in files])
    overlaps = _largest_overlaps(
        files, parts, held_out_overlaps(samples, split.validation_documents) if samples else {}
    )
    cuts: list[dict[str, Any]] = [{} if part.cut_at is None else {"cut_at": part.cut_at} for part in parts]
    plain = [{"validation": sorted(part.validation_documents), **cut} for part, cut in zip(parts, cuts, strict=True)]
    return Division(plain, overlaps, used)


def _write_samples(files: Sequence[DocumentFile], bits: int, folder: Path, run: Run) -> list[Path]:
    paths = [folder / f"{digest(file.path.name, json.dumps([NGRAM, bits]))}.sampled" for file in files]
    wanted = [
        {"unit": number, "input": str(file.path), "path": str(path), "bits": bits}
        for number, (file, path) in enumerate(zip(files, paths, strict=True))
        if not path.is_file()
    ]
    run("sample_grams", wanted)
    return paths


def _read_samples(path: Path, count: int) -> list[np.ndarray]:
    """Return what the task wrote of that many documents: the number of the hashes of each, then the hashes."""
    values = np.fromfile(path, np.uint64)
    ends = np.cumsum(values[:count].astype(np.int64))
    return np.split(values[count:], ends[:-1])


def _largest_overlaps(
    files: Sequence[DocumentFile], parts: Sequence[Split], overlaps: dict[int, float]
) -> list[dict[str, Any]]:
    largest = sorted(overlaps.items(), key=lambda item: (-item[1], item[0]))[:_MOST_NAMED]
    wanted = {number: share for number, share in largest if share > 0}
    found: dict[int, dict[str, Any]] = {}
    first = 0
    for file, part in zip(files, parts, strict=True):
        here = [number for number in part.validation_documents if first + number in wanted]
        if here:
            names = [row["source"] for row in iter_parquet_rows(file.path, ["source"])]
            found.update({first + n: {"source": names[n], "overlap": round(wanted[first + n], 4)} for n in here})
        first += len(file.lengths)
    return [found[number] for number in wanted]
