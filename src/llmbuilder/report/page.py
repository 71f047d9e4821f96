"""What all reports share: one HTML file with its style and script in it, figures, tables."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from llmbuilder.files import write_text

REPORT_NAME = "report.html"
_ASSETS = Path(__file__).parent


def write_page(path: Path, title: str, body: str) -> None:
    """Write a page that needs nothing else."""
    style, script = ((_ASSETS / name).read_text("utf-8") for name in ("report.css", "report.js"))
    write_text(
        path,
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{style}</style></head>\n'
        f"<body><main>{body}</main><script>{script}</script></body></html>\n",
    )


def figures(values: Iterable[tuple[str, str, str | None]]) -> str:
    """Return the section of large figures: label, value, and what it is compared with."""
    tiles = []
    for label, value, against in values:
        small = f"<small>{html.escape(against)}</small>" if against else ""
        tiles.append(f"<div><span>{label}</span><b>{html.escape(value)}</b>{small}</div>")
    return f'<section class="figures">{"".join(tiles)}</section>'


def settings_value(value: Any) -> str:
    """Return a value as a person reads it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def rows(items: Iterable[tuple[str, Any]]) -> str:
    """Return table rows of names and values, empty values left out."""
    shown = ((name, value) for name, value in items if value not in (None, [], {}, ""))
    return "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(settings_value(value))}</td></tr>" for name, value in shown
    )
