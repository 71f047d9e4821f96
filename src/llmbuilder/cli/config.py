"""`llmbuilder config`: make, check, show and migrate configurations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from llmbuilder.cli.completion import presets
from llmbuilder.cli.output import Json, Overwrite, Quiet, Set, print_json, print_table, say

app = typer.Typer(help="Make, check and migrate configurations.", no_args_is_help=True)


@app.command("create")
def create(
    output: Path = typer.Option(None, "--output", "-o", help="File to write: .json or .yaml. Default: print it."),
    preset: str = typer.Option(None, "--preset", help="Start from this preset.", autocompletion=presets),
    list_: bool = typer.Option(False, "--list", help="List the presets."),
    set_: list[str] = Set,
    overwrite: bool = Overwrite,
    quiet: bool = Quiet,
    as_json: bool = Json,
) -> None:
    """Write a configuration from a preset, or list the presets."""
    from llmbuilder.config import load_config
    from llmbuilder.errors import ConfigError
    from llmbuilder.files import require_absent

    if list_ and (preset or output or set_):
        raise ConfigError("--list shows the presets: leave out --preset, --output and --set")
    if list_:
        _list_presets(as_json)
        return
    config = load_config(preset=preset, overrides=set_ or [])
    if output is not None and output.is_dir():
        raise ConfigError(f"{output} is a folder: name a file to write, such as {output / 'config.yaml'}")
    if output is None:
        print_json(config.to_dict())
        return
    require_absent(output, overwrite=overwrite, error=ConfigError)
    config.save(output)
    print_json({"path": str(output)}) if as_json else typer.echo(str(output))


def _list_presets(as_json: bool) -> None:
    from llmbuilder.config.loading import build_config
    from llmbuilder.config.presets import DESCRIPTIONS, PRESETS
    from llmbuilder.config.sizes import count_parameters, estimate_inference_memory, estimate_training_memory

    rows: list[dict[str, Any]] = []
    for name, values in PRESETS.items():
        config = build_config(values, name)
        rows.append(
            {
                "preset": name,
                "parameters": count_parameters(config.model),
                "training_memory_gib": round(estimate_training_memory(config.model, config.training).total / 2**30, 2),
                "inference_memory_gib": round(estimate_inference_memory(config.model) / 2**30, 2),
                "for": DESCRIPTIONS[name],
            }
        )
    if as_json:
        print_json(rows)
        return
    print_table(
        ("preset", "parameters", "to train", "to run", "for"),
        (
            (r["preset"], f"{r['parameters'] / 1e6:.1f}M", f"{r['training_memory_gib']} GiB",
             f"{r['inference_memory_gib']} GiB", r["for"])
            for r in rows
        ),
    )  # fmt: skip


@app.command("validate")
def validate(
    path: Path = typer.Argument(..., metavar="FILE", help="Configuration, new or legacy."),
    fix: bool = typer.Option(False, "--fix", help="Write the corrected configuration."),
    output: Path = typer.Option(None, "--output", "-o", help="Where --fix writes. Default: FILE itself."),
    quiet: bool = Quiet,
    as_json: bool = Json,
) -> None:
    """Check a configuration against every rule and this machine."""
    from dataclasses import asdict

    from llmbuilder.config import fix_config, load_config, validate_config
    from llmbuilder.errors import ConfigError, for_command_line

    if output is not None and not fix:
        raise ConfigError("--output says where --fix writes: give both, or neither")
    try:
        config = load_config(path, allow_code=True)
    except ConfigError as error:
        if not as_json:
            raise
        said = for_command_line(str(error))
        unreadable: dict[str, Any] = {"path": str(path), "value": None, "rule": said, "remedy": "", "changes": {},
                      "place": str(path)}  # fmt: skip
        print_json({"valid": False, "errors": [unreadable]})
        raise typer.Exit(1) from None
    valid, problems = validate_config(config)
    if as_json:
        print_json({"valid": valid, "errors": [asdict(problem) for problem in problems]})
    elif valid:
        typer.echo(f"{path} is valid")
    else:
        for problem in problems:
            typer.echo(str(problem))
    if fix and not valid:
        target = output or (path if path.suffix in (".json", ".yaml", ".yml") else path.with_suffix(".json"))
        fix_config(config, problems).save(target)
        say(f"fixed: {target}")
    elif not valid:
        raise typer.Exit(1)


@app.command("show")
def show(
    path: Path = typer.Argument(None, metavar="[FILE]", help="Configuration. Default: the defaults."),
    preset: str = typer.Option(None, "--preset", help="Start from this preset.", autocompletion=presets),
    set_: list[str] = Set,
    quiet: bool = Quiet,
    as_json: bool = Json,
) -> None:
    """Print the configuration that results from preset, file, environment and overrides."""
    from llmbuilder.config import load_config

    print_json(load_config(path, preset=preset, overrides=set_ or [], allow_code=True).to_dict())


@app.command("migrate")
def migrate(
    source: Path = typer.Argument(..., metavar="LEGACY", help="Legacy configuration: JSON, YAML or nanoGPT Python."),
    output: Path = typer.Argument(..., metavar="OUTPUT", help="File to write: .json or .yaml."),
    overwrite: bool = Overwrite,
    quiet: bool = Quiet,
    as_json: bool = Json,
) -> None:
    """Translate a legacy configuration."""
    from llmbuilder.config import migrate_legacy_config
    from llmbuilder.errors import ConfigError
    from llmbuilder.files import require_absent, require_other

    require_other(output, [source], error=ConfigError)
    require_absent(output, overwrite=overwrite, error=ConfigError)
    migrate_legacy_config(source).save(output)
    print_json({"path": str(output)}) if as_json else typer.echo(str(output))


@app.command("schema")
def schema(quiet: bool = Quiet, as_json: bool = Json) -> None:
    """Print the JSON Schema of a configuration file."""
    from llmbuilder.config import json_schema

    print_json(json_schema())
