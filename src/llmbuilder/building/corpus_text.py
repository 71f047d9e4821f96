"""The text a build trains on: documents read now, or a corpus that was prepared before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmbuilder.config.schema import Config
from llmbuilder.corpus.corpus_files import iter_pieces
from llmbuilder.corpus.load_report import LoadReport
from llmbuilder.corpus.output import is_output
from llmbuilder.corpus.prepared import PreparedCorpus
from llmbuilder.data import DataLoader, Document, default_corpus, write_corpus
from llmbuilder.data.in_force import require_in_force, require_in_force_on_documents
from llmbuilder.documents.folders import is_prepared
from llmbuilder.errors import DataError, LLMBuilderError
from llmbuilder.notices import counted
from llmbuilder.stages import Progress

Sources = str | Path | Sequence[str | Path] | None


@dataclass(frozen=True)
class BuildText:
    """Where the text is, what it holds, and the tokenizer that belongs to it, if one does."""

    path: Path
    report: LoadReport
    bytes: int
    tokenizer: Path | None = None
    tokenizer_settings: dict[str, Any] | None = None

    def beginning(self, characters: int) -> str:
        """Return the first characters of the text."""
        found = ""
        for text, _ in iter_pieces(self.path):
            found += text + "\n"
            if len(found) >= characters:
                break
        return found[:characters]

    def summary(self) -> str:
        """Return what was read in one line."""
        report = self.report
        formats = ", ".join(f"{count} {name}" for name, count in sorted(report.formats.items()))
        text = f"{counted(report.documents, 'document')}, {counted(report.characters, 'character')} ({formats})"
        if report.duplicates:
            text += f"; {counted(len(report.duplicates), 'duplicate')} removed"
        return text + (f"; {counted(len(report.skipped), 'file')} skipped" if report.skipped else "")


def read_text(documents: Sources, folder: Path, config: Config, progress: Progress) -> BuildText:
    """Read documents into `folder`, or take a prepared corpus as it is. Raises DataError if there is nothing to read.

    None takes the running interpreter's own documentation. `progress` is told of files as they are read.
    """
    sources = [documents] if isinstance(documents, str | Path) else documents
    if sources is not None and len(sources) == 1 and Path(sources[0]).is_dir():
        require_in_force(config.data, sources[0])
    else:
        require_in_force_on_documents(config.data)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if sources is not None and len(sources) == 1 and is_prepared(Path(sources[0])):
            return _prepared(PreparedCorpus(Path(sources[0])))
        loader = DataLoader.from_config(config.data, progress=progress)
        corpus = folder / "corpus.txt"
        write_corpus(_documents(sources, loader, folder), corpus, loader.report, overwrite=True)
    except LLMBuilderError:
        if not any(folder.iterdir()):
            folder.rmdir()  # nothing was made: leave no empty directory behind
        raise
    return BuildText(corpus, loader.report, corpus.stat().st_size)


def _prepared(corpus: PreparedCorpus) -> BuildText:
    report = LoadReport.of_corpus(corpus.description)
    return BuildText(corpus.folder, report, report.counts["bytes"], corpus.tokenizer, corpus.tokenizer_settings)


def _documents(sources: Sequence[str | Path] | None, loader: DataLoader, output: Path) -> Iterator[Document]:
    if sources is None:
        yield from loader.process(default_corpus())
        return
    for source in sources:
        path = Path(source)
        if not path.exists():
            raise DataError(f"no such file or folder: {path}")
        if is_prepared(path):
            raise DataError(f"{path} is a prepared corpus: name it alone, or prepare all inputs as one corpus")
        yield from loader.iter_directory(path, is_output(output)) if path.is_dir() else loader.load_file(path)
