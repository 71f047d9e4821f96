"""What workers do with one unit: extract, refine, compare, count lines, write documents, write tokens.

A task is made once in each worker process from its settings, then run on units; units and results are plain values.
Results on disk are written whole or not at all, under names that follow from what went into them.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow

from llmbuilder.config.schema import DataConfig
from llmbuilder.corpus.store import Part, Row, Store, part_sizes, read_rows, read_slice
from llmbuilder.corpus.tokenize_task import Tokenize
from llmbuilder.documents.containers import ContainerLimits
from llmbuilder.documents.document import Document
from llmbuilder.documents.reader_pool import ExtractionLimits, ExtractionPool
from llmbuilder.documents.reading import SourceReader
from llmbuilder.documents.sources import Source
from llmbuilder.duplicates.exact import normalized_digest
from llmbuilder.duplicates.near import NearDuplicateSettings, iter_signatures
from llmbuilder.duplicates.semantic import TextEmbedder
from llmbuilder.duplicates.shingles import iter_shingle_hashes
from llmbuilder.files import atomic_file, file_checksum, write_json
from llmbuilder.refining.languages import detect_language
from llmbuilder.refining.quality import TextQuality
from llmbuilder.refining.refiner import Refined, Refiner

_TEXT, _NUMBER, _SHARE = pyarrow.large_string(), pyarrow.int64(), pyarrow.float64()
QUALITY = ("words", "mean_word_length", "alphabetic_word_share", "punctuated_line_share",
           "duplicate_line_character_share")  # fmt: skip
_COMMON = [("source", _TEXT), ("collection", _TEXT), ("format", _TEXT), ("title", _TEXT), ("metadata", _TEXT)]
EXTRACTED = pyarrow.schema(
    [*_COMMON, ("text", _TEXT), ("pages", pyarrow.large_list(_TEXT)), ("error", _TEXT)]
)  # fmt: skip
_KEPT = [
    *_COMMON, ("language", _TEXT), ("language_score", _SHARE), ("characters", _NUMBER), ("checksum", _TEXT),
    *((name, _SHARE) for name in QUALITY), ("classifier_score", _SHARE), ("cleaning", _TEXT), ("redacted", _TEXT),
]  # fmt: skip
REFINED = pyarrow.schema(
    [*_KEPT, ("text", _TEXT), ("original_characters", _NUMBER), ("stage", _TEXT), ("reason", _TEXT),
     ("digest", pyarrow.binary()), ("bands", pyarrow.binary())]
)  # fmt: skip
DOCUMENTS = pyarrow.schema([("id", _TEXT), ("text", _TEXT), *_KEPT])
DROPPED = pyarrow.schema([("source", _TEXT), ("collection", _TEXT), ("format", _TEXT), ("stage", _TEXT),
                          ("reason", _TEXT), ("of", _TEXT), ("characters", _NUMBER), ("excerpt", _TEXT)])  # fmt: skip
_EXCERPT = 300
_EMBEDDED_TOGETHER = 256
_LEAST_LINE = 15  # characters; shorter lines, such as a closing bracket, repeat in any text


class Task(Protocol):
    """Made from settings, run on units."""

    def run(self, unit: dict[str, Any]) -> dict[str, Any]:
        """Return the result of one unit."""
        ...


class Extract:
    """Sources to rows of text."""

    def __init__(self, settings: dict[str, Any]) -> None:
        data = DataConfig(**settings["data"])
        self._folder = tempfile.mkdtemp(prefix="llmbuilder-extract-")
        limits = ExtractionLimits.from_config(data)
        self._pool = ExtractionPool(text_column=data.text_column, ocr=data.ocr, limits=limits, workers=1)
        atexit.register(self.close)
        self._reader = SourceReader(
            self._pool,
            Path(self._folder),
            text_column=data.text_column,
            limits=ContainerLimits(member_bytes=limits.file_bytes),
        )
        self._store = Store(Path(settings["work"]) / "extracted", EXTRACTED)

    def close(self) -> None:
        """End the reading process and remove the folder of copies."""
        self._pool.__exit__()
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(self, unit: dict[str, Any]) -> dict[str, Any]:
        """Write the unit's extracted file."""
        sources = [Source(**values) for values in unit["sources"]]

        def produce(number: int) -> Iterator[Row]:
            for row in self._reader.rows(sources[number]):
                yield {**row, "collection": sources[number].collection}

        self._store.write(Path(unit["path"]), unit["keys"], _parts(unit), produce)
        return {"unit": unit["unit"]}


