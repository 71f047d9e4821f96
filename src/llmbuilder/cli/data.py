"""`llmbuilder data`: documents to a corpus."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from llmbuilder.cli.output import (
    AllowCode,
    Json,
    Overwrite,
    Plain,
    Quiet,
    Set,
    print_json,
    print_pairs,
    replaced_by,
    say,
)
from llmbuilder.cli.stages import StageProgress
from llmbuilder.notices import counted
from llmbuilder.stages import DROPPED_AT, left_out_in_words

if TYPE_CHECKING:
    from llmbuilder.config import Config
    from llmbuilder.data import NearDuplicateSettings

NearDuplicates = typer.Option(
    None,
    "--near-duplicates",
    metavar="THRESHOLD",
    min=0.1,
    max=1,
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
        None, "--text-column", help="Column of CSV, JSON and JSON Lines files that has the text."
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
    plain: bool = Plain,
    quiet: bool = Quiet,
    as_json: bool = Json,
) -> None:
    """Read documents and write a clean corpus with a manifest.

    An earlier corpus of that name is kept under a numbered name unless --overwrite is given.
    """
    from llmbuilder.building.checks import require_documents

    require_documents(input_)
    _check_corpus(output, input_)
    from llmbuilder.corpus.corpus_files import is_earlier_output
    from llmbuilder.data import DataLoader, DocumentFilter, write_corpus
    from llmbuilder.refining.redaction import KINDS

    with StageProgress(plain=plain, quiet=quiet) as progress:
        loader = DataLoader(
            clean,
            deduplicate,
            text_column=text_column,
            document_filter=DocumentFilter(preset or "none", languages=languages or ())
            if preset or languages
            else None,
            redact_kinds=KINDS if redact else (),
            near_duplicates=_settings(near_duplicates),
            progress=progress,
        )
        documents = loader.iter_directory(input_, is_earlier_output(output))
        manifest = write_corpus(documents, output, loader.report, overwrite=overwrite)
    _report(manifest, output, as_json)


@app.command("prepare")
def prepare(
    inputs: list[str] = typer.Argument(
        ..., metavar="INPUT...", help="Folders, files, globs, archives, s3:// or hf:// addresses."
    ),
    output: Path = typer.Option(..., "--output", "-o", help="Folder for the corpus."),
    preset: str = typer.Option(None, "--filter", help="Drop documents of poor quality by a preset: data.filter."),
    languages: list[str] = typer.Option(None, "--language", help="Keep this language only; may be repeated."),
    redact: bool = typer.Option(False, "--redact", help="Replace e-mail addresses, card numbers, keys and the like."),
    near_duplicates: float = typer.Option(
        None,
        "--near-duplicates",
        metavar="THRESHOLD",
        min=0.1,
        max=1,
        help="Similarity of near-duplicates (0.8).",
    ),
    tokenizer: str = typer.Option(None, "--tokenizer", help="Tokenize with this one. Default: train one."),
    engine: str = typer.Option("local", "--engine", help="local, or ray: a Ray cluster."),
    ray_address: str = typer.Option(None, "--ray-address", help="Address of the Ray cluster."),
    workers: int = typer.Option(
        None, "--workers", min=1, help="Units to work on at a time. Default: one for each CPU."
    ),
    config: Path = typer.Option(None, "--config", help="Configuration; the stages' settings are in its data section."),
    set_: list[str] = Set,
    allow_code: bool = AllowCode,
    audit: int = typer.Option(
        0, "--audit", min=0, metavar="N", help="Read N files again in an independent way, and compare."
    ),
    overwrite: bool = Overwrite,
    plain: bool = Plain,
    quiet: bool = Quiet,
    as_json: bool = Json,
) -> None:
    """Turn any documents into a corpus: extract, clean, filter, deduplicate, split, tokenize.

    A corpus prepared from the same inputs is brought up to date: only what is new or changed is read. A run that was
    stopped continues where it was.
    """
    from llmbuilder.config import load_config
    from llmbuilder.config.in_force import require_taken

    options = {
        "data.filter": ("--filter", preset),
        "data.near_duplicates": ("--near-duplicates", near_duplicates),
        "data.languages": ("--language", languages),
        "data.redact": ("--redact", ["all"] if redact else None),
        "tokenizer.path": ("--tokenizer", tokenizer),
    }
    replaced = replaced_by(options)
    given = [f"{name}={json.dumps(value)}" for name, (_, value) in options.items() if replaced[name]]
    typed = {name: f"{option} {value}" for name, (option, value) in options.items() if replaced[name]}
    settings = load_config(config, overrides=[*(set_ or []), *given], allow_code=allow_code, options=typed)
    require_taken("data prepare", set_ or [], settings, replaced=replaced)
    _check_prepared(inputs, output, settings, engine, ray_address)
    from llmbuilder.corpus import prepare_corpus
    from llmbuilder.report.fates import wiped_out
    from llmbuilder.tokens.overlap import describe_overlap

    with StageProgress(plain=plain, quiet=quiet) as progress:
        report = prepare_corpus(
            inputs,
            output,
            settings,
            engine=engine,
            workers=workers,
            ray_address=ray_address,
            overwrite=overwrite,
            audit=audit,
            progress=progress,
        )
    if as_json:
        print_json(report.to_dict())
        return
    dropped = {stage: sum(reasons.values()) for stage, reasons in report.description["dropped"].items()}
    left_out = ", ".join(left_out_in_words(stage, dropped[stage]) for stage in DROPPED_AT if stage in dropped)
    say(counted(report.description["counts"]["found"], "document") + " found" + (f"; {left_out}" if left_out else ""))
    _say_hidden(report.description["counts"]["hidden"])
    for fate in wiped_out(report.description["groups"]):
        say(f"warning: {fate.warning()}")
    if report.units_worked_on < report.units:
        say(f"{report.units - report.units_worked_on} of {report.units} units were there already")
    for kind, values in (report.audit or {"formats": {}})["formats"].items():
        kept, whole, added = (f"{values[name]:.2%}" for name in ("kept", "whole", "added"))
        say(f"read again, {values['files']} {kind}: {kept} of the letters kept, {whole} of the words, {added} added")
    overlap = (report.description["held_out"] or {}).get("overlap")
    tokens = f", {report.tokens:,} tokens" if report.tokens else ""
    if overlap is not None:
        say(describe_overlap(overlap).capitalize())
    characters = counted(report.description["counts"]["characters"], "character")
    typer.echo(f"{output}: {counted(report.documents, 'document')}, {characters}{tokens} ({output}/report.html)")


def _check_prepared(inputs: list[str], output: Path, settings: Config, engine: str, ray_address: str | None) -> None:
    from llmbuilder.building.checks import require_documents
    from llmbuilder.config.validation import require_in_range
    from llmbuilder.documents.sources import is_remote
    from llmbuilder.errors import ConfigError, DataError
    from llmbuilder.files import require_other, require_writable
    from llmbuilder.tokenizer.places import require_tokenizer

    if engine not in ("local", "ray"):
        raise ConfigError(f"--engine {engine!r} is none: local, or ray")
    if ray_address is not None and engine != "ray":
        raise ConfigError("--ray-address is for --engine ray: give both, or neither")
    require_in_range(settings)
    local = [name for name in inputs if not is_remote(name)]
    require_documents([name for name in local if not set(name) & set("*?[")])
    if output.is_file():
        raise DataError(f"{output} is a file: name a folder for the corpus")
    require_other(output, local)
    require_writable(output)
    if settings.tokenizer.path is not None:
        require_tokenizer(settings.tokenizer.path)


@app.command("deduplicate")
def deduplicate(
    input_: Path = typer.Argument(..., metavar="INPUT", help="Corpus: .txt, .jsonl or .parquet."),
    output: Path = typer.Argument(..., metavar="OUTPUT", help="Corpus to write."),
    near_duplicates: float = NearDuplicates,
    overwrite: bool = Overwrite,
    quiet: bool = Quiet,
    as_json: bool = Json,
) -> None:
    """Drop repeated documents from a corpus."""
    from llmbuilder.building.checks import require_documents

    require_documents(input_)
    _check_corpus(output, input_)
    from llmbuilder.corpus.corpus_files import iter_documents
    from llmbuilder.data import DataLoader, write_corpus

    loader = DataLoader(clean_text=False, near_duplicates=_settings(near_duplicates))
    manifest = write_corpus(loader.process(iter_documents(input_)), output, loader.report, overwrite=overwrite)
    _report(manifest, output, as_json)


def _check_corpus(output: Path, input_: Path) -> None:
    from llmbuilder.corpus.corpus_files import CORPUS_SUFFIXES
    from llmbuilder.errors import DataError
    from llmbuilder.files import require_other, require_writable

    require_other(output, [input_])
    if output.is_dir():
        raise DataError(f"{output} is a folder: name a file to write, such as {output / 'corpus.jsonl'}")
    if output.suffix not in CORPUS_SUFFIXES:
        raise DataError(f"cannot write a corpus as {output.name!r}: use one of {', '.join(CORPUS_SUFFIXES)}")
    require_writable(output)


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
    read, repeated = counted(report["files"], "file"), counted(duplicates, "duplicate")
    say(f"{read} read, {skipped:,} skipped{dropped}, {repeated} removed")
    _say_hidden(report["hidden"])
    if report["redacted"]:
        say("replaced " + ", ".join(f"{count} {kind}" for kind, count in sorted(report["redacted"].items())))
    documents, characters = manifest["documents"], manifest["characters"]
    assert isinstance(documents, int)
    assert isinstance(characters, int)
    typer.echo(f"{output}: {counted(documents, 'document')}, {counted(characters, 'character')}")


def _say_hidden(count: int) -> None:
    if count:
        kinds = counted(count, "hidden file or folder", "hidden files and folders")
        say(f"passed over: {kinds} (names that begin with a point or ~$)")


@app.command("inspect")
def inspect(
    corpus: Path = typer.Argument(..., metavar="CORPUS", help="Corpus: .txt, .jsonl or .parquet."),
    tokenizer: str = typer.Option(None, "--tokenizer", help="Also count tokens."),
    quiet: bool = Quiet,
    as_json: bool = Json,
) -> None:
    """Count a corpus's documents, characters, lines and words."""
    from llmbuilder.building.checks import require_documents
    from llmbuilder.tokenizer.places import require_tokenizer

    require_documents(corpus)
    if tokenizer is not None:
        require_tokenizer(tokenizer)
    from llmbuilder.corpus.corpus_files import iter_pieces
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
