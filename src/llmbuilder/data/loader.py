"""`DataLoader`: a file or a folder of documents to clean, distinct documents, with an account of everything else."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from llmbuilder.config.schema import DataConfig
from llmbuilder.documents.document import Document
from llmbuilder.documents.file_types import SUPPORTED_SUFFIXES
from llmbuilder.documents.reader_pool import ExtractionLimits, ExtractionPool
from llmbuilder.duplicates.exact import ExactDeduplicator, drop_near_duplicates
from llmbuilder.duplicates.near import NearDuplicateSettings
from llmbuilder.errors import DataError
from llmbuilder.refining.cleaning import CLEANING_RULES
from llmbuilder.refining.filtering import DocumentFilter
from llmbuilder.refining.refiner import Refined, Refiner

logger = logging.getLogger("llmbuilder")


@dataclass
class LoadReport:
    """What happened to every file of a load."""

    files: int = 0
    documents: int = 0
    characters: int = 0
    formats: dict[str, int] = field(default_factory=Counter)
    skipped: list[dict[str, str]] = field(default_factory=list)  # source and reason
    duplicates: list[dict[str, str]] = field(default_factory=list)  # source and the document it repeats
    cleaning: dict[str, int] = field(default_factory=Counter)  # changes by rule
    filtered: list[dict[str, str]] = field(default_factory=list)  # source and the rule it broke
    redacted: dict[str, int] = field(default_factory=Counter)  # replaced values by kind
    languages: dict[str, int] = field(default_factory=Counter)  # documents that a filter looked at

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        counts = {name: dict(getattr(self, name)) for name in ("formats", "cleaning", "redacted", "languages")}
        return {**asdict(self), **counts}

    def count(self, document: Document) -> None:
        """Add a document that is kept."""
        self.documents += 1
        self.characters += document.characters
        self.formats[document.format] = self.formats.get(document.format, 0) + 1


class DataLoader:
    """Reads documents; `report` tells what was read, skipped and removed since the loader was made.

    `clean_text` applies the cleaning rules (`cleaning_rules` narrows them down), `remove_duplicates` drops
    documents whose normalised text this loader has already returned, `text_column` names the column of tables.
    `document_filter` drops documents by their quality or language, `redact_kinds` lists the personal data to replace
    (see `redact`), `near_duplicates` drops documents much like another one of the same load. Files are read under
    `limits` of time, memory and size, by `workers` processes (default: one for each CPU) where a format needs a parser.
    `ocr` names the languages of scanned pages, which are read where tesseract is installed; None leaves them.
    """

    def __init__(
        self,
        clean_text: bool = True,
        remove_duplicates: bool = True,
        *,
        text_column: str | None = None,
        cleaning_rules: Collection[str] = CLEANING_RULES,
        document_filter: DocumentFilter | None = None,
        redact_kinds: Collection[str] = (),
        near_duplicates: NearDuplicateSettings | None = None,
        limits: ExtractionLimits | None = None,
        workers: int | None = None,
        ocr: str | None = "eng",
    ) -> None:
        self.ocr = ocr
        self.remove_duplicates = remove_duplicates
        self.text_column = text_column
        self.near_duplicates = near_duplicates
        self.limits = limits
        self.workers = workers
        self.report = LoadReport()
        self._refiner = Refiner(
            cleaning_rules=cleaning_rules if clean_text else (),
            redact_kinds=redact_kinds,
            document_filter=document_filter,
        )
        self._deduplicator = ExactDeduplicator()

    @classmethod
    def from_config(cls, data: DataConfig, *, workers: int | None = None) -> DataLoader:
        """Return the loader that a configuration describes. Raises ConfigError for unknown names."""
        loader = cls(
            remove_duplicates=data.remove_duplicates,
            text_column=data.text_column,
            ocr=data.ocr,
            near_duplicates=NearDuplicateSettings.from_config(data),
            limits=ExtractionLimits.from_config(data),
            workers=workers,
        )
        loader._refiner = Refiner.from_config(data)
        return loader

    def load_file(self, path: str | Path) -> list[Document]:
        """Return the documents of one file. Raises DataError if it cannot be read."""
        with self._pool(1) as pool:
            ((_, outcome),) = pool.extract([Path(path)])
        if isinstance(outcome, DataError):
            raise outcome
        return list(self.process(outcome))

    def load_directory(self, path: str | Path) -> list[Document]:
        """Return the documents of a folder and its subfolders, in the order of their names.

        Hidden files are passed over. A file that cannot be read is reported in `report.skipped` and logged;
        DataError is raised if there is no folder, no file, or nothing readable in it.
        """
        return list(self.iter_directory(path))

    def iter_directory(self, path: str | Path) -> Iterator[Document]:
        """Like `load_directory`, one document at a time."""
        folder = Path(path)
        files = list_documents(folder)
        found = False
        for document in self.iter_files(files):
            found = True
            yield document
        if not found:
            dropped = (self.report.skipped + self.report.filtered)[:3]
            reasons = "; ".join(f"{item['source']}: {item['reason']}" for item in dropped)
            raise DataError(f"nothing is left of the {len(files)} file(s) in {folder} ({reasons})")

    def iter_files(self, files: Iterable[Path]) -> Iterator[Document]:
        """Yield the documents of these files; an unreadable one is reported and passed over."""
        yield from self.process(self._extracted(files))

    def _pool(self, workers: int | None) -> ExtractionPool:
        return ExtractionPool(text_column=self.text_column, ocr=self.ocr, limits=self.limits, workers=workers)

    def _extracted(self, files: Iterable[Path]) -> Iterator[Document]:
        with self._pool(self.workers) as pool:
            for file, outcome in pool.extract(files):
                if isinstance(outcome, DataError):
                    reason = str(outcome).removeprefix(f"{file}: ")
                    self.report.skipped.append({"source": str(file), "reason": reason})
                    logger.warning(f"skipped {file}: {reason}")
                else:
                    yield from outcome

    def process(self, documents: Iterable[Document]) -> Iterator[Document]:
        """Clean, filter and deduplicate documents, in this order."""
        survivors = self._refined(documents)
        if self.near_duplicates is not None:
            survivors = drop_near_duplicates(survivors, self.near_duplicates, self.report.duplicates)
        for document in survivors:
            self.report.count(document)
            yield document

    def _refined(self, documents: Iterable[Document]) -> Iterator[Document]:
        file = None
        for document in documents:
            if file != (file := document.source.split("#")[0]):
                self.report.files += 1
            refined = self._refiner.refine(document)
            self._account(refined)
            if refined.reason is None and not self._is_duplicate(refined.document):
                yield refined.document

    def _account(self, refined: Refined) -> None:
        report = self.report
        report.cleaning.update(refined.cleaning)  # type: ignore[arg-type]
        report.redacted.update(refined.redacted)  # type: ignore[arg-type]
        if refined.verdict is not None:
            language = refined.verdict.language or "unknown"
            report.languages[language] = report.languages.get(language, 0) + 1
        if refined.reason is not None:
            dropped = report.skipped if refined.stage == "clean" else report.filtered
            dropped.append({"source": refined.document.source, "reason": refined.reason})

    def _is_duplicate(self, document: Document) -> bool:
        original = self._deduplicator.original_of(document) if self.remove_duplicates else None
        if original is not None:
            self.report.duplicates.append({"source": document.source, "of": original})
        return original is not None


def list_documents(folder: Path) -> list[Path]:
    """Return the files below a folder in the order of their names, hidden ones left out. Raises DataError if none."""
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder}")
    files = [file for file in folder.rglob("*") if file.is_file() and not _is_hidden(file.relative_to(folder))]
    if not files:
        raise DataError(
            f"{folder} is empty: put documents there ({', '.join(sorted(set(SUPPORTED_SUFFIXES) - {''})[:8])}, ...)"
        )
    return sorted(files)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "~$")) for part in path.parts)
