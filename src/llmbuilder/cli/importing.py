"""`llmbuilder import`: models that others made, as model files of this package."""

from __future__ import annotations

from pathlib import Path

import typer

from llmbuilder.cli.output import Json, Overwrite, print_json

app = typer.Typer(help="Import models from nanoGPT and Hugging Face.", no_args_is_help=True)


def convert(
    source: Path = typer.Argument(..., metavar="SOURCE", help="The checkpoint file or folder."),
    output: Path = typer.Argument(..., metavar="OUTPUT", help="Model file to write, such as model.pt."),
    tokenizer: str = typer.Option(None, "--tokenizer", help="Tokenizer to store with the model."),
    overwrite: bool = Overwrite,
    as_json: bool = Json,
) -> None:
    """Open a model and save it as a model file of this package."""
    from llmbuilder.errors import CheckpointError
    from llmbuilder.files import require_absent
    from llmbuilder.formats.model_file import load_model, save_model
    from llmbuilder.tokenizer import Tokenizer

    require_absent(output, overwrite=overwrite, error=CheckpointError)
    model = load_model(source, "cpu")
    loaded = Tokenizer.from_pretrained(tokenizer) if tokenizer else None
    save_model(model, output, {"imported_from": str(source)}, tokenizer=loaded, overwrite=True)
    facts = {"path": str(output), "parameters": model.num_parameters(), "family": model.config.model_type}
    print_json(facts) if as_json else typer.echo(f"{output}: {model.num_parameters():,} parameters")


app.command("nanogpt", help="Convert nanoGPT's ckpt.pt, or a checkpoint of the older scripts.")(convert)
app.command("hf", help="Convert a Hugging Face folder: GPT-2, Llama or Qwen3.")(convert)