class Refine:
    """Extracted rows to clean, judged, signed ones."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._data = DataConfig(**settings["data"])
        self._refiner = Refiner.from_config(self._data)
        self._near = NearDuplicateSettings(**settings["near"]) if settings["near"] else None
        self._store = Store(Path(settings["work"]) / "refined", REFINED)

    def run(self, unit: dict[str, Any]) -> dict[str, Any]:
        """Write the unit's refined file."""
        places: list[Part] = []
        for _, rows in part_sizes(unit["input"]):
            first = places[-1].first + places[-1].rows if places else 0
            places.append(Part(unit["input"], first, rows))

        def produce(number: int) -> Iterator[Row]:
            for table in read_slice(places[number]):
                yield from map(self._refine, table.to_pylist())

        self._store.write(Path(unit["path"]), unit["keys"], _parts(unit), produce, self._sign)
        return {"unit": unit["unit"]}

    def _refine(self, row: Row) -> Row:
        shared = {name: row[name] for name in ("source", "collection", "format", "title", "metadata")}
        if row["error"] is not None:
            return {**shared, "stage": "extract", "reason": row["error"], "characters": 0}
        text = row["text"] if row["text"] is not None else "\n\n".join(row["pages"])
        document = Document(text, row["source"], row["format"], row["title"], row["pages"])
        refined = self._refiner.refine(document)
        values = {
            **shared,
            "original_characters": len(text),
            "characters": refined.document.characters,
            "stage": refined.stage,
            "reason": refined.reason,
            "cleaning": _as_json(refined.cleaning),
            "redacted": _as_json(refined.redacted),
        }
        if refined.reason is not None:
            return {**values, "text": refined.document.text[:_EXCERPT], **_language(refined)}
        quality = (refined.verdict and refined.verdict.quality) or TextQuality(refined.document.text)
        return {
            **values,
            **_language(refined),
            **{name: float(getattr(quality, name)) for name in QUALITY},
            "classifier_score": refined.verdict.score if refined.verdict else None,
            "text": refined.document.text,
            "checksum": refined.document.checksum,
            "digest": normalized_digest(refined.document.text),
        }

    def _sign(self, rows: list[Row]) -> None:
        kept = [row for row in rows if row["stage"] is None]
        if self._near is not None and kept:
            for row, bands in zip(kept, iter_signatures((row["text"] for row in kept), self._near), strict=True):
                row["bands"] = bands


def _language(refined: Refined) -> Row:
    verdict = refined.verdict
    found = (verdict.language, verdict.language_score) if verdict else detect_language(refined.document.text)
    return {"language": found[0], "language_score": found[1]}


class Shingle:
    """The hashed n-grams of the documents that are compared with others."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._near = NearDuplicateSettings(**settings["near"])

    def run(self, unit: dict[str, Any]) -> dict[str, Any]:
        """Write the hashes of the chosen rows, one after the other, and the number of each before them."""
        chosen = set(unit["rows"])
        rows = read_rows(unit["input"], ["text"])
        texts = (row["text"] for number, row in enumerate(rows) if number in chosen)
        hashes = list(iter_shingle_hashes(texts, self._near.ngram))
        sizes = np.array([len(found) for found in hashes], np.uint64)
        with atomic_file(unit["path"]) as handle:
            np.concatenate([sizes, *hashes]).tofile(handle)
        return {"unit": unit["unit"]}


class Embed:
    """The embeddings of the documents of a unit."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._embedder = TextEmbedder(settings["data"]["semantic_model"])

    def run(self, unit: dict[str, Any]) -> dict[str, Any]:
        """Write the embeddings of all rows that survived refinement, of shape (rows, dimensions)."""
        texts: list[str] = []
        found: list[np.ndarray] = []
        for row in read_rows(unit["input"], ["text", "stage"]):
            if row["stage"] is None:
                texts.append(row["text"])
            if len(texts) == _EMBEDDED_TOGETHER:
                found.append(self._embedder.embed(texts))
                texts.clear()
        found.append(self._embedder.embed(texts or [""])[: len(texts)])
        with atomic_file(unit["path"]) as handle:
            np.save(handle, np.concatenate(found))
        return {"unit": unit["unit"]}


class CountLines:
    """In how many documents of a unit each line is."""

    def __init__(self, settings: dict[str, Any]) -> None:
        pass

    def run(self, unit: dict[str, Any]) -> dict[str, Any]:
        """Write the sorted hashes of the lines and their counts, of shape (2, lines)."""
        dropped = set(unit["dropped"])
        counts: Counter[int] = Counter()
        for number, row in enumerate(read_rows(unit["input"], ["text", "stage"])):
            if number not in dropped and row["stage"] is None:
                counts.update({line_hash(line) for line in row["text"].split("\n") if _counts(line)})
        table = np.array(sorted(counts.items()), np.uint64).reshape(-1, 2).T
        with atomic_file(unit["path"]) as handle:
            np.save(handle, table)
        return {"unit": unit["unit"]}


def _counts(line: str) -> bool:
    return len(line.strip()) >= _LEAST_LINE


def line_hash(line: str) -> int:
    """Return a 64-bit hash of a line, case and surrounding blanks aside."""
    plain = line.strip().casefold().encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(plain, digest_size=8).digest(), "little")


