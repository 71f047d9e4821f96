"""Writes docs/reference/ from the code: python docs/generate_reference.py"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from llmbuilder.cli.main import app
from llmbuilder.config import Config

FOLDER = Path(__file__).parent / "reference"


def configuration() -> str:
    """Return the reference of every section and setting."""
    parts = ["# Configuration\n\nGenerated from the schema; `llmbuilder config schema` prints it as JSON Schema."]
    for name, info in Config.model_fields.items():
        section: Any = info.annotation
        if not hasattr(section, "model_fields"):
            continue
        rows = ["| key | default | meaning |", "| --- | --- | --- |"]
        for key, setting in section.model_fields.items():
            default = setting.get_default(call_default_factory=True)
            rows.append(f"| `{key}` | `{'null' if default is None else default}` | {setting.description} |")
        parts.append(f"## {name}\n\n{section.__doc__}\n\n" + "\n".join(rows))
    return "\n\n".join(parts) + "\n"


def commands() -> str:
    """Return the reference of every command and option."""
    parts = ["# Commands\n\nGenerated from the command line; every command has `--help`."]
    _describe(typer.main.get_command(app), "llmbuilder", parts)
    return "\n\n".join(parts) + "\n"


def _describe(command: Any, path: str, parts: list[str]) -> None:
    if hasattr(command, "commands"):
        for name, child in command.commands.items():
            _describe(child, f"{path} {name}", parts)
        return
    places = [p for p in command.params if p.param_type_name == "argument"]
    usage = " ".join([path, *(p.metavar or p.name.upper() for p in places), "[OPTIONS]"])
    rows = ["| parameter | meaning |", "| --- | --- |"]
    for parameter in command.params:
        names = (
            (parameter.metavar or parameter.name,)
            if parameter in places
            else (*parameter.opts, *parameter.secondary_opts)
        )
        rows.append(f"| `{', '.join(names)}` | {getattr(parameter, 'help', '') or ''} |")
    parts.append(f"## {path}\n\n{command.help}\n\n`{usage}`\n\n" + "\n".join(rows))


if __name__ == "__main__":
    (FOLDER / "configuration.md").write_text(configuration(), encoding="utf-8")
    (FOLDER / "commands.md").write_text(commands(), encoding="utf-8")
