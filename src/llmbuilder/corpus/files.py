"""Corpora on disk: one text file, JSON Lines or Parquet.

In a text file documents are separated by a line that holds only U+001E, ASCII's record separator: other programs
tokenize such a file without complaint, which they do not when it spells a special token. Files that others
separated by `<|endoftext|>` are read too. JSON Lines and Parquet keep the metadata.
Beside each corpus stands `NAME.manifest.json`: where every document came from and what was left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from llmbuilder.corpus.prepared import PreparedCorpus, is_prepared
from llmbuilder.documents.batching import batched
from llmbuilder.documents.document import Document
from llmbuilder.errors import DataError, MissingDependencyError
from llmbuilder.files import atomic_path, set_aside, write_json
from llmbuilder.tokenizer import END_OF_TEXT

if TYPE_CHECKING:
    from llmbuilder.data.loader import LoadReport

CORPUS_SUFFIXES = (".txt", ".jsonl", ".parquet")
_RECORD_SEPARATOR = "\x1e"
_SEPARATOR = re.compile(rf"\r?\n?(?:{re.escape(END_OF_TEXT)}|{_RECORD_SEPARATOR})\r?\n?")
_PIECE = 1 << 20


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


def manifest_path(corpus: Path) -> Path:
    """Return where the manifest of a corpus file stands."""
    return corpus.with_name(f"{corpus.name}.manifest.json")


def _write_text(documents: Iterable[Document], path: Path) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as handle:
        for number, document in enumerate(documents):
            if number:
                handle.write(f"\n{_RECORD_SEPARATOR}\n")
            handle.write(_SEPARATOR.sub("\n", document.text))
        handle.write("\n")


def _write_jsonl(documents: Iterable[Document], path: Path) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as handle:
        for document in documents:
            handle.write(json.dumps({"text": document.text, **document.metadata}, ensure_ascii=False) + "\n")


def _write_parquet(documents: Iterable[Document], path: Path) -> None:
    pyarrow = _pyarrow()
    import pyarrow.parquet as parquet

    text, number = pyarrow.string(), pyarrow.int64()
    schema = pyarrow.schema(
        {"text": text, "source": text, "format": text, "title": text, "pages": number, "characters": number,
         "checksum": text}
    )  # fmt: skip
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in batched(({"text": d.text, **d.metadata} for d in documents), 512):
            writer.write_table(pyarrow.Table.from_pylist(batch, schema))


def iter_pieces(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield a corpus (a file, or a prepared folder) in pieces of a million characters, and whether a document ends.

    Pieces are cut where a tokenizer would cut too (a line end between two visible characters), so tokens do not
    depend on the piece size. Raises DataError for a missing, binary or empty file.
    """
    if is_prepared(path):
        pieces: Iterator[tuple[str, bool]] = _prepared_pieces(path)
    elif path.is_file():
        pieces = _READERS.get(path.suffix.lower(), _text_pieces)(path)
    else:
        raise DataError(f"no such corpus: {path}")
    empty = True
    for text, ends in pieces:
        empty = empty and not text.strip()
        yield text, ends
    if empty:
        raise DataError(f"{path} holds no text")


def _text_pieces(path: Path) -> Iterator[tuple[str, bool]]:
    with open(path, "rb") as probe:
        if b"\0" in probe.read(1 << 16):
            raise DataError(f"{path}: it is a binary file, not text")
    try:
        with open(path, encoding="utf-8-sig", newline="") as handle:
            yield from _split_stream(handle)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}): "
            "`llmbuilder data load` converts other encodings"
        ) from error


def _split_stream(handle: TextIO) -> Iterator[tuple[str, bool]]:
    held = ""
    while block := handle.read(_PIECE):
        held += block
        if held.endswith((END_OF_TEXT, _RECORD_SEPARATOR)):
            held += handle.read(2)  # the line break after a separator belongs to it
        *documents, held = _SEPARATOR.split(held)
        for document in documents:
            yield document, True
        while (cut := _safe_cut(held)) is not None:
            yield held[:cut], False
            held = held[cut:]
    if held:
        yield held, True


def _safe_cut(text: str) -> int | None:
    """Return a position within the first pieces of a long text where cutting changes no token, or None to read on."""
    if len(text) < 2 * _PIECE:
        return None
    for match in re.compile(r"\S\n(?=\S)").finditer(text, _PIECE):
        if len(text) - match.end() > len(END_OF_TEXT):
            return match.end()
    return 16 * _PIECE if len(text) > 32 * _PIECE else None


def _jsonl_pieces(path: Path) -> Iterator[tuple[str, bool]]:
    with open(path, encoding="utf-8") as handle:
        for number, line in enumerate(handle, start=1):
            if not line.strip():
                continue
            try:
                text = json.loads(line)["text"]
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise DataError(f"{path}: line {number} is no JSON object with a 'text' ({error})") from error
            yield str(text), True


def _parquet_pieces(path: Path) -> Iterator[tuple[str, bool]]:
    _pyarrow()
    import pyarrow.parquet as parquet

    for batch in parquet.ParquetFile(path).iter_batches(512, columns=["text"]):
        for text in batch.column(0).to_pylist():
            yield text, True


def _prepared_pieces(folder: Path) -> Iterator[tuple[str, bool]]:
    for file in PreparedCorpus(folder).documents:
        yield from _parquet_pieces(file)


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError:
        raise MissingDependencyError("pyarrow", "parquet", "a Parquet corpus") from None
    return pyarrow


_READERS = {".jsonl": _jsonl_pieces, ".parquet": _parquet_pieces}


def iter_documents(path: Path) -> Iterator[Document]:
    """Yield the documents of a corpus file whole, with their place in it as source."""
    parts: list[str] = []
    number = 0
    for text, ends in iter_pieces(path):
        parts.append(text)
        if ends:
            number += 1
            yield Document("".join(parts), f"{path}#{number}")
            parts.clear()


def iter_grouped_texts(path: Path) -> Iterator[tuple[str, str]]:
    """Yield texts with the group they belong to: language and format in a prepared corpus, else none ("all")."""
    if not is_prepared(path):
        for text, _ in iter_pieces(path):
            yield "all", text
        return
    _pyarrow()
    import pyarrow.parquet as parquet

    for file in PreparedCorpus(path).documents:
        for batch in parquet.ParquetFile(file).iter_batches(512, columns=["text", "language", "format"]):
            for row in batch.to_pylist():
                yield f"{row['language'] or 'unknown'}, {row['format']}", row["text"]