class WriteDocuments:
    """Refined rows and decisions to the documents that stay and an account of those that do not."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._folder = Path(settings["folder"])
        lines = settings["lines"]
        self._repeated = np.load(lines) if lines else np.zeros(0, np.uint64)

    def run(self, unit: dict[str, Any]) -> dict[str, Any]:
        """Write the unit's files and its receipt, which holds all counts."""
        decided = {row: (stage, reason, of) for row, stage, reason, of in unit["drops"]}
        receipt = Receipt()

        def kept() -> Iterator[Row]:
            for number, row in enumerate(read_rows(unit["input"])):
                if row["stage"] is None and number in decided:
                    row["stage"], row["reason"], row["of"] = decided[number]
                elif row["stage"] is None and len(self._repeated):
                    self._remove_lines(row, receipt)
                receipt.count(row)
                if row["stage"] is None:
                    yield {**row, "id": _identity(row)}

        documents = _write_named(self._folder / "documents", DOCUMENTS, kept())
        dropped = _write_named(self._folder / "dropped", DROPPED, receipt.dropped)
        values = {**receipt.to_dict(), "documents_file": documents, "dropped_file": dropped}
        write_json(unit["path"], values)
        return {"unit": unit["unit"]}

    def _remove_lines(self, row: Row, receipt: Receipt) -> None:
        lines = row["text"].split("\n")
        keep = [not (_counts(line) and self._is_repeated(line)) for line in lines]
        if all(keep):
            return
        receipt.lines_removed += keep.count(False)
        text = "\n".join(line for line, stays in zip(lines, keep, strict=True) if stays).strip("\n")
        if not text.strip():
            row["stage"], row["reason"] = "lines", "all its lines are in many documents"
            return
        document = Document(text)
        row.update(text=text, characters=document.characters, checksum=document.checksum)

    def _is_repeated(self, line: str) -> bool:
        value = np.uint64(line_hash(line))
        place = int(np.searchsorted(self._repeated, value))
        return place < len(self._repeated) and self._repeated[place] == value


class Receipt:
    """What happened to the rows of a unit, as counts that can be added up."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.groups: dict[str, Counter[str]] = {}
        self.reasons: dict[str, Counter[str]] = {}
        self.lines_removed = 0
        self.dropped: list[Row] = []

    def count(self, row: Row) -> None:
        """Take a row into account."""
        form = row["format"] or "unreadable"
        self.counts["found"] += 1
        self.counts["characters found"] += row["original_characters"] or 0
        self._group("formats found", form)
        for kind in ("cleaning", "redacted"):
            self.groups.setdefault(kind, Counter()).update(json.loads(row[kind] or "{}"))
        if row["stage"] is None:
            self.counts["documents"] += 1
            self.counts["characters"] += row["characters"]
            self.counts["bytes"] += len(row["text"].encode("utf-8", "replace"))
            self._group("formats", form)
            self._group("languages", row["language"] or "unknown")
            self._group("collections", row["collection"])
            self._group("lengths", str(max(1, row["characters"]).bit_length() - 1))
            return
        self.reasons.setdefault(row["stage"], Counter())[_general(row["reason"])] += 1
        self.dropped.append({**row, "excerpt": (row["text"] or "")[:_EXCERPT]})

    def _group(self, name: str, key: str) -> None:
        self.groups.setdefault(name, Counter())[key] += 1

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        self.counts["lines removed"] = self.lines_removed
        return {"counts": self.counts, "groups": self.groups, "reasons": self.reasons}


def _general(reason: str) -> str:
    """Reasons that quote a parser differ in detail only: what stands before its words is the reason."""
    return reason.split(": ")[0][:100]


def _identity(row: Row) -> str:
    return hashlib.sha256(f"{row['source']}\0{row['checksum']}".encode("utf-8", "replace")).hexdigest()[:24]


def _write_named(folder: Path, schema: pyarrow.Schema, rows: Iterable[Row]) -> str | None:
    """Write rows as a Parquet file named by its content; None if there are none."""
    temporary = folder / f".writing-{uuid.uuid4().hex}"
    try:
        Store(folder, schema).write(temporary, ["all"], {}, lambda number: rows)
        if part_sizes(temporary)[0][1] == 0:
            return None
        name = f"{file_checksum(temporary)[:24]}.parquet"
        os.replace(temporary, folder / name)
        return name
    finally:
        temporary.unlink(missing_ok=True)


def _as_json(counts: Counter[str]) -> str | None:
    return json.dumps(dict(sorted(counts.items()))) if counts else None


def _parts(unit: dict[str, Any]) -> dict[str, Part]:
    return {key: Part(*values) for key, values in unit["earlier"].items()}


TASKS: dict[str, Callable[[dict[str, Any]], Task]] = {
    "extract": Extract,
    "refine": Refine,
    "shingle": Shingle,
    "embed": Embed,
    "count_lines": CountLines,
    "write_documents": WriteDocuments,
    "tokenize": Tokenize,
}
