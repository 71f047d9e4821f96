"""`llmbuilder migrate`: a whole legacy project."""

from __future__ import annotations

from pathlib import Path

import typer

from llmbuilder.cli.output import Json, Overwrite, print_json, say


def migrate(
    legacy: Path = typer.Argument(..., metavar="LEGACY_DIR", help="Legacy project; it is only read."),
    new: Path = typer.Argument(..., metavar="NEW_DIR", help="Folder for the new project."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Only report what would be done."),
    overwrite: bool = Overwrite,
    as_json: bool = Json,
) -> None:
    """Move a nanoGPT-style project here, with a full report."""
    from llmbuilder.migration import migrate_project

    report = migrate_project(legacy, new, dry_run=dry_run, overwrite=overwrite)
    if as_json:
        print_json(report.to_dict())
        return
    if dry_run:
        typer.echo(report.to_markdown())
        return
    typer.echo(report.to_text())
    say(f"the full account, with every file and key, is in {new / 'MIGRATION.md'}")
