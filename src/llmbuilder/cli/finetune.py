"""`llmbuilder finetune`: train a model that knows something already."""

from __future__ import annotations

from pathlib import Path

import typer

from llmbuilder.cli.output import Json, Overwrite, Plain, Quiet, Set
from llmbuilder.cli.train import Continue, Nproc, carry_out, display, in_processes, require_one_way

app = typer.Typer(help="Adapt models to documents of one's own.", no_args_is_help=True)


@app.command("model")
def model(
    base: str = typer.Option(..., "--model", "-m", help="Model to begin from: file, run, Hugging Face folder or GGUF."),
    data: Path = typer.Option(..., "--data", help="Text file or document folder."),
    output: Path = typer.Option(..., "--output", "-o", help="Run directory to write."),
    method: str = typer.Option("lora", "--method", help="lora, dora (adapters beside frozen matrices) or full."),
    window: int = typer.Option(None, "--window", min=8, help="Tokens of a training sequence. Default: at most 512."),
    nproc: int = Nproc,
    plain: bool = Plain,
    quiet: bool = Quiet,
    set_: list[str] = Set,
    overwrite: bool = Overwrite,
    continue_: bool = Continue,
    as_json: bool = Json,
) -> None:
    """Train adapters beside a model's weights, or all of them, on text."""
    in_processes(nproc)
    from llmbuilder.building.checks import check_run, require_documents
    from llmbuilder.config import load_config
    from llmbuilder.config.in_force import require_taken
    from llmbuilder.config.loading import explicit_settings
    from llmbuilder.files import require_other
    from llmbuilder.formats.model_places import require_model

    require_one_way(overwrite=overwrite, continue_=continue_)
    require_model(base)
    require_documents(data)
    require_other(output, [data])
    asked = [f"finetuning.method={method}", *(set_ or [])]
    given = load_config(overrides=asked, options={"finetuning.method": "--method"})
    require_taken("finetune model", asked, given)
    check_run(given, output)
    from llmbuilder.training.tuning import finetune_model, tuning_config

    config = tuning_config(explicit_settings(asked))
    ways = {"overwrite": overwrite, "continue_run": continue_}
    callbacks = display(plain=plain, quiet=quiet)
    carry_out(lambda: finetune_model(base, data, output, config, callbacks, window=window, **ways), as_json)
