"""Corpora on disk: one text file, JSON Lines or Parquet.

In a text file documents are separated by a line that holds only U+001E, ASCII's record separator: other programs
tokenize such a file without complaint, which they do not when it spells a special token. Files that others
separated by `<|endoftext|>` are read too. JSON Lines and Parquet keep the metadata.
Beside each corpus stands `NAME.manifest.json`: where every document came from and what was left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from llmbuilder.corpus.load_report import LoadReport
from llmbuilder.corpus.prepared import PreparedCorpus
from llmbuilder.documents.batching import batched
from llmbuilder.documents.document import Document, Outcome
from llmbuilder.documents.file_types import TABLE_SUFFIXES
from llmbuilder.documents.folders import MANIFEST, LeaveOut, is_prepared
from llmbuilder.documents.json_files import read_json
from llmbuilder.documents.tables import iter_parquet_rows, read_csv, read_json_lines, read_parquet, require_pyarrow
from llmbuilder.documents.text import ONLY_RECORDS, RECORD_SEPARATOR, SEPARATOR, iter_text_pieces
from llmbuilder.errors import DataError
from llmbuilder.files import atomic_path, set_aside, write_json
from llmbuilder.notices import warn_once
from llmbuilder.tokenizer import Tokenizer

CORPUS_SUFFIXES = (".txt", ".jsonl", ".parquet")


def write_corpus(
    documents: Iterable[Document], path: str | Path, report: LoadReport | None = None, *, overwrite: bool = False
) -> dict[str, Any]:
    """Write documents one after the other and return the manifest that is written beside them.

    `path` ends in .txt, .jsonl or .parquet. `report` (filled while `documents` are drawn) goes into the
    manifest. When the last document is written, an earlier corpus of that name is kept under a numbered one, or
    replaced if `overwrite` is set.
    """
    path = Path(path)
    if path.suffix not in CORPUS_SUFFIXES:
        raise DataError(f"cannot write a corpus as {path.name!r}: use one of {', '.join(CORPUS_SUFFIXES)}")
    entries: list[dict[str, Any]] = []

    def noted() -> Iterator[Document]:
        for document in documents:
            entries.append(document.metadata)
            yield document

    with atomic_path(path) as temporary:
        {".txt": _write_text, ".jsonl": _write_jsonl, ".parquet": _write_parquet}[path.suffix](noted(), temporary)
        if not overwrite:
            _keep_earlier(path)
    from llmbuilder import __version__

    manifest = {
        "llmbuilder": __version__,
        "corpus": path.name,
        "documents": len(entries),
        "characters": sum(entry["characters"] for entry in entries),
        "report": report.to_dict() if report else None,
        "sources": entries,
    }
    write_json(manifest_path(path), manifest)
    return manifest


def _keep_earlier(path: Path) -> None:
    kept = set_aside(path)
    if kept is not None and manifest_path(path).exists():
        manifest_path(path).rename(manifest_path(kept))


def is_earlier_output(output: Path) -> LeaveOut:
    """Return what says of a path that it is an earlier corpus of this name, which may lie among its own sources."""
    family = re.compile(rf"{re.escape(output.stem)}(\.\d+)?{re.escape(output.suffix)}")
    being_written = re.compile(rf"\.{re.escape(output.name)}\..*\.tmp")  # as `atomic_path` names it
    folder = output.parent.resolve()

    def found(path: Path) -> bool:
        if being_written.fullmatch(path.name) is not None:
            return path.parent.resolve() == folder
        corpus = path.with_name(path.name.removesuffix(MANIFEST))
        if family.fullmatch(corpus.name) is None or path.parent.resolve() != folder:
            return False
        if not manifest_path(corpus).is_file():
            return False
        warn_once(f"{corpus} is an earlier corpus of the name that is being written: it is left out of its own sources")
        return True

    return found


def manifest_path(corpus: Path) -> Path:
    """Return where the manifest of a corpus file stands."""
    return corpus.with_name(f"{corpus.name}{MANIFEST}")


def _write_text(documents: Iterable[Document], path: Path) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as handle:
        for number, document in enumerate(documents):
            if number:
                handle.write(f"\n{RECORD_SEPARATOR}\n")
            handle.write(SEPARATOR.sub("\n", document.text))
        handle.write("\n")


def _write_jsonl(documents: Iterable[Document], path: Path) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as handle:
        for document in documents:
            handle.write(json.dumps({"text": document.text, **document.metadata}, ensure_ascii=False) + "\n")


def _write_parquet(documents: Iterable[Document], path: Path) -> None:
    pyarrow = require_pyarrow("a Parquet corpus")
    import pyarrow.parquet as parquet

    text, number = pyarrow.string(), pyarrow.int64()
    schema = pyarrow.schema(
        {"text": text, "source": text, "format": text, "title": text, "pages": number, "characters": number,
         "checksum": text}
    )  # fmt: skip
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in batched(({"text": d.text, **d.metadata} for d in documents), 512):
            writer.write_table(pyarrow.Table.from_pylist(batch, schema))


def iter_pieces(
    path: Path, text_column: str | None = None, tokenizer: Tokenizer | None = None
) -> Iterator[tuple[str, bool]]:
    """Yield a corpus (a file, or a prepared folder) in pieces, and whether a document ends there.

    `text_column` names the column of a table that has the text (default: see `documents.tables`). "<|endoftext|>" in a
    text ends a document, unless a `tokenizer` is given that can only spell it.
    A text comes in pieces of a million characters, cut where no token changes; a table in whole documents, rows without
    a text being passed over with a warning. Raises DataError for a missing, binary, damaged or empty file.
    """
    if is_prepared(path):
        pieces: Iterator[tuple[str, bool]] = ((text, True) for text, _, _ in _prepared_texts(path))
    elif path.is_dir():
        raise DataError(f"{path} is a folder, not a corpus: `llmbuilder data load` or `data prepare` makes one of it")
    elif not path.is_file():
        raise DataError(f"no such corpus: {path}")
    elif (kind := TABLE_SUFFIXES.get(path.suffix.lower())) is not None:
        pieces = ((document.text, True) for document in _readable(_TABLES[kind](path, str(path), text_column)))
    else:
        is_text = tokenizer is not None and tokenizer.spells_end_of_text
        pieces = iter_text_pieces(path, ONLY_RECORDS if is_text else SEPARATOR)
    empty = True
    for text, ends in pieces:
        empty = empty and not text.strip()
        yield text, ends
    if empty:
        raise DataError(f"{path} holds no text")


_TABLES: dict[str, Callable[[Path, str, str | None], Iterator[Outcome]]] = {
    "jsonl": read_json_lines,
    "parquet": read_parquet,
    "csv": read_csv,
    "json": read_json,
}


def _readable(outcomes: Iterable[Outcome]) -> Iterator[Document]:
    for outcome in outcomes:
        if isinstance(outcome, Document):
            yield outcome
        else:
            warn_once(f"left out {outcome.source}: {outcome.reason}")


def _prepared_texts(folder: Path) -> Iterator[tuple[str, str | None, str]]:
    """Yield the text, language and format of each document of a prepared corpus."""
    for file in PreparedCorpus(folder).documents:
        for row in iter_parquet_rows(file, ["text", "language", "format"]):
            yield row["text"], row["language"], row["format"]


def iter_documents(path: Path) -> Iterator[Document]:
    """Yield the documents of a corpus file whole, with their place in it as source.

    The line break that ends a text file is not the last document's.
    """
    is_text = path.is_file() and path.suffix.lower() not in TABLE_SUFFIXES
    parts: list[str] = []
    number = 0
    held: str | None = None
    for text, ends in iter_pieces(path):
        parts.append(text)
        if ends:
            if held is not None:
                number += 1
                yield Document(held, f"{path}#{number}")
            held = "".join(parts)
            parts.clear()
    if held is not None:
        yield Document(held.removesuffix("\n") if is_text else held, f"{path}#{number + 1}")


def iter_grouped_texts(path: Path) -> Iterator[tuple[str, str]]:
    """Yield texts with the group they belong to: language and format in a prepared corpus, else none ("all")."""
    if not is_prepared(path):
        for text, _ in iter_pieces(path):
            yield "all", text
        return
    for text, language, form in _prepared_texts(path):
        yield f"{language or 'unknown'}, {form}", text
