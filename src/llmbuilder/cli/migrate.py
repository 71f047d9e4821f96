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
    for row in report.files:
        reason = f"  ({row['why']})" if row["why"] else ""
        typer.echo(f"{row['file']} -> {row['result']}{reason}")
    for row in report.keys:
        typer.echo(f"{row['file']}: {row['key']} -> {row['new'] or 'kept under legacy'}")
    for row in report.commands:
        typer.echo(f"{row['file']}:{row['line']}: {row['old']}\n    -> {row['new']}")
        if row["left"]:
            typer.echo(f"    without counterpart: {' '.join(row['left'])}")
    for note in report.notes:
        say(note)
    if not dry_run:
        say(f"the full account is in {new / 'MIGRATION.md'}")
