"""Which documents stay when all are known: exact and near duplicates, and lines that many documents share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet

from llmbuilder.duplicates.exact import find_repeated
from llmbuilder.duplicates.lines import frequent_lines
from llmbuilder.duplicates.near import (
    NearDuplicateSettings,
    Shingles,
    choose_bands,
    choose_near_duplicates,
    read_signatures,
)
from llmbuilder.duplicates.semantic import find_semantic_duplicates
from llmbuilder.files import atomic_file
from llmbuilder.stages import REPEATS

Run = Callable[[str, list[dict[str, Any]]], None]
Drop = tuple[int, str, str, str | None]  # row, stage, reason, the source that stays instead
_LARGEST_CLUSTERS = 20


@dataclass
class Decisions:
    """For each unit the rows to drop, and what was found on the way."""

    drops: list[list[Drop]]
    candidate_pairs: int = 0
    compared_pairs: int = 0
    clusters: list[dict[str, Any]] = field(default_factory=list)  # the largest, by their members' sources
    files: list[Path] = field(default_factory=list)  # can be used again


class Candidates:
    """The rows that survived refinement, numbered through all units in order."""

    def __init__(self, units: Sequence[Path]) -> None:
        self.units = list(units)
        rows, lengths, digests, firsts = [], [], [], [0]
        for path in units:
            table = parquet.read_table(path, columns=["stage", "characters", "digest"])
            alive = np.flatnonzero(np.array(table.column("stage").is_null()))
            rows.append(alive)
            lengths.append(table.column("characters").to_numpy()[alive].astype(np.int64))
            packed = b"".join(table.column("digest").take(alive).to_pylist())
            digests.append(np.frombuffer(packed, np.uint64).reshape(-1, 2))
            firsts.append(firsts[-1] + len(alive))
        self.firsts = np.array(firsts)
        self.rows = np.concatenate(rows) if rows else np.zeros(0, np.int64)
        self.lengths = np.concatenate(lengths) if lengths else np.zeros(0, np.int64)
        self.digests = np.concatenate(digests) if digests else np.zeros((0, 2), np.uint64)

    def __len__(self) -> int:
        return len(self.rows)

    def place(self, number: int) -> tuple[int, int]:
        """Return the unit and the row of a candidate."""
        unit = int(np.searchsorted(self.firsts, number, side="right")) - 1
        return unit, int(self.rows[number])

    def by_unit(self, numbers: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Yield each unit with the rows in it of these candidates (in ascending order)."""
        ends = np.searchsorted(numbers, self.firsts)
        for unit in range(len(self.units)):
            yield unit, self.rows[numbers[ends[unit] : ends[unit + 1]]]

    def sources(self, numbers: set[int]) -> dict[int, str]:
        """Return the sources of some candidates."""
        found: dict[int, str] = {}
        ordered = np.array(sorted(numbers), np.int64)
        at = 0
        for unit, rows in self.by_unit(ordered):
            if len(rows):
                names = parquet.read_table(self.units[unit], columns=["source"]).column("source").take(rows).to_pylist()
                found.update(zip(ordered[at : at + len(rows)].tolist(), names, strict=True))
                at += len(rows)
        return found


@dataclass(frozen=True)
class DuplicateSettings:
    """Which duplicates to look for; `semantic` is (threshold, what names the embedding model)."""

    exact: bool
    near: NearDuplicateSettings | None
    semantic: tuple[float, str] | None = None


def decide(units: Sequence[Path], settings: DuplicateSettings, folder: Path, run: Run) -> Decisions:
    """Return what to drop as duplicates: exact ones, then near ones of those left, then ones by meaning.

    Of equal documents the first stays, of others the longest. `run` works on units of a task; `folder` keeps what can
    be used again.
    """
    candidates = Candidates(units)
    decisions = Decisions([[] for _ in units])
    instead: dict[int, int] = {}
    stages: dict[int, str] = {}

    def drop(found: dict[int, int], stage: str) -> None:
        stages.update(dict.fromkeys(found, stage))
        instead.update({number: found.get(first, first) for number, first in instead.items()} | found)

    def alive() -> np.ndarray:
        return np.setdiff1d(np.arange(len(candidates)), np.array(sorted(instead), np.int64))

    if settings.exact:
        drop(find_repeated(candidates.digests), "exact")
    if settings.near is not None and len(candidates):
        found = _near_duplicates(candidates, alive(), settings.near, folder, run, decisions)
        drop(found, "near")
    if settings.semantic is not None and len(candidates):
        found = _semantic_duplicates(candidates, alive(), *settings.semantic, folder, run, decisions)
        drop(found, "semantic")
    _record(decisions, candidates, instead, stages)
    return decisions


def _record(decisions: Decisions, candidates: Candidates, instead: dict[int, int], stages: dict[int, str]) -> None:
    names = candidates.sources(set(instead.values()) | set(instead))
    groups: dict[int, list[str]] = {}
    for number, first in sorted(instead.items()):
        unit, row = candidates.place(number)
        decisions.drops[unit].append((row, stages[number], REPEATS[stages[number]], names[first]))
        groups.setdefault(first, []).append(names[number])
    largest = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))[:_LARGEST_CLUSTERS]
    decisions.clusters = [
        {"kept": names[first], "dropped": len(members), "examples": members[:5]} for first, members in largest
    ]


