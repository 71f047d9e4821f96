"""What a build says of its run, on the run's page: what the model can do, what it writes, how to use it."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

from llmbuilder.errors import TrainingError

SUMMARY_NAME = "summary.json"


def read_summary(folder: Path) -> dict[str, Any]:
    """Return what a build wrote of its run, nothing for a run that no build made. Raises TrainingError if damaged."""
    path = folder / SUMMARY_NAME
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise TrainingError(f"{path} is damaged: {error}") from None
    return found if isinstance(found, dict) else {}


def told_by_build(summary: dict[str, Any]) -> str:
    """Return the sections that stand first: the facts for the owner, then what the model writes."""
    facts = [(name, text) for name, text in summary.get("words", {}).get("facts", [])]
    if not facts:
        return ""
    (_, first), *others = facts
    rows = "".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>" for name, text in others)
    told = f'<section><p class="lead">{html.escape(first)}</p><table class="pairs">{rows}</table></section>'
    told += _told_answers(summary["words"].get("answers"))
    samples = "".join(
        f'<article><pre class="given">{html.escape(sample["prompt"])}</pre>{_written(sample)}</article>'
        for sample in summary.get("samples", [])
    )
    if not samples:
        return told
    note = "<small>grey: the beginning it was given</small>"
    return f'{told}<section class="told"><h2>What it writes {note}</h2>{samples}</section>'


def _told_answers(words: dict[str, Any] | None) -> str:
    """Return the section that says which of several readers answers questions about the documents best."""
    if not words:
        return ""
    titles, *rows = words["table"]
    head = "".join(f"<td>{html.escape(title)}</td>" for title in titles[1:])
    body = "".join(
        f"<tr><th>{html.escape(name)}</th>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>"
        for name, *cells in rows
    )
    return (
        f'<section><h2>What answers best</h2><p class="lead">{html.escape(words["best"])}</p>'
        f"<table><tr><th></th>{head}</tr>{body}</table><p>{html.escape(words['question'])}</p></section>"
    )


def _written(sample: dict[str, Any]) -> str:
    """Return what was written after a beginning; what the base wrote, if there was one, stands beside it."""
    own = f"<pre>{html.escape(sample['continuation'])}</pre>"
    if sample.get("base") is None:
        return own
    base = f"<pre>{html.escape(sample['base'])}</pre>"
    return f'<div class="beside"><div><span>the base</span>{base}</div><div><span>adapted</span>{own}</div></div>'


def uses_of_build(summary: dict[str, Any]) -> str:
    """Return the section with the commands to paste."""
    uses = summary.get("words", {}).get("uses", [])
    shown = "".join(
        f"<p>{html.escape(use['program'])}</p><pre>{html.escape(chr(10).join(use['commands']))}</pre>" for use in uses
    )
    return f'<section class="use"><h2>Use it</h2>{shown}</section>' if shown else ""
