"""`llmbuilder model`: evaluate and describe models."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from llmbuilder.cli.output import Json, Overwrite, Quiet, print_json, print_pairs, print_table
from llmbuilder.cli.stages import StageProgress

_PATIENCE = 3.0  # seconds before progress is shown

app = typer.Typer(help="Evaluate and describe models.", no_args_is_help=True)


@app.command("evaluate")
def evaluate(
    model: str = typer.Argument(
        ..., metavar="MODEL", help="Model file, GGUF file, run directory or Hugging Face folder."
    ),
    data: list[Path] = typer.Option(
        None, "--data", help="Text to predict: .txt, .jsonl, .parquet, or a folder of documents. May be repeated."
    ),
    tasks: str = typer.Option(
        None, "--tasks", help="Tasks of lm-eval to run, with commas between: names that it knows, or .yaml files."
    ),
    num_fewshot: int = typer.Option(None, "--num-fewshot", min=0, help="Examples before a question of a task."),
    limit: int = typer.Option(None, "--limit", min=1, help="Questions of each task. Default: all."),
    adapter: Path = typer.Option(None, "--adapter", help="Folder with adapters to lay beside the model's matrices."),
    tokenizer: str = typer.Option(None, "--tokenizer", help="Tokenizer folder. Default: the model's own."),
    window: int = typer.Option(None, "--window", min=1, help="Tokens of a window. Default: the model's context."),
    stride: int = typer.Option(None, "--stride", min=1, help="Tokens between windows. Default: half a window."),
    apart: bool = typer.Option(
        False, "--apart", help="Each document is predicted by itself, not from those before it."
    ),
    batch_size: int = typer.Option(8, "--batch-size", min=1, help="Windows, or questions, at a time."),
    device: str = typer.Option(None, "--device", help="auto, cpu, cuda, mps."),
    allow_code: bool = typer.Option(False, "--allow-code", help="Let the file of a task name Python code to run."),
    quiet: bool = Quiet,
    as_json: bool = Json,
) -> None:
    """Measure loss, perplexity and bits per byte on texts, or what a model reaches in tasks."""
    from llmbuilder.building.checks import require_documents, require_model_and_tokenizer
    from llmbuilder.errors import ConfigError
    from llmbuilder.evaluation.tasks import evaluate_tasks, require_tasks
    from llmbuilder.formats.model_places import require_adapter
    from llmbuilder.machine import require_device

    data = data or []
    named = [task.strip() for task in (tasks or "").split(",") if task.strip()]
    if not data and not named:
        raise ConfigError("name what to measure the model on: --data, a text or a folder of documents, or --tasks")
    of_tasks = {"--num-fewshot": num_fewshot, "--limit": limit, "--allow-code": allow_code or None}
    idle = [name for name, value in of_tasks.items() if value is not None and not named]
    if idle:
        raise ConfigError(f"{idle[0]} is for --tasks, which was not given")
    of_texts = {"--window": window, "--stride": stride, "--apart": apart or None}
    idle = [name for name, value in of_texts.items() if value is not None and not data]
    if idle:
        raise ConfigError(f"{idle[0]} is for --data, which was not given")
    require_model_and_tokenizer(model, tokenizer)
    if adapter is not None:
        require_adapter(adapter)
    for text in data:
        require_documents(text)
    if device is not None:
        require_device(device, "--device")
    if named:
        require_tasks(named, allow_code=allow_code)
    from llmbuilder.evaluation import evaluate_model
    from llmbuilder.finetuning import load_adapted
    from llmbuilder.inference.generation import load_generator

    opened = load_generator(model if adapter is None else load_adapted(model, adapter, device), tokenizer, device)
    with StageProgress(plain=False, quiet=quiet, patience=_PATIENCE) as progress:
        texts = [
            {"data": str(text), **asdict(evaluate_model(
                opened.model, text, opened.tokenizer,
                window=window, stride=stride, apart=apart, batch_size=batch_size, progress=progress))} for text in data
        ]  # fmt: skip
    scores = []
    if named:
        found = evaluate_tasks(
            opened.model, named, opened.tokenizer,
            num_fewshot=num_fewshot, limit=limit, batch_size=batch_size, allow_code=allow_code,
        )  # fmt: skip
        scores = [asdict(score) for score in found]
    if as_json:
        alone = texts[0] if len(texts) == 1 else {"texts": texts} if texts else {}
        print_json({**alone, **({"tasks": scores} if named else {})})
        return
    _print_texts(texts)
    if scores:
        print_table(["task", "metric", "score", "questions"], [
            [row["task"], row["metric"], _with_interval(row["value"], row["interval"]), f"{row['samples']:,}"]
            for row in scores
        ])  # fmt: skip


def _print_texts(texts: list[dict[str, Any]]) -> None:
    """Print one text's numbers below each other, and those of several side by side."""
    cells = {
        "loss": lambda row: f"{row['loss']:.4f} nats per token{_interval(row['loss_interval'], '.4f')}",
        "perplexity": lambda row: f"{row['perplexity']:,.2f}{_interval(row['perplexity_interval'], ',.2f')}",
        "bits per byte": lambda row: f"{row['bits_per_byte']:.4f}{_interval(row['bits_per_byte_interval'], '.4f')}",
        "tokens": lambda row: f"{row['tokens']:,}",
    }
    if len(texts) == 1:
        print_pairs({name: cell(texts[0]) for name, cell in cells.items()})
    elif texts:
        print_table(["", *(row["data"] for row in texts)], [[name, *map(cell, texts)] for name, cell in cells.items()])


def _with_interval(value: float, interval: tuple[float, float] | None) -> str:
    return f"{value:.4f}{_interval(interval, '.4f')}"


def _interval(found: tuple[float, float] | None, form: str) -> str:
    return "" if found is None else f" ({found[0]:{form}} to {found[1]:{form}})"


@app.command("compare")
def compare(
    models: list[str] = typer.Argument(
        ..., metavar="MODEL MODEL...", help="Model files, GGUF files, run directories or Hugging Face folders."
    ),
    data: list[Path] = typer.Option(..., "--data", help="Text to predict, or a folder of documents. May be repeated."),
    window: int = typer.Option(None, "--window", min=1, help="Tokens of a window. Default: the model's context."),
    stride: int = typer.Option(None, "--stride", min=1, help="Tokens between windows. Default: half a window."),
    apart: bool = typer.Option(
        False, "--apart", help="Each document is predicted by itself, not from those before it."
    ),
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

    with StageProgress(plain=False, quiet=quiet, patience=_PATIENCE) as progress:
        found = compare_models(
            models,
            data,
            window=window,
            stride=stride,
            apart=apart,
            batch_size=batch_size,
            device=device,
            progress=progress,
        )
    if as_json:
        print_json([asdict(row) for row in found])
        return
    rows = []
    for row in found:
        cells = [f"{row.evaluations[0].bits_per_byte:.4f}"]
        pairs = zip(row.evaluations[1:], row.changes[1:], row.change_intervals[1:], strict=True)
        cells += [f"{one.bits_per_byte:.4f} ({_change(change, interval)})" for one, change, interval in pairs]
        rows.append([row.data, *cells])
    print_table(["bits per byte", *models], rows)


def _change(change: float, interval: tuple[float, float] | None) -> str:
    return f"{change:+.1%}" + ("" if interval is None else f", {interval[0]:+.1%} to {interval[1]:+.1%}")


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