def _semantic_duplicates(
    candidates: Candidates,
    alive: np.ndarray,
    threshold: float,
    model: str,
    folder: Path,
    run: Run,
    decisions: Decisions,
) -> dict[int, int]:
    files = [folder / f"{_name(f'{path.stem} {model}'.encode())}.embedded.npy" for path in candidates.units]
    wanted = [
        {"unit": number, "input": str(path), "path": str(file)}
        for number, (path, file) in enumerate(zip(candidates.units, files, strict=True))
        if not file.is_file()
    ]
    run("embed", wanted)
    decisions.files += files
    whole = folder / "all.embedded"
    with open(whole, "wb") as handle:
        for number, file in enumerate(files):
            first, last = candidates.firsts[number : number + 2]
            chosen = alive[np.searchsorted(alive, first) : np.searchsorted(alive, last)] - first
            embedded = np.load(file)[chosen]
            embedded.tofile(handle)
    embeddings = np.memmap(whole, np.float16, "r", shape=(len(alive), embedded.shape[1]))
    whole.unlink()  # the mapping keeps what it needs
    found = find_semantic_duplicates(embeddings, candidates.lengths[alive], threshold)
    return {int(alive[number]): int(alive[first]) for number, first in found.items()}


def _near_duplicates(
    candidates: Candidates, alive: np.ndarray, near: NearDuplicateSettings, folder: Path, run: Run, decisions: Decisions
) -> dict[int, int]:
    bands = choose_bands(near.threshold, near.permutations)[0]
    path = folder / "bands"
    with open(path, "wb") as handle:
        for unit, rows in candidates.by_unit(alive):
            column = parquet.read_table(candidates.units[unit], columns=["bands"]).column("bands")
            handle.writelines(column.take(rows).to_pylist())
    signatures = read_signatures(path, candidates.lengths[alive], bands)

    def read_shingles(chosen: np.ndarray) -> Shingles:
        files, shingles = _shingles(candidates, alive, chosen, folder, run)
        decisions.files += files
        return shingles

    found = choose_near_duplicates(signatures, read_shingles, near.threshold)
    decisions.candidate_pairs, decisions.compared_pairs = found.candidate_pairs, found.compared_pairs
    for name in (path, path.with_suffix(".npy")):
        name.unlink()
    return {int(alive[number]): int(alive[first]) for number, first in found.kept.items()}


def _shingles(
    candidates: Candidates, alive: np.ndarray, chosen: np.ndarray, folder: Path, run: Run
) -> tuple[list[Path], Shingles]:
    """Return the n-grams of the chosen ones of those alive, hashed by the workers where no file has them yet."""
    files: list[Path] = []
    rows_of = [(unit, rows) for unit, rows in candidates.by_unit(alive[chosen]) if len(rows)]
    wanted: list[dict[str, Any]] = []
    for unit, rows in rows_of:
        source = candidates.units[unit]
        files.append(folder / f"{_name(source.stem.encode() + rows.astype('<i8').tobytes())}.shingles")
        if not files[-1].is_file():
            wanted.append({"unit": unit, "input": str(source), "rows": rows.tolist(), "path": str(files[-1])})
    run("shingle", wanted)
    sizes = [np.zeros(0, np.int64)]
    whole = folder / "all.shingles"
    with open(whole, "wb") as handle:
        for (_, rows), file in zip(rows_of, files, strict=True):
            values = np.fromfile(file, np.uint64)
            sizes.append(values[: len(rows)].astype(np.int64))
            values[len(rows) :].tofile(handle)
    opened = Shingles.open(chosen, np.concatenate(sizes), whole)
    whole.unlink()  # the mapping keeps what it needs
    return files, opened


def _name(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def repeated_lines(
    units: Sequence[Path], drops: Sequence[Sequence[Drop]], least: int, folder: Path, run: Run
) -> tuple[Path | None, list[Path]]:
    """Count lines in the documents that stay and write the sorted hashes of those in `least` documents or more.

    Returns that file (None if no line is) and those of the counts, which can be used again.
    """
    wanted: list[dict[str, Any]] = []
    files: list[Path] = []
    for number, (path, dropped) in enumerate(zip(units, drops, strict=True)):
        rows = [row for row, *_ in dropped]
        files.append(folder / f"{_name(f'{path.stem} {rows}'.encode())}.lines.npy")
        if not files[-1].is_file():
            wanted.append({"unit": number, "input": str(path), "dropped": rows, "path": str(files[-1])})
    run("count_lines", wanted)
    lines = frequent_lines([np.load(file, mmap_mode="r") for file in files], least)
    if not len(lines):
        return None, files
    path = folder / f"{_name(lines.tobytes())}.repeated.npy"
    if not path.is_file():
        with atomic_file(path) as handle:
            np.save(handle, lines)
    return path, files
