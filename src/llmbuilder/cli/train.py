"""`llmbuilder train`: train a model, continue a run."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from llmbuilder.cli.build import resume_build
from llmbuilder.cli.completion import presets
from llmbuilder.cli.output import AllowCode, Json, Overwrite, Plain, Quiet, Set, print_json, replaced_by

if TYPE_CHECKING:
    from llmbuilder.training import TrainingResults

app = typer.Typer(help="Train models.", no_args_is_help=True)
Nproc = typer.Option(1, "--nproc", min=1, help="Processes to train with, as torchrun starts them.")

Continue = typer.Option(False, "--continue", help="Go on with the run that is at the output; begin it if none is.")


@app.command("model")
def model(
    data: Path = typer.Option(None, "--data", help="Text file, document folder or token folder."),
    output: Path = typer.Option(None, "--output", "-o", help="Run directory to write."),
    config: Path = typer.Option(None, "--config", help="Configuration file, new or legacy."),
    preset: str = typer.Option(None, "--preset", help="Start from this preset.", autocompletion=presets),
    tokenizer: str = typer.Option(None, "--tokenizer", help="Tokenizer folder. Default: learn one."),
    nproc: int = Nproc,
    plain: bool = Plain,
    quiet: bool = Quiet,
    set_: list[str] = Set,
    allow_code: bool = AllowCode,
    overwrite: bool = Overwrite,
    continue_: bool = Continue,
    as_json: bool = Json,
) -> None:
    """Train a model on text."""
    in_processes(nproc)
    from llmbuilder.config import load_config
    from llmbuilder.config.in_force import LEARNED, require_taken
    from llmbuilder.errors import ConfigError

    require_one_way(overwrite=overwrite, continue_=continue_)
    settings = load_config(config, preset=preset, overrides=set_ or [], allow_code=allow_code)
    if output is None and settings.training.output_dir is None:
        raise ConfigError("name a run directory with --output (or training.output_dir)")
    replaced = {
        "data.path": ("--data", data),
        "training.output_dir": ("--output", output),
        "tokenizer.path": ("--tokenizer", tokenizer),
    }
    if tokenizer is not None:
        settings.tokenizer.path = tokenizer
    require_taken("train model", set_ or [], settings, replaced=replaced_by(replaced))
    source = _source(data, settings)
    _check(source, output, settings)
    _follow_the_tokenizer(settings)
    from llmbuilder.data import TextDataset
    from llmbuilder.model import build_model
    from llmbuilder.training import train_model

    dataset = TextDataset.from_config(source, settings)
    learned = {name: f"the tokenizer of {dataset.source_name}" for name in LEARNED if dataset.tokenizer is not None}
    require_taken("train model", set_ or [], settings, replaced=learned)
    callbacks = display(plain=plain, quiet=quiet)
    ways = {"overwrite": overwrite, "continue_run": continue_}
    carry_out(lambda: train_model(build_model(settings), dataset, settings, output, callbacks, **ways), as_json)


def _source(data: Path | None, settings: Any) -> Path:
    from llmbuilder.building.checks import require_documents
    from llmbuilder.errors import ConfigError

    source = data or (Path(settings.data.path) if settings.data.path else None)
    if source is None:
        raise ConfigError("name the training text with --data (or data.path)")
    if not source.exists() and (Path("data") / source).exists():
        source = Path("data") / source  # nanoGPT's datasets are named, and lie in data/
    require_documents(source)
    return source


def _check(source: Path, output: Path | None, settings: Any) -> None:
    """Find what would fail later."""
    from llmbuilder.building.checks import check_run, require_no_build
    from llmbuilder.files import require_other
    from llmbuilder.formats.model_places import require_model

    folder = output or Path(settings.training.output_dir)
    require_other(folder, [source])
    require_no_build(folder)
    check_run(settings, folder)
    if settings.training.init_from not in ("scratch", "resume"):
        require_model(settings.training.init_from)


def _follow_the_tokenizer(settings: Any) -> None:
    """Let the model have as many rows as the tokenizer that will be learned, unless its own number was asked for."""
    from llmbuilder.cli.output import say
    from llmbuilder.config.section import places_of

    size = settings.tokenizer.vocab_size
    if size is None or settings.tokenizer.path is not None or "model.vocab_size" in places_of(settings):
        return
    if settings.model.vocab_size != size:
        say(f"model.vocab_size is {size:,}, as tokenizer.vocab_size says")
        settings.model.vocab_size = size


@app.command("resume")
def resume(
    run: Path = typer.Argument(..., metavar="RUN", help="Run directory."),
    nproc: int = Nproc,
    plain: bool = Plain,
    quiet: bool = Quiet,
    set_: list[str] = Set,
    as_json: bool = Json,
) -> None:
    """Continue a run from its newest checkpoint; a build, from the stage it had reached."""
    in_processes(nproc)
    from llmbuilder.building import is_build
    from llmbuilder.building.checks import check_resume
    from llmbuilder.errors import TrainingError

    if not run.is_dir():
        kind = "is a file" if run.exists() else "is not there"
        raise TrainingError(
            f"{run} holds no run: it {kind}; name the run directory that `train model` or `build` wrote"
        )
    check_resume(run, set_ or [])
    from llmbuilder.training import resume_training

    callbacks = display(plain=plain, quiet=quiet)
    if is_build(run) and nproc == 1 and "WORLD_SIZE" not in os.environ:
        resume_build(run, set_ or [], callbacks, plain=plain, quiet=quiet, as_json=as_json)
        return
    carry_out(lambda: resume_training(run, overrides=set_ or [], callbacks=callbacks), as_json)


def require_one_way(*, overwrite: bool, continue_: bool) -> None:
    """Raise ConfigError for a run that is to be begun anew and gone on with."""
    from llmbuilder.errors import ConfigError

    if overwrite and continue_:
        raise ConfigError("--overwrite begins the run anew and --continue goes on with it: leave out one")


def in_processes(count: int) -> None:
    """Hand this very command to `count` processes and end with their exit code, unless it runs in one of them."""
    if count == 1 and "WORLD_SIZE" not in os.environ:
        return
    from llmbuilder.training.processes.launching import end_with_the_launcher, launch

    if "WORLD_SIZE" in os.environ:
        end_with_the_launcher()
        return
    arguments = sys.argv[1:]
    at = next(index for index, word in enumerate(arguments) if word.startswith("--nproc"))
    del arguments[at : at + (1 if "=" in arguments[at] else 2)]
    raise typer.Exit(launch(count, arguments))


def display(*, plain: bool, quiet: bool) -> list[Any]:
    from llmbuilder.training.display.progress import TrainingProgress

    return [] if quiet else [TrainingProgress(plain=plain)]


def carry_out(train: Callable[[], TrainingResults], as_json: bool) -> None:
    """Train and show the results; those of a stopped run end with the status of the signal."""
    from llmbuilder.training import StoppedRun

    try:
        _show(train(), as_json)
    except StoppedRun as stopped:
        _show(stopped.results, as_json)
        raise typer.Exit(stopped.exit_status) from None


def _show(results: TrainingResults, as_json: bool) -> None:
    if os.environ.get("RANK", "0") != "0":
        return
    if as_json:
        print_json(results.to_dict())
    else:
        typer.echo(f"model: {results.model_path}")
        if results.tokenizer_path:
            typer.echo(f"tokenizer: {results.tokenizer_path}")
        if results.adapter_path:
            typer.echo(f"adapter: {results.adapter_path}")
