"""`llmbuilder tokenizer`: train and look at tokenizers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from llmbuilder.cli.output import Json, Overwrite, Quiet, print_json, print_pairs, print_table

if TYPE_CHECKING:
    from llmbuilder.data import TextDataset
    from llmbuilder.tokenizer import Tokenizer

app = typer.Typer(help="Train and inspect tokenizers.", no_args_is_help=True)


@app.command("train")
def train(
    input_: Path = typer.Option(..., "--input", "-i", help="Corpus or folder of documents."),
    output: Path = typer.Option(..., "--output", "-o", help="Folder to write."),
    algorithm: str = typer.Option("bpe", "--algorithm", help="bpe, unigram, wordpiece or char."),
    vocab_size: str = typer.Option("16000", "--vocab-size", help="Tokens to learn at most, or auto: for the corpus."),
    min_frequency: int = typer.Option(2, "--min-frequency", help="Occurrences a pair needs."),
    pretokenizer: str = typer.Option(
        "gpt2", "--pretokenizer", help="How bpe cuts words: gpt2 (runs of digits), llama3 (up to three), qwen2 (one)."
    ),
    special_tokens: list[str] = typer.Option(
        None, "--special-token", help="Reserve a token, such as '<|im_start|>'; may be repeated."
    ),
    overwrite: bool = Overwrite,
    quiet: bool = Quiet,
    as_json: bool = Json,
) -> None:
    """Learn a tokenizer from text."""
    from llmbuilder.building.checks import check_output, require_documents
    from llmbuilder.config.loading import build_config
    from llmbuilder.config.validation import require_in_range
    from llmbuilder.errors import TokenizerError

    require_documents(input_)
    if output.is_file():
        raise TokenizerError(f"{output} is a file: name a folder to write")
    check_output(output, [input_], overwrite=overwrite, error=TokenizerError)
    asked: dict[str, object] = {
        "algorithm": algorithm, "min_frequency": min_frequency, "pretokenizer": pretokenizer,
        "vocab_size": None if vocab_size == "auto" else _number(vocab_size),
    }  # fmt: skip
    options = {f"tokenizer.{name}": f"--{name.replace('_', '-')} {value}" for name, value in asked.items()}
    require_in_range(build_config({"tokenizer": asked}, "the options", options))
    from llmbuilder.data import TextDataset

    dataset = TextDataset(input_, block_size=1)
    learned = dataset.learn_tokenizer(
        vocab_size=_size(vocab_size, dataset),
        algorithm=algorithm,
        min_frequency=min_frequency,
        pretokenizer=pretokenizer,
        special_tokens=special_tokens or [],
    )
    learned.save_pretrained(output)
    facts = {"path": str(output), "algorithm": learned.algorithm, "tokens": len(learned),
             "gguf": learned.has_gguf_form, "fingerprint": learned.fingerprint}  # fmt: skip
    print_json(facts) if as_json else print_pairs(facts)


def _size(wanted: str, dataset: TextDataset) -> int:
    from llmbuilder.tokenizer import choose_vocab_size

    return choose_vocab_size(dataset.count_characters()) if wanted == "auto" else _number(wanted)


def _number(wanted: str) -> int:
    try:
        return int(wanted)
    except ValueError:
        raise typer.BadParameter(f"{wanted!r} is neither a number nor auto", param_hint="--vocab-size") from None


@app.command("inspect")
def inspect(
    tokenizers: list[str] = typer.Argument(..., metavar="TOKENIZER...", help="Tokenizer folders."),
    text: str = typer.Option(None, "--text", help="Text to tokenize."),
    file: Path = typer.Option(None, "--file", help="Text file to tokenize."),
    corpus: Path = typer.Option(
        None, "--corpus", help="Corpus to compare on: by language and format where it was prepared with `data prepare`."
    ),
    quiet: bool = Quiet,
    as_json: bool = Json,
) -> None:
    """Show a tokenizer's facts and how it splits a text, or compare several on a text or a corpus."""
    from llmbuilder.building.checks import require_documents
    from llmbuilder.errors import TokenizerError
    from llmbuilder.files import require_file
    from llmbuilder.tokenizer.places import require_tokenizer

    for name in tokenizers:
        require_tokenizer(name)
    if sum(given is not None for given in (text, file, corpus)) > 1:
        raise TokenizerError("--text, --file and --corpus each name what to tokenize: leave out all but one")
    if file is not None:
        require_file(file, "a text file to tokenize", error=TokenizerError)
    if corpus is not None:
        require_documents(corpus)
    from llmbuilder.documents.text import read_text
    from llmbuilder.tokenizer import Tokenizer

    loaded = [Tokenizer.from_pretrained(name) for name in tokenizers]
    sample = text if text is not None else read_text(file) if file else None
    if len(loaded) > 1 or corpus is not None:
        _compare(dict(zip(tokenizers, loaded, strict=True)), sample, corpus, as_json)
        return
    facts = _facts(loaded[0], sample)
    if as_json:
        print_json(facts)
        return
    pieces = facts.pop("pieces", None)
    print_pairs(facts)
    if isinstance(pieces, list):
        typer.echo("|".join(piece.replace("\n", "\\n") for piece in pieces))


def _facts(tokenizer: Tokenizer, sample: str | None) -> dict[str, object]:
    facts: dict[str, object] = {
        "algorithm": tokenizer.algorithm, "tokens": len(tokenizer), "end_of_text": tokenizer.end_of_text,
        "gguf": tokenizer.has_gguf_form, "fingerprint": tokenizer.fingerprint,
    }  # fmt: skip
    if sample:
        ids = tokenizer.encode(sample)
        facts |= {
            "text_tokens": len(ids),
            "bytes_per_token": round(len(sample.encode("utf-8")) / max(1, len(ids)), 3),
            "round_trip": tokenizer.decode(ids) == sample,
            "pieces": [tokenizer.decode([token]) for token in ids[:200]],
        }
    return facts


def _compare(tokenizers: dict[str, Tokenizer], sample: str | None, corpus: Path | None, as_json: bool) -> None:
    from llmbuilder.corpus.corpus_files import iter_grouped_texts
    from llmbuilder.errors import TokenizerError
    from llmbuilder.tokenizer import compare_tokenizers

    if sample is None and corpus is None:
        raise TokenizerError("name what to compare the tokenizers on: --text, --file or --corpus")
    texts = [("all", sample)] if sample is not None else iter_grouped_texts(corpus) if corpus is not None else []
    found = compare_tokenizers(list(tokenizers.values()), texts)
    if as_json:
        fits = {
            group: dict(zip(tokenizers, (fit.to_dict() for fit in row), strict=True)) for group, row in found.items()
        }
        print_json(fits)
        return
    rows = [
        (group, name, f"{len(tokenizers[name]):,}", *(f"{value:,}" for value in fit.to_dict().values()))
        for group, fits in sorted(found.items(), key=lambda item: (item[0] != "all", item[0]))
        for name, fit in zip(tokenizers, fits, strict=True)
    ]
    titles = ("group", "tokenizer", "vocabulary", "texts", "bytes", "tokens", "bytes/token", "fertility", "unknown")
    print_table((*titles, "round trip"), rows)
