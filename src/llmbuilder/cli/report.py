"""`llmbuilder report`: a run as a page."""

from __future__ import annotations

from pathlib import Path

import typer

from llmbuilder.cli.output import Json, Quiet, print_json


def report(
    run: Path = typer.Argument(..., metavar="RUN", help="Run directory."),
    other: Path = typer.Argument(None, metavar="[RUN2]", help="An earlier run to compare with."),
    output: Path = typer.Option(None, "--output", "-o", help="File to write. Default: report.html in RUN."),
    quiet: bool = Quiet,
    as_json: bool = Json,
) -> None:
    """Write a training run's report, one HTML file with its curves, samples and settings."""
    from llmbuilder.report import write_run_report

    path = write_run_report(run, other, output)
    if as_json:
        print_json({"report": str(path)})
    else:
        typer.echo(f"report: {path}")
