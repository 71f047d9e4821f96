"""`llmbuilder data`: documents to a corpus."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from llmbuilder.cli.output import Json, Overwrite, print_json, print_pairs, say

if TYPE_CHECKING:
    from llmbuilder.data import NearDuplicateSettings

NearDuplicates = typer.Option(
    None,
    "--near-duplicates",
    metavar="THRESHOLD",
    help="Also drop documents whose word 5-grams overlap by this much or more (Jaccard similarity, such as 0.8).",
)

app = typer.Typer(help="Prepare training text.", no_args_is_help=True)


@app.command("load")
def load(
    input_: Path = typer.Option(..., "--input", "-i", help="Folder of documents, or one file."),
    output: Path = typer.Option(..., "--output", "-o", help="Corpus to write: .txt, .jsonl or .parquet."),
    clean: bool = typer.Option(True, "--clean/--no-clean", help="Apply the cleaning rules."),
    deduplicate: bool = typer.Option(True, "--deduplicate/--keep-duplicates", help="Drop repeated documents."),
    text_column: str = typer.Option(
        None, "--text-column", help="Column of CSV and JSON Lines files that has the text."
    ),
    preset: str = typer.Option(
        None, "--filter", help="Drop documents of poor quality by a preset: books, code, notes, web."
    ),
    languages: list[str] = typer.Option(
        None, "--language", help="Keep documents in this language only (ISO 639 code, such as en); may be repeated."
    ),
    redact: bool = typer.Option(False, "--redact", help="Replace e-mail addresses, card numbers, keys and the like."),
    near_duplicates: float = NearDuplicates,
    overwrite: bool = Overwrite,
    as_json: bool = Json,
) -> None:
    """Read documents and write a clean corpus with a manifest.

    An earlier corpus of that name is kept under a numbered name unless --overwrite is given.
    """
    from llmbuilder.data import DataLoader, DocumentFilter, write_corpus
    from llmbuilder.data.redaction import KINDS

    loader = DataLoader(
        clean,
        deduplicate,
        text_column=text_column,
        document_filter=DocumentFilter(preset or "none", languages=languages) if preset or languages else None,
        redact_kinds=KINDS if redact else (),
        near_duplicates=_settings(near_duplicates),
    )
    manifest = write_corpus(loader.iter_directory(input_), output, loader.report, overwrite=overwrite)
    _report(manifest, output, as_json)


@app.command("deduplicate")
def deduplicate(
    input_: Path = typer.Argument(..., metavar="INPUT", help="Corpus: .txt, .jsonl or .parquet."),
    output: Path = typer.Argument(..., metavar="OUTPUT", help="Corpus to write."),
    near_duplicates: float = NearDuplicates,
    overwrite: bool = Overwrite,
    as_json: bool = Json,
) -> None:
    """Drop repeated documents from a corpus."""
    from llmbuilder.data import DataLoader, write_corpus
    from llmbuilder.data.corpus_files import iter_documents

    loader = DataLoader(clean_text=False, near_duplicates=_settings(near_duplicates))
    manifest = write_corpus(loader.process(iter_documents(input_)), output, loader.report, overwrite=overwrite)
    _report(manifest, output, as_json)


def _settings(threshold: float | None) -> NearDuplicateSettings | None:
    from llmbuilder.data import NearDuplicateSettings

    return NearDuplicateSettings(threshold) if threshold is not None else None


def _report(manifest: dict[str, object], output: Path, as_json: bool) -> None:
    if as_json:
        print_json(manifest)
        return
    report = manifest["report"]
    assert isinstance(report, dict)
    skipped, filtered, duplicates = (len(report[name]) for name in ("skipped", "filtered", "duplicates"))
    dropped = f", {filtered} filtered out" if filtered else ""
    say(f"{report['files']} files read, {skipped} skipped{dropped}, {duplicates} duplicates removed")
    if report["redacted"]:
        say("replaced " + ", ".join(f"{count} {kind}" for kind, count in sorted(report["redacted"].items())))
    typer.echo(f"{output}: {manifest['documents']:,} documents, {manifest['characters']:,} characters")


@app.command("inspect")
def inspect(
    corpus: Path = typer.Argument(..., metavar="CORPUS", help="Corpus: .txt, .jsonl or .parquet."),
    tokenizer: Path = typer.Option(None, "--tokenizer", help="Also count tokens."),
    as_json: bool = Json,
) -> None:
    """Count a corpus's documents, characters, lines and words."""
    from llmbuilder.data.corpus_files import iter_pieces
    from llmbuilder.tokenizer import Tokenizer

    loaded = Tokenizer.from_pretrained(tokenizer) if tokenizer else None
    counts = {"documents": 0, "characters": 0, "bytes": 0, "lines": 0, "words": 0}
    tokens = 0
    for text, ends in iter_pieces(corpus):
        counts["documents"] += ends
        counts["characters"] += len(text)
        counts["bytes"] += len(text.encode("utf-8"))
        counts["lines"] += text.count("\n") + ends
        counts["words"] += len(text.split())
        tokens += len(loaded.encode(text)) if loaded else 0
    if loaded:
        counts["tokens"] = tokens
    if as_json:
        print_json(counts)
    else:
        print_pairs({name: f"{value:,}" for name, value in counts.items()})
