"""`llmbuilder migrate`: a whole legacy project."""

from __future__ import annotations

from pathlib import Path

import typer

from llmbuilder.cli.output import Json, Overwrite, Quiet, print_json, say


def migrate(
    legacy: Path = typer.Argument(..., metavar="LEGACY_DIR", help="Legacy project; it is only read."),
    new: Path = typer.Argument(..., metavar="NEW_DIR", help="Folder for the new project."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Only report what would be done."),
    activation: str | None = typer.Option(
        None, help="gelu or gelu_tanh: that of checkpoints which do not tell which form they were trained with."
    ),
    prove: bool = typer.Option(False, "--prove", help="Compare with the project's own code; needs --run-legacy-code."),
    run_legacy_code: bool = typer.Option(
        False, "--run-legacy-code", help="Allow --prove to run the project's model code, in a process of its own."
    ),
    overwrite: bool = Overwrite,
    quiet: bool = Quiet,
    as_json: bool = Json,
) -> None:
    """Move a nanoGPT-style project here, with a full report."""
    from llmbuilder.errors import MigrationError
    from llmbuilder.files import require_other, require_writable

    if prove != run_legacy_code:
        raise MigrationError(
            "--prove runs the project's own model code, which can do anything your account can: read it, and add "
            "--run-legacy-code to allow it" if prove else "--run-legacy-code allows --prove to run code: give both"
        )  # fmt: skip
    if not legacy.is_dir():
        said = f"{legacy} is a file" if legacy.exists() else f"no such folder: {legacy}"
        raise MigrationError(f"{said}; name the folder of the legacy project")
    if activation not in (None, "gelu", "gelu_tanh"):
        raise MigrationError(f"--activation {activation!r} is none that models have: gelu, or gelu_tanh")
    if not dry_run:
        if new.is_file():
            raise MigrationError(f"{new} is a file: name a folder for the new project")
        require_other(new, [legacy], error=MigrationError)
        require_writable(new, error=MigrationError)
    from llmbuilder.migration import migrate_project

    report = migrate_project(
        legacy, new, dry_run=dry_run, overwrite=overwrite, activation=activation, run_legacy_code=run_legacy_code
    )
    if as_json:
        print_json(report.to_dict())
    elif dry_run:
        typer.echo(report.to_markdown())
    else:
        typer.echo(report.to_text())
        say(f"the full account, with every file and key, is in {new / 'MIGRATION.md'}")
    if prove and report.unproven():
        raise MigrationError(f"not certified by the project's own code: {', '.join(report.unproven())}")
