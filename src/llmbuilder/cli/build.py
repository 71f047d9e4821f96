"""`llmbuilder build`: from documents to a model, the whole way."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from llmbuilder.cli import STARTED
from llmbuilder.cli.completion import presets, quantizations
from llmbuilder.cli.output import AllowCode, Json, Overwrite, Plain, Quiet, Set, print_json, print_prose, say
from llmbuilder.cli.stages import StageProgress
from llmbuilder.notices import quoted

if TYPE_CHECKING:
    from llmbuilder.building import BuildResult

_SAMPLE_LINES = 6  # of each sample; all of it is in the summary


def build(
    documents: list[Path] = typer.Argument(
        None, metavar="[DOCS]...", help="Folders or files to read. Default: data.path, or Python's documentation."
    ),
    data: Path = typer.Option(None, "--data", help="A corpus that `data prepare` made, in place of documents."),
    output: Path = typer.Option(None, "--output", "-o", help="Run directory to write."),
    preset: str = typer.Option(
        None, "--preset", help="Use this preset instead of choosing a model.", autocompletion=presets
    ),
    config: Path = typer.Option(None, "--config", help="Use this configuration instead of choosing a model."),
    base: str = typer.Option(
        None,
        "--base",
        help="Adapt this model instead: file, run, Hugging Face folder or name, GGUF; auto: what suits best of "
        "nothing and the models in Hugging Face's cache.",
    ),
    method: str = typer.Option(
        None,
        "--method",
        help="How --base is adapted: auto (default), lora, dora, qlora (adapters) or full (all weights).",
    ),
    time_budget: str = typer.Option(
        None,
        "--time-budget",
        help="Time for the whole build, such as 3m. Default without preset or config: 1m50s, with a base 20m.",
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Print the plan and the loss to expect; train nothing."),
    plain: bool = Plain,
    quiet: bool = Quiet,
    quantization: str = typer.Option(
        "f16", "--quantization", help="Type of the exported GGUF file.", autocompletion=quantizations
    ),
    set_: list[str] = Set,
    allow_code: bool = AllowCode,
    overwrite: bool = Overwrite,
    as_json: bool = Json,
) -> None:
    """Turn documents into a trained, evaluated, exported model."""
    from llmbuilder.building.checks import check_build
    from llmbuilder.building.durations import parse_duration
    from llmbuilder.config import load_config
    from llmbuilder.errors import ConfigError
    from llmbuilder.formats.quantizations import require_quantization

    if data is not None:
        if documents:
            raise ConfigError("name documents or a corpus with --data, not both")
        documents = [data]
    require_quantization(quantization)
    if dry_run:
        with StageProgress(plain=plain, quiet=quiet) as progress:
            origin: dict[str, str | None] = {"base": base, "method": method}
            _show_plan(documents, output, preset or config, time_budget, set_ or [], progress, as_json, origin)
        return
    loaded = load_config(config, preset=preset, overrides=set_ or [], allow_code=allow_code)
    folder = output or loaded.training.output_dir
    if folder is None:
        raise ConfigError("name a run directory with --output (or training.output_dir)")
    seconds = parse_duration(time_budget) if time_budget is not None else None
    check_build(
        list(documents) if documents else None, folder, preset=preset, config=loaded if config is not None else None,
        time_budget=seconds, overrides=set_ or [], quantization=quantization, overwrite=overwrite, base=base,
        method=method,
    )  # fmt: skip
    from llmbuilder.building import build as build_model_from
    from llmbuilder.training.display.progress import TrainingProgress

    with StageProgress(plain=plain, quiet=quiet) as progress:
        result = build_model_from(
            list(documents) if documents else None,
            folder,
            preset=preset,
            config=loaded if config is not None else None,
            time_budget=seconds,
            overrides=set_ or [],
            quantization=quantization,
            overwrite=overwrite,
            base=base,
            method=method,
            announce=say,
            callbacks=[] if quiet else [TrainingProgress(plain=plain)],
            progress=progress,
            elapsed=time.perf_counter() - STARTED,
        )
    _show_result(result, as_json)


def resume_build(
    run: Path, overrides: list[str], callbacks: list[Any], *, plain: bool, quiet: bool, as_json: bool
) -> None:
    """Finish the build in a folder and show it."""
    from llmbuilder.building import resume_build

    with StageProgress(plain=plain, quiet=quiet) as progress:
        result = resume_build(run, overrides=overrides, announce=say, callbacks=callbacks, progress=progress)
    _show_result(result, as_json)


def _show_plan(
    documents: list[Path] | None,
    output: Path | None,
    chosen: object,
    time_budget: str | None,
    overrides: list[str],
    progress: StageProgress,
    as_json: bool,
    origin: dict[str, str | None],
) -> None:
    from llmbuilder.building.checks import check_base, check_planned_output, require_buildable, require_documents
    from llmbuilder.building.durations import parse_duration
    from llmbuilder.config import load_config
    from llmbuilder.errors import ConfigError

    if chosen is not None:
        raise ConfigError("--dry-run shows the plan made without --preset and --config; with them there is none")
    seconds = parse_duration(time_budget) if time_budget is not None else None
    planned = load_config(overrides=overrides)
    check_base(planned, origin["base"], origin["method"])
    require_buildable(planned, overrides, {"documents": documents or None, "base": origin["base"]})
    require_documents(list(documents) if documents else planned.data.path)
    check_planned_output(planned, output, list(documents) if documents else [])
    from llmbuilder.building import plan_build

    sources = list(documents) if documents else None
    plan = plan_build(sources, overrides=overrides, announce=say, progress=progress, time_budget=seconds, **origin)
    if as_json:
        print_json(plan.to_dict())
    else:
        print_prose(f"Plan: {plan.summary()}")


def _show_result(result: BuildResult, as_json: bool) -> None:
    """Print what the model can do, the facts, the beginnings of what it writes, and what to do next."""
    from llmbuilder.building.wording import describe_result, list_uses

    if as_json:
        print_json(result.to_dict())
        return
    (_, ability), *facts = describe_result(result)
    typer.echo("")
    print_prose(ability)
    for name, text in facts:
        print_prose(f"  {name}: {text}", indent="    ")
    for sample in result.samples:
        typer.echo(f"\ngiven: {' '.join(sample.prompt.split()) or '(nothing but blanks)'}")
        if sample.base is not None:
            typer.echo(f"the base went on:\n{_beginning(sample.base)}")
        who = "it" if sample.base is None else "the adapted model"
        typer.echo(f"{who} went on:\n{_beginning(sample.continuation)}")
    typer.echo("")
    for use in list_uses(result):
        typer.echo(f"use it with {use.program}:")
        for command in use.commands:
            typer.echo(f"  {command}")
    pages = [quoted(f"{result.output}/{name}") for name in ("summary.md", "report.html")]
    typer.echo(f"more about it: {' and '.join(pages)}")


def _beginning(text: str) -> str:
    lines = text.strip("\n").splitlines()
    shown = [f"  {line}" for line in lines[:_SAMPLE_LINES]]
    return "\n".join([*shown, "  ..."] if len(lines) > _SAMPLE_LINES else shown)
