"""`llmbuilder import`: models that others made, as model files of this package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from llmbuilder.cli.output import Json, Overwrite, Quiet, print_json

if TYPE_CHECKING:
    from llmbuilder.formats.nanogpt.source import ArchitectureFacts

app = typer.Typer(help="Import models from nanoGPT, Hugging Face and llama.cpp.", no_args_is_help=True)


_SOURCE = typer.Argument(..., metavar="SOURCE", help="The checkpoint file or folder.")
_OUTPUT = typer.Argument(..., metavar="OUTPUT", help="Model file to write, such as model.pt.")
_TOKENIZER = typer.Option(None, "--tokenizer", help="Tokenizer to store with the model.")


@app.command("nanogpt")
def import_nanogpt(
    source: Path = _SOURCE,
    output: Path = _OUTPUT,
    tokenizer: str = _TOKENIZER,
    activation: str = typer.Option(
        None, "--activation", help="What its MLP computes, where the file does not tell: gelu, or gelu_tanh."
    ),
    model_source: list[Path] = typer.Option(
        None, "--source", help="The project's model.py, read (never run) for what weights do not show; repeatable."
    ),
    overwrite: bool = Overwrite,
    quiet: bool = Quiet,
    as_json: bool = Json,
) -> None:
    """Convert a checkpoint of nanoGPT, its relatives and forks, or of the older scripts."""
    from llmbuilder.building.checks import require_model_and_tokenizer
    from llmbuilder.errors import CheckpointError
    from llmbuilder.files import require_file

    require_model_and_tokenizer(source, tokenizer)
    if activation not in (None, "gelu", "gelu_tanh"):
        raise CheckpointError(f"--activation {activation!r} is none that models have: gelu, or gelu_tanh")
    for file in model_source or []:
        if not file.is_dir():
            require_file(file, "the project's model.py", error=CheckpointError)
    from llmbuilder.formats.nanogpt.source import read_architecture

    facts = read_architecture(model_source) if model_source else None
    _convert(source, output, tokenizer, overwrite, as_json, activation=activation, source_facts=facts)


@app.command("hf")
def import_huggingface(
    source: str = _SOURCE,
    output: Path = _OUTPUT,
    tokenizer: str = _TOKENIZER,
    overwrite: bool = Overwrite,
    quiet: bool = Quiet,
    as_json: bool = Json,
) -> None:
    """Convert a Hugging Face folder, or a model of its hub: GPT-2, Llama, Mistral, SmolLM, Qwen2 or Qwen3."""
    _convert(source, output, tokenizer, overwrite, as_json)


@app.command("gguf")
def import_gguf(
    source: str = _SOURCE,
    output: Path = _OUTPUT,
    tokenizer: str = _TOKENIZER,
    overwrite: bool = Overwrite,
    quiet: bool = Quiet,
    as_json: bool = Json,
) -> None:
    """Convert a GGUF file: Llama, Mistral, SmolLM, Qwen2, Qwen3 or GPT-2; quantized weights become float32."""
    _convert(source, output, tokenizer, overwrite, as_json, is_to_be_gguf=True)


def _convert(
    source: str | Path,
    output: Path,
    tokenizer: str | None,
    overwrite: bool,
    as_json: bool,
    activation: str | None = None,
    source_facts: ArchitectureFacts | None = None,
    *,
    is_to_be_gguf: bool = False,
) -> None:
    from llmbuilder.building.checks import check_output, require_model_and_tokenizer
    from llmbuilder.errors import CheckpointError
    from llmbuilder.formats.model_places import is_gguf

    require_model_and_tokenizer(source, tokenizer)
    check_output(output, [source], overwrite=overwrite, error=CheckpointError)
    if is_to_be_gguf and not is_gguf(source):
        raise CheckpointError(f"{source} is no GGUF file: use `llmbuilder import hf` or `llmbuilder import nanogpt`")
    if output.suffix in (".gguf", ".bin"):
        raise CheckpointError(
            f"{output} is not what an import writes: name model.pt, model.safetensors or a folder; for llama.cpp, use "
            f"`llmbuilder export gguf {source} {output}`"
        )
    from llmbuilder.formats.model_file import load_model, save_model
    from llmbuilder.tokenizer import Tokenizer

    model = load_model(source, "cpu", source=source_facts, activation=activation)
    loaded = Tokenizer.from_pretrained(tokenizer) if tokenizer else None
    save_model(model, output, {"imported_from": str(source)}, tokenizer=loaded, overwrite=True)
    facts = {"path": str(output), "parameters": model.num_parameters(), "family": model.config.model_type}
    print_json(facts) if as_json else typer.echo(f"{output}: {model.num_parameters():,} parameters")
