"""The `llmbuilder` command. Every module here imports typer only; what a command needs is imported when it runs."""

from __future__ import annotations

import logging
import os
import sys
from typing import TextIO

import typer

from llmbuilder.cli import (
    build,
    config,
    data,
    export,
    finetune,
    generate,
    importing,
    info,
    migrate,
    model,
    report,
    tokenizer,
    train,
)
from llmbuilder.cli.output import be_quiet
from llmbuilder.cli.streams import LostOutput, discard_output, open_streams

app = typer.Typer(
    help="Turn a folder of documents into a language model you can run anywhere.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("build")(build.build)
app.add_typer(data.app, name="data")
app.add_typer(tokenizer.app, name="tokenizer")
app.add_typer(train.app, name="train")
app.add_typer(finetune.app, name="finetune")
app.add_typer(generate.app, name="generate")
app.add_typer(model.app, name="model")
app.add_typer(export.app, name="export")
app.add_typer(importing.app, name="import")
app.add_typer(config.app, name="config")
app.command("report")(report.report)
app.command("migrate")(migrate.migrate)
app.command("info")(info.info)


def _show_version(wanted: bool) -> None:
    if wanted:
        from llmbuilder import __version__

        typer.echo(f"llmbuilder {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Show the version."),
) -> None:
    """Turn a folder of documents into a language model you can run anywhere."""


class _Notes(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        prefix = "error: " if record.levelno >= logging.ERROR else "note: "
        return prefix + record.getMessage()


class _NotesHandler(logging.StreamHandler[TextIO]):
    """Writes to what standard error is at the moment: a progress bar puts itself in the place, and is not torn."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def run() -> None:
    """Run the command line: user errors become one message and exit status 1, without a traceback."""
    open_streams()
    try:
        _run()
        sys.stdout.flush()
    except LostOutput as lost:
        discard_output()
        if lost.is_closed_pipe:
            sys.exit(0)
        typer.echo(f"error: the output cannot be written: {lost.reason.strerror or lost.reason}", err=True)
        sys.exit(1)
    finally:
        be_quiet(False)


def _run() -> None:
    from llmbuilder.errors import LLMBuilderError, LostProcessError, for_command_line

    handler = _NotesHandler(sys.stderr)
    handler.setFormatter(_Notes())
    logger = logging.getLogger("llmbuilder")
    is_main = os.environ.get("RANK", "0") == "0"
    handler.setLevel(logging.NOTSET if is_main else logging.ERROR)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        app(prog_name="llmbuilder")
    except LLMBuilderError as error:
        # Of several processes one says what is wrong in all; that the others are gone, each says for itself.
        if is_main or isinstance(error, LostProcessError):
            typer.echo(f"{type(error).__name__}: {for_command_line(str(error))}", err=True)
        if isinstance(error, LostProcessError):
            # Connections to the dead cannot be taken down in order: trying to has aborted the process instead.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(1)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)
        sys.exit(130)
