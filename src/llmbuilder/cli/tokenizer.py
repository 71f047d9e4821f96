"""`llmbuilder tokenizer`: train and look at tokenizers."""

from __future__ import annotations

from pathlib import Path

import typer

from llmbuilder.cli.output import Json, Overwrite, print_json, print_pairs

app = typer.Typer(help="Train and inspect tokenizers.", no_args_is_help=True)


@app.command("train")
def train(
    input_: Path = typer.Option(..., "--input", "-i", help="Corpus or folder of documents."),
    output: Path = typer.Option(..., "--output", "-o", help="Folder to write."),
    algorithm: str = typer.Option("bpe", "--algorithm", help="bpe, unigram, wordpiece or char."),
    vocab_size: int = typer.Option(16000, "--vocab-size", help="Tokens to learn at most."),
    min_frequency: int = typer.Option(2, "--min-frequency", help="Occurrences a pair needs."),
    overwrite: bool = Overwrite,
    as_json: bool = Json,
) -> None:
    """Learn a tokenizer from text."""
    from llmbuilder.data import TextDataset
    from llmbuilder.errors import TokenizerError
    from llmbuilder.files import require_absent

    require_absent(output, overwrite=overwrite, error=TokenizerError)
    learned = TextDataset(input_, block_size=1).learn_tokenizer(
        vocab_size=vocab_size, algorithm=algorithm, min_frequency=min_frequency
    )
    learned.save_pretrained(output)
    facts = {"path": str(output), "algorithm": learned.algorithm, "tokens": len(learned),
             "gguf": learned.has_gguf_form, "fingerprint": learned.fingerprint}  # fmt: skip
    print_json(facts) if as_json else print_pairs(facts)


@app.command("inspect")
def inspect(
    tokenizer: str = typer.Argument(..., metavar="TOKENIZER", help="Tokenizer folder."),
    text: str = typer.Option(None, "--text", help="Text to tokenize."),
    file: Path = typer.Option(None, "--file", help="Text file to tokenize."),
    as_json: bool = Json,
) -> None:
    """Show a tokenizer's facts, and how it splits a text."""
    from llmbuilder.data.extraction import read_text
    from llmbuilder.tokenizer import Tokenizer

    loaded = Tokenizer.from_pretrained(tokenizer)
    facts: dict[str, object] = {
        "algorithm": loaded.algorithm, "tokens": len(loaded), "end_of_text": loaded.end_of_text,
        "gguf": loaded.has_gguf_form, "fingerprint": loaded.fingerprint,
    }  # fmt: skip
    sample = text if text is not None else read_text(file) if file else None
    if sample:
        ids = loaded.encode(sample)
        facts |= {
            "text_tokens": len(ids),
            "bytes_per_token": round(len(sample.encode("utf-8")) / max(1, len(ids)), 3),
            "round_trip": loaded.decode(ids) == sample,
            "pieces": [loaded.decode([token]) for token in ids[:200]],
        }
    if as_json:
        print_json(facts)
        return
    pieces = facts.pop("pieces", None)
    print_pairs(facts)
    if isinstance(pieces, list):
        typer.echo("|".join(piece.replace("\n", "\\n") for piece in pieces))
