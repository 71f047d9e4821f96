"""`llmbuilder model`: evaluate and describe models."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import typer

from llmbuilder.cli.output import Json, Overwrite, Quiet, print_json, print_pairs, print_table

app = typer.Typer(help="Evaluate and describe models.", no_args_is_help=True)


@app.command("evaluate")
def evaluate(
    model: str = typer.Argument(
        ..., metavar="MODEL", help="Model file, GGUF file, run directory or Hugging Face folder."
    ),
    data: Path = typer.Option(..., "--data", help="Text to predict: .txt, .jsonl, .parquet, or a folder of documents."),
    adapter: Path = typer.Option(None, "--adapter", help="Folder with adapters to lay beside the model's matrices."),
    tokenizer: str = typer.Option(None, "--tokenizer", help="Tokenizer folder. Default: the model's own."),
    stride: int = typer.Option(None, "--stride", min=1, help="Tokens between windows. Default: half the context."),
    batch_size: int = typer.Option(8, "--batch-size", min=1, help="Windows at a time."),
    device: str = typer.Option(None, "--device", help="auto, cpu, cuda, mps."),
    quiet: bool = Quiet,
    as_json: bool = Json,
) -> None:
    """Measure loss, perplexity and bits per byte on a text."""
    from llmbuilder.building.checks import require_documents, require_model_and_tokenizer
    from llmbuilder.formats.model_places import require_adapter
    from llmbuilder.machine import require_device

    require_model_and_tokenizer(model, tokenizer)
    if adapter is not None:
        require_adapter(adapter)
    require_documents(data)
    if device is not None:
        require_device(device, "--device")
    from llmbuilder.evaluation import evaluate_model
    from llmbuilder.finetuning import load_adapted

    opened = model if adapter is None else load_adapted(model, adapter, device)
    found = evaluate_model(opened, data, tokenizer, stride=stride, batch_size=batch_size, device=device)
    if as_json:
        print_json(found)
        return
    print_pairs(
        {
            "loss": f"{found.loss:.4f} nats per token",
            "perplexity": f"{found.perplexity:,.2f}",
            "bits per byte": f"{found.bits_per_byte:.4f}",
            "tokens": f"{found.tokens:,}",
        }
    )


@app.command("compare")
def compare(
    models: list[str] = typer.Argument(
        ..., metavar="MODEL MODEL...", help="Model files, GGUF files, run directories or Hugging Face folders."
    ),
    data: list[Path] = typer.Option(..., "--data", help="Text to predict, or a folder of documents. May be repeated."),
    stride: int = typer.Option(None, "--stride", min=1, help="Tokens between windows. Default: half the context."),
    batch_size: int = typer.Option(8, "--batch-size", min=1, help="Windows at a time."),
    device: str = typer.Option(None, "--device", help="auto, cpu, cuda, mps."),
    quiet: bool = Quiet,
    as_json: bool = Json,
) -> None:
    """Measure several models on the same texts, in bits per byte, beside the first one."""
    from llmbuilder.building.checks import require_documents
    from llmbuilder.errors import ConfigError
    from llmbuilder.formats.model_places import require_model
    from llmbuilder.machine import require_device

    for model in models:
        require_model(model)
    for text in data:
        require_documents(text)
    if device is not None:
        require_device(device, "--device")
    if len(models) < 2:
        raise ConfigError("name two models or more to compare")
    from llmbuilder.evaluation import compare_models

    found = compare_models(models, data, stride=stride, batch_size=batch_size, device=device)
    if as_json:
        print_json([asdict(row) for row in found])
        return
    rows = []
    for row in found:
        cells = [f"{row.evaluations[0].bits_per_byte:.4f}"]
        pairs = zip(row.evaluations[1:], row.changes[1:], strict=True)
        cells += [f"{one.bits_per_byte:.4f} ({change:+.1%})" for one, change in pairs]
        rows.append([row.data, *cells])
    print_table(["bits per byte", *models], rows)


@app.command("merge")
def merge(
    base: str = typer.Argument(..., metavar="MODEL", help="Model that the adapters belong to."),
    adapter: Path = typer.Argument(..., metavar="ADAPTER", help="Folder with adapters: RUN/adapter, or peft's."),
    output: Path = typer.Argument(
        ..., metavar="OUTPUT", help="Model to write: .pt, .safetensors, or a Hugging Face folder."
    ),
    overwrite: bool = Overwrite,
    quiet: bool = Quiet,
    as_json: bool = Json,
) -> None:
    """Work adapters into the matrices that they lie beside, and check that the one model does what both did."""
    from llmbuilder.building.checks import check_output
    from llmbuilder.errors import CheckpointError
    from llmbuilder.formats.model_places import require_adapter, require_model

    require_model(base)
    require_adapter(adapter)
    check_output(output, [base, adapter], overwrite=overwrite, error=CheckpointError)
    from llmbuilder.finetuning.merging import merge_adapter_files

    found = merge_adapter_files(base, adapter, output, overwrite=overwrite)
    if as_json:
        print_json(found)
        return
    typer.echo(
        f"{output}: {found.layers} matrices merged; logits differ by at most {found.max_difference:.1e} from those "
        "with the adapters beside them"
    )


@app.command("info")
def info(
    model: str = typer.Argument(
        ..., metavar="MODEL", help="Model file, GGUF file, run directory or Hugging Face folder."
    ),
    quiet: bool = Quiet,
    as_json: bool = Json,
) -> None:
    """Describe a model: shape, size, tokenizer, how it was trained."""
    from llmbuilder.formats.model_places import require_model

    require_model(model)
    from llmbuilder.formats.model_file import load_model

    loaded = load_model(model, "cpu")
    tokenizer = loaded.tokenizer
    facts = {
        "path": str(model),
        "parameters": loaded.num_parameters(),
        "config": loaded.config.model_dump(mode="json"),
        "flops_per_token": loaded.flops_per_token(),
        "inference_memory_bytes": loaded.memory_bytes(),
        "tokenizer": repr(tokenizer) if tokenizer else None,
        "metadata": loaded.metadata,
    }
    if as_json:
        print_json(facts)
        return
    shape = {name: value for name, value in loaded.config.model_dump().items() if value is not None}
    training = {
        name: f"{len(value):,} characters" if isinstance(value, str) and "\n" in value else value
        for name, value in loaded.metadata.items()
        if not isinstance(value, dict)
    }
    print_pairs(
        {
            "model": model,
            "parameters": f"{loaded.num_parameters():,}",
            **shape,
            "training FLOPs per token": f"{loaded.flops_per_token():,}",
            "inference memory": f"{loaded.memory_bytes() / 2**20:,.1f} MiB",
            "tokenizer": tokenizer or "none in the file",
            **training,
        }
    )
