"""How commands speak: results on standard output (as JSON on request), everything else on standard error."""

from __future__ import annotations

import json
import logging
import math
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any, TextIO

import typer

from llmbuilder.cli.completion import settings
from llmbuilder.cli.streams import is_unicode

_is_quiet = False


def be_quiet(wanted: bool) -> bool:
    """Let nothing but errors be said on standard error, by other people's libraries either; or take that back."""
    global _is_quiet
    if wanted != _is_quiet:
        logging.disable(logging.WARNING if wanted else logging.NOTSET)
        logging.captureWarnings(wanted)  # Python's own warnings are notes, too
    _is_quiet = wanted
    return wanted


Json = typer.Option(False, "--json", help="Print the result as JSON.")
Set = typer.Option(
    None, "--set", help="Override a setting: section.key=value. May be repeated.", autocompletion=settings
)
Plain = typer.Option(False, "--plain", help="Progress as lines of text, also in a terminal.")
Quiet = typer.Option(False, "--quiet", help="No progress and no notes: the result, and errors.", callback=be_quiet)
AllowCode = typer.Option(False, "--allow-code", help="Let the configuration file name Python code to import.")
Overwrite = typer.Option(False, "--overwrite", help="Replace what is at the output already.")


def say(message: str) -> None:
    """Print a line of progress on standard error, unless --quiet was given."""
    if not _is_quiet:
        has_command = "llmbuilder " in message
        typer.echo(message if has_command else _folded(message, sys.stderr, ""), err=True)


def print_prose(text: str, *, indent: str = "") -> None:
    """Print sentences that nobody pastes."""
    typer.echo(_folded(text, sys.stdout, indent))


def _folded(text: str, stream: TextIO, indent: str) -> str:
    """Break lines between words for a terminal, which would break them within: not where one has to be pasted."""
    if not stream.isatty():
        return text
    width = max(20, shutil.get_terminal_size().columns)
    return "\n".join(
        textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        for line in text.split("\n")
    )


def print_json(value: Any) -> None:
    """Print a value as JSON; numbers that JSON lacks become null."""
    plain = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    typer.echo(json.dumps(_finite(plain), indent=2, ensure_ascii=not is_unicode(sys.stdout)))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def print_table(titles: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows under titles."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    console = Console(legacy_windows=False)
    if console.is_terminal and table.__rich_measure__(console, console.options).minimum > console.width:
        console.width = 1_000  # a terminal folds lines itself, and names stay whole
    console.print(table)


def print_pairs(values: dict[str, Any]) -> None:
    """Print names and values in two columns."""
    width = max(map(len, values), default=0)
    for name, value in values.items():
        typer.echo(f"{name:<{width}}  {value}")


def replaced_by(options: Mapping[str, tuple[str, Any]]) -> dict[str, str | None]:
    """Return, by setting, the option that was given in its place; None where it was not."""
    return {setting: name if value not in (None, []) else None for setting, (name, value) in options.items()}
