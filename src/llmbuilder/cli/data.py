"""`llmbuilder data`: documents to a corpus."""

from __future__ import annotations

from pathlib import Path

import typer

from llmbuilder.cli.output import Json, Overwrite, print_json, print_pairs, say

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
    overwrite: bool = Overwrite,
    as_json: bool = Json,
) -> None:
    """Read documents and write a clean corpus with a manifest.

    An earlier corpus of that name is kept under a numbered name unless --overwrite is given.
    """
    from llmbuilder.data import DataLoader, write_corpus

    loader = DataLoader(clean, deduplicate, text_column=text_column)
    manifest = write_corpus(loader.iter_directory(input_), output, loader.report, overwrite=overwrite)
    _report(manifest, output, as_json)


@app.command("deduplicate")
def deduplicate(
    input_: Path = typer.Argument(..., metavar="INPUT", help="Corpus: .txt, .jsonl or .parquet."),
    output: Path = typer.Argument(..., metavar="OUTPUT", help="Corpus to write."),
    overwrite: bool = Overwrite,
    as_json: bool = Json,
) -> None:
    """Drop repeated documents from a corpus."""
    from llmbuilder.data import DataLoader, write_corpus
    from llmbuilder.data.corpus_files import iter_documents

    loader = DataLoader(clean_text=False)
    manifest = write_corpus(loader.process(iter_documents(input_)), output, loader.report, overwrite=overwrite)
    _report(manifest, output, as_json)


def _report(manifest: dict[str, object], output: Path, as_json: bool) -> None:
    if as_json:
        print_json(manifest)
        return
    report = manifest["report"]
    assert isinstance(report, dict)
    skipped, duplicates = len(report["skipped"]), len(report["duplicates"])
    say(f"{report['files']} files read, {skipped} skipped, {duplicates} duplicates removed")
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
