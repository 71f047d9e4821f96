"""`llmbuilder finetune`: train a model that knows something already."""

from __future__ import annotations

from pathlib import Path

import typer

from llmbuilder.cli.output import Json, Overwrite, Plain, Quiet, Set, print_json, say
from llmbuilder.cli.train import Continue, Nproc, carry_out, display, in_processes, require_one_way

app = typer.Typer(help="Adapt models to documents of one's own.", no_args_is_help=True)


@app.command("model")
def model(
    base: str = typer.Option(..., "--model", "-m", help="Model to begin from: file, run, Hugging Face folder or GGUF."),
    data: Path = typer.Option(
        ..., "--data", help="Text file, document folder, conversations, or pairs (file or folder)."
    ),
    output: Path = typer.Option(None, "--output", "-o", help="Run directory to write."),
    method: str = typer.Option("lora", "--method", help="lora, dora, qlora (adapters beside frozen matrices) or full."),
    objective: str = typer.Option(
        "likelihood",
        "--objective",
        help="likelihood (text, answers), or dpo (pairs: chosen and rejected answers).",
    ),
    window: int = typer.Option(None, "--window", min=8, help="Tokens of a training sequence. Default: at most 512."),
    inspect: int = typer.Option(
        None, "--inspect", min=1, help="Show so many conversations with what is learned of them, and train nothing."
    ),
    nproc: int = Nproc,
    plain: bool = Plain,
    quiet: bool = Quiet,
    set_: list[str] = Set,
    overwrite: bool = Overwrite,
    continue_: bool = Continue,
    as_json: bool = Json,
) -> None:
    """Train adapters beside a model's weights, or all of them, on text, conversations, or preference pairs."""
    if inspect is not None:
        _require_nothing_of_a_run(output, overwrite=overwrite, continue_=continue_, nproc=nproc, overrides=set_)
        _inspect(base, data, inspect, window, objective, as_json=as_json)
        return
    if output is None:
        raise typer.BadParameter("name the run directory to write", param_hint="--output")
    in_processes(nproc)
    from llmbuilder.building.checks import check_run, require_documents, require_no_build
    from llmbuilder.config import load_config
    from llmbuilder.config.in_force import require_taken
    from llmbuilder.config.loading import explicit_settings
    from llmbuilder.files import require_other
    from llmbuilder.formats.model_places import require_model

    require_one_way(overwrite=overwrite, continue_=continue_)
    require_model(base)
    require_documents(data)
    require_other(output, [data])
    asked = [f"finetuning.method={method}", f"finetuning.objective={objective}", *(set_ or [])]
    given = load_config(
        overrides=asked, options={f"finetuning.{name}": f"--{name}" for name in ("method", "objective")}
    )
    require_taken("finetune model", asked, given)
    require_no_build(output)
    check_run(given, output, base=base)
    from llmbuilder.training.tuning import finetune_model, tuning_config

    config = tuning_config(explicit_settings(asked))
    ways = {"overwrite": overwrite, "continue_run": continue_}
    callbacks = display(plain=plain, quiet=quiet)
    carry_out(lambda: finetune_model(base, data, output, config, callbacks, window=window, **ways), as_json)


def _require_nothing_of_a_run(
    output: Path | None, *, overwrite: bool, continue_: bool, nproc: int, overrides: list[str] | None
) -> None:
    """Raise BadParameter for what is of no use where nothing is trained."""
    given = {"--output": output is not None, "--overwrite": overwrite, "--continue": continue_, "--nproc": nproc != 1,
             "--set": bool(overrides)}  # fmt: skip
    for name, is_given in given.items():
        if is_given:
            raise typer.BadParameter("--inspect trains nothing: leave out one", param_hint=name)


def _inspect(base: str, data: Path, count: int, window: int | None, objective: str, *, as_json: bool) -> None:
    from llmbuilder.building.checks import require_documents
    from llmbuilder.config import load_config
    from llmbuilder.formats.model_places import require_model

    load_config(overrides=[f"finetuning.objective={objective}"], options={"finetuning.objective": "--objective"})
    require_model(base)
    require_documents(data)
    from llmbuilder.training.tuning import inspect_conversations

    found = inspect_conversations(base, data, count, window=window, objective=objective)
    if as_json:
        print_json(found)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    for sample in found.samples:
        say(f"--- {sample.place}: {sample.learned:,} of {sample.tokens:,} tokens are learned ---")
        text = Text()
        for piece in sample.pieces:
            shown = f"[[{piece.text}]]" if piece.is_learned and not console.is_terminal else piece.text
            text.append(shown, style="bold green" if piece.is_learned else "dim")
        console.print(text)
    for item in found.left_out:
        say(f"left out: {item}")
