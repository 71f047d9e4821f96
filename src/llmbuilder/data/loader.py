"""`DataLoader`: a file or a folder of documents to clean, distinct documents, with an account of everything else."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from llmbuilder.config.schema import DataConfig
from llmbuilder.corpus.load_report import LoadReport
from llmbuilder.corpus.prepared import PreparedCorpus
from llmbuilder.documents.document import Document, Unreadable
from llmbuilder.documents.folders import LeaveOut, Listing, is_prepared, list_folder
from llmbuilder.documents.reader_pool import ReadingLimits
from llmbuilder.documents.reading import DocumentReader
from llmbuilder.duplicates.exact import SeenTexts
from llmbuilder.duplicates.near import NearDuplicateSettings
from llmbuilder.duplicates.spool import drop_near_duplicates
from llmbuilder.errors import DataError
from llmbuilder.notices import counted
from llmbuilder.refining.cleaning import CLEANING_RULES
from llmbuilder.refining.filtering import DocumentFilter
from llmbuilder.refining.refiner import Refined, Refiner
from llmbuilder.stages import REPEATS, Progress, no_progress

logger = logging.getLogger("llmbuilder")


class DataLoader:
    """Reads documents; `report` tells what was read, skipped and removed since the loader was made.

    `clean_text` applies the cleaning rules (`cleaning_rules` narrows them down), `remove_duplicates` drops
    documents whose normalised text this loader has already returned, `text_column` names the column of tables.
    `document_filter` drops documents by their quality or language, `redact_kinds` lists the personal data to replace
    (see `redact`), `near_duplicates` drops documents much like another one of the same load. Files are read under
    `limits` of time, memory and size, by `workers` processes (default: one for each CPU) where a format needs a parser.
    `ocr` names the languages of scanned pages, which are read where tesseract is installed; None leaves them.
    `progress` is called with "extract", the files read and all that have been found in folders.
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
        limits: ReadingLimits | None = None,
        workers: int | None = None,
        ocr: str | None = "eng",
        progress: Progress = no_progress,
    ) -> None:
        self.remove_duplicates = remove_duplicates
        self.near_duplicates = near_duplicates
        self.text_column = text_column
        self.ocr = ocr
        self.limits = limits
        self.workers = workers
        self.report = LoadReport()
        self._refiner = Refiner(
            cleaning_rules=cleaning_rules if clean_text else (),
            redact_kinds=redact_kinds,
            document_filter=document_filter,
        )
        self._progress = progress
        self._files_found = self._files_read = 0
        self._seen = SeenTexts()
        self._untold: dict[str, list[str]] = {}  # sources by reason
        self.has_manifest = True  # where whoever reads may look up what was left out

    @classmethod
    def from_config(
        cls,
        data: DataConfig,
        *,
        workers: int | None = None,
        progress: Progress = no_progress,
    ) -> DataLoader:
        """Return the loader that a configuration describes. Raises ConfigError for unknown names."""
        loader = cls(
            remove_duplicates=data.remove_duplicates,
            text_column=data.text_column,
            ocr=data.ocr,
            near_duplicates=NearDuplicateSettings.from_config(data),
            limits=ReadingLimits.from_config(data),
            workers=workers,
            progress=progress,
        )
        loader._refiner = Refiner.from_config(data)
        return loader

    def load_file(self, path: str | Path) -> list[Document]:
        """Return the documents of one file. Raises DataError if there is none in it that can be read."""
        earlier = len(self.report.dropped)
        found = list(self._found([Path(path)], workers=1))
        if found:
            self._tell_skipped()
        self._untold.clear()
        unreadable = self.report.dropped[earlier:]
        if unreadable and not found:
            raise DataError(f"{unreadable[0]['source']}: {unreadable[0]['reason']}")
        return list(self._processed(found))

    def load_directory(self, path: str | Path) -> list[Document]:
        """Return the documents of a folder and its subfolders, in the order of their names.

        Archives, compressed files and tables give what is in them; a prepared corpus gives its documents. What cannot
        be read is reported in `report.skipped` and logged, hidden files and folders are counted. DataError is raised if
        there is no folder, no file, or nothing readable in it.
        """
        return list(self.iter_directory(path))

    def iter_directory(self, path: str | Path, leave_out: LeaveOut = lambda path: False) -> Iterator[Document]:
        """Like `load_directory`, one document at a time.

        `leave_out` says which files and folders there are not to be read.
        """
        folder = Path(path)
        listing = Listing(PreparedCorpus(folder).documents) if is_prepared(folder) else list_folder(folder, leave_out)
        self.report.counts["hidden"] += listing.hidden
        for item in listing.left_out:
            self._skip(item)
        self._files_found += len(listing.files)
        found = False
        for document in self.iter_files(listing.files):
            found = True
            yield document
        if not found:
            dropped = (self.report.skipped + self.report.filtered)[:3]
            reasons = "; ".join(f"{item['source']}: {item['reason']}" for item in dropped)
            raise DataError(f"nothing is left of the {counted(len(listing.files), 'file')} in {folder} ({reasons})")

    def iter_files(self, files: Iterable[Path]) -> Iterator[Document]:
        """Yield the documents of these files; what cannot be read is reported and passed over."""
        try:
            yield from self._processed(self._found(files, self.workers))
        finally:
            self._tell_skipped()

    def _found(self, files: Iterable[Path], workers: int | None) -> Iterator[Document]:
        reader = DocumentReader(text_column=self.text_column, ocr=self.ocr, limits=self.limits, workers=workers)
        with reader:
            self._tell_progress(0)
            for _, outcomes in reader.read_files(files):
                holds_any = False
                for outcome in outcomes:
                    if isinstance(outcome, Unreadable):
                        self._skip(outcome)
                    else:
                        holds_any = True
                        yield outcome
                self.report.counts["files"] += holds_any
                self._tell_progress(1)

    def _tell_progress(self, more: int) -> None:
        """Count files that have been read, and tell of them where it is known how many there are."""
        self._files_read += more
        if self._files_found:
            self._files_found = max(self._files_found, self._files_read)
            self._progress("extract", self._files_read, self._files_found)

    def _skip(self, unreadable: Unreadable) -> None:
        self.report.find(None, 0)
        self.report.drop(unreadable.source, "extract", unreadable.reason)
        self._untold.setdefault(unreadable.reason, []).append(unreadable.source)

    def _tell_skipped(self) -> None:
        """Log what was passed over since the last time, a line for each reason."""
        for reason, sources in self._untold.items():
            more = f" and {len(sources) - 1:,} more" if len(sources) > 1 else ""
            where = " (the manifest lists all)" if len(sources) > 1 and self.has_manifest else ""
            logger.warning(f"skipped {sources[0]}{more}: {reason}{where}")
        self._untold.clear()

    def process(self, documents: Iterable[Document]) -> Iterator[Document]:
        """Clean, filter and deduplicate documents, in this order."""
        yield from self._processed(self._counted(documents))

    def _counted(self, documents: Iterable[Document]) -> Iterator[Document]:
        file = None
        for document in documents:
            if file != (file := document.source.split("#")[0]):
                self.report.counts["files"] += 1
            yield document

    def _processed(self, documents: Iterable[Document]) -> Iterator[Document]:
        survivors = self._refined(documents)
        dropped: list[tuple[str, str]] = []
        if self.near_duplicates is not None:
            survivors = drop_near_duplicates(survivors, self.near_duplicates, dropped)
        for document in survivors:
            self.report.keep(document.format, document.characters)
            yield document
        for source, original in dropped:
            self.report.drop(source, "near", REPEATS["near"], of=original)

    def _refined(self, documents: Iterable[Document]) -> Iterator[Document]:
        for document in documents:
            refined = self._refiner.refine(document)
            self._account(refined, document.characters)
            if refined.stage is None and not self._is_duplicate(refined.document):
                yield refined.document

    def _account(self, refined: Refined, characters: int) -> None:
        report = self.report
        report.find(refined.document.format, characters)
        report.leave(refined.document.notes)
        report.change("cleaning", refined.cleaning)
        report.change("redacted", refined.redacted)
        if refined.verdict is not None:
            report.group("languages found", refined.verdict.language or "unknown")
            report.change("rules skipped", refined.verdict.skipped_for)
        if refined.stage is not None:
            document = refined.document
            language = refined.verdict.language if refined.verdict else None
            report.drop(document.source, refined.stage, refined.reason or "", form=document.format, language=language)

    def _is_duplicate(self, document: Document) -> bool:
        original = self._seen.original_of(document.text, document.source) if self.remove_duplicates else None
        if original is not None:
            self.report.drop(document.source, "exact", REPEATS["exact"], form=document.format, of=original)
        return original is not None
