"""`llmbuilder build`: from documents to a model, the whole way."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import typer

from llmbuilder.cli.output import AllowCode, Json, Overwrite, Plain, Quiet, Set, print_json, say


def build(
    documents: list[Path] = typer.Argument(
        None, metavar="[DOCS]...", help="Folders or files to read. Default: data.path, or Python's documentation."
    ),
    data: Path = typer.Option(None, "--data", help="A corpus that `data prepare` made, in place of documents."),
    output: Path = typer.Option(None, "--output", "-o", help="Run directory to write."),
    preset: str = typer.Option(None, "--preset", help="Use this preset instead of choosing a model."),
    config: Path = typer.Option(None, "--config", help="Use this configuration instead of choosing a model."),
    time_budget: str = typer.Option(
        None, "--time-budget", help="Time for the whole build, such as 3m. Default without preset or config: 2m30s."
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Print the plan and the loss to expect; train nothing."),
    plain: bool = Plain,
    quiet: bool = Quiet,
    quantization: str = typer.Option("f16", "--quantization", help="Type of the exported GGUF file."),
    set_: list[str] = Set,
    allow_code: bool = AllowCode,
    overwrite: bool = Overwrite,
    as_json: bool = Json,
) -> None:
    """Turn documents into a trained, evaluated, exported model."""
    from llmbuilder.building import build as build_model_from
    from llmbuilder.building import parse_duration
    from llmbuilder.config import load_config
    from llmbuilder.errors import ConfigError
    from llmbuilder.training.display.progress import TrainingProgress

    if data is not None:
        if documents:
            raise ConfigError("name documents or a corpus with --data, not both")
        documents = [data]
    if dry_run:
        _show_plan(documents, preset or config, time_budget, set_ or [], as_json)
        return
    loaded = load_config(config, preset=preset, overrides=set_ or [], allow_code=allow_code)
    folder = output or loaded.training.output_dir
    if folder is None:
        raise ConfigError("name a run directory with --output (or training.output_dir)")
    result = build_model_from(
        list(documents) if documents else None,
        folder,
        preset=preset,
        config=loaded if config is not None else None,
        time_budget=parse_duration(time_budget) if time_budget else None,
        overrides=set_ or [],
        quantization=quantization,
        overwrite=overwrite,
        announce=(lambda message: None) if quiet else say,
        callbacks=[] if quiet else [TrainingProgress(plain=plain)],
    )
    if as_json:
        print_json(result.to_dict())
    else:
        _show(result)
    if result.training.interrupted:
        raise typer.Exit(130)


def _show_plan(
    documents: list[Path] | None, chosen: object, time_budget: str | None, overrides: list[str], as_json: bool
) -> None:
    from llmbuilder.building import parse_duration, plan_build
    from llmbuilder.errors import ConfigError

    if chosen is not None:
        raise ConfigError("--dry-run shows the plan made without --preset and --config; with them there is none")
    seconds = {"time_budget": parse_duration(time_budget)} if time_budget else {}
    plan = plan_build(list(documents) if documents else None, overrides=overrides, announce=say, **seconds)
    if as_json:
        print_json({**asdict(plan), "config": plan.config.to_dict()})
    else:
        typer.echo(f"Plan: {plan.summary()}")


def _show(result: object) -> None:
    from llmbuilder.building import BuildResult
    from llmbuilder.notices import command
    from llmbuilder.training.display.progress import duration

    assert isinstance(result, BuildResult)
    for number, sample in enumerate(result.samples, start=1):
        typer.echo(f"\n--- sample {number} ---\n{sample}")
    typer.echo("")
    if result.verification is not None:
        typer.echo(f"llama.cpp opens {result.gguf_path}: {result.verification.summary()}")
    elif result.gguf_path is not None:
        typer.echo(f"exported {result.gguf_path} (not checked: pip install 'llmbuilder[verify]')")
    best = result.training.best_validation_loss
    if best is not None:
        bits = "" if result.bits_per_byte is None else f", {result.bits_per_byte:.3f} bits per byte"
        overlap = result.training.describe_overlap()
        of_it = f"perplexity {result.training.perplexity:,.1f}{bits}{f'; {overlap}' if overlap else ''}"
        typer.echo(f"validation loss {best:.3f} ({of_it})")
    typer.echo(f"built in {duration(result.seconds)}: {result.output} (start with {result.output}/summary.md)")
    typer.echo(f"try it: {command('generate', 'text', '--model', result.model_path, '--prompt', 'The')}")
