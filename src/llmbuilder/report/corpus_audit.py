"""What a second, independent reading of a sample of a corpus's files found."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

AUDIT = Path("work") / "audit.json"


def audit_section(folder: Path) -> str:
    """Return the section of the last audit, "" if none was asked for."""
    try:
        found = json.loads((folder / AUDIT).read_text("utf-8"))
    except FileNotFoundError:
        return ""
    formats = "".join(
        f"<tr><th>{html.escape(kind)}</th>{_numbers(values, values['files'])}</tr>"
        for kind, values in found["formats"].items()
    )
    below = "".join(f"<tr><th>{html.escape(item['source'])}</th>{_numbers(item)}</tr>" for item in found["below"])
    others = "".join(
        f"<tr><th>{html.escape(item['source'])}</th><td colspan=4>{html.escape(item['reason'])}</td></tr>"
        for item in found["not_compared"]
    )
    head = "".join(
        f'<th class="number">{words}</th>' for words in ("files", "letters kept", "words whole", "letters added")
    )
    listed = [("Below the goals", below), ("Not compared", others)]
    more = "".join(
        f"<details><summary>{title}</summary><table>{rows}</table></details>" for title, rows in listed if rows
    )
    title = "Read again <small>a sample of the files, in an independent way, against what was extracted</small>"
    return f'<section><h2>{title}</h2><table class="fates"><tr><th></th>{head}</tr>{formats}</table>{more}</section>'


def _numbers(values: dict[str, Any], files: int | None = None) -> str:
    cells = ["" if files is None else f"{files:,}", *(f"{values[name]:.4f}" for name in ("kept", "whole", "added"))]
    return "".join(f'<td class="number">{cell}</td>' for cell in cells)
