"""A few documents of a corpus drawn at random: what is kept beside what is left out."""

from __future__ import annotations

import html
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet

from llmbuilder.stages import DROPPED_AT

_SHOWN = 8
_CHARACTERS = 400


def samples(folder: Path, corpus: dict[str, Any]) -> str:
    """Return the section of samples; which ones are drawn follows from the corpus."""
    kept = _drawn([folder / "documents" / name for name in corpus["documents"]], corpus["fingerprint"])
    lost = _drawn([folder / "dropped" / name for name in corpus["dropped_files"]], corpus["fingerprint"])
    if not kept:
        return ""
    columns = [("kept", [_kept(row) for row in kept]), ("left out", [_left_out(row) for row in lost])]
    shown = "".join(f"<div><h3>{title}</h3>{''.join(items) or '<p>nothing</p>'}</div>" for title, items in columns)
    title = "Some of what is kept, some of what is left out <small>drawn at random</small>"
    return f'<section><h2>{title}</h2><div class="samples">{shown}</div></section>'


def _drawn(files: Sequence[Path], seed: str) -> list[dict[str, Any]]:
    """Return some rows of these files, each equally likely."""
    places = []
    for path in files:
        metadata = parquet.read_metadata(path)
        places += [(path, number, metadata.row_group(number).num_rows) for number in range(metadata.num_row_groups)]
    total = sum(rows for *_, rows in places)
    chosen = sorted(random.Random(seed).sample(range(total), min(_SHOWN, total)))
    found, first = [], 0
    for path, number, rows in places:
        here = [place - first for place in chosen if first <= place < first + rows]
        if here:
            found += parquet.ParquetFile(path).read_row_group(number).take(here).to_pylist()
        first += rows
    return found


def _kept(row: dict[str, Any]) -> str:
    note = f"{row['format']}, {row['language'] or 'language unknown'}, {row['characters']:,} characters"
    return _item(row["source"], note, _middle(row["text"]))


def _left_out(row: dict[str, Any]) -> str:
    return _item(row["source"], f"{DROPPED_AT[row['stage']]}: {row['reason']}", row["excerpt"] or "")


def _item(source: str, note: str, text: str) -> str:
    excerpt = f"<pre>{html.escape(text)}</pre>" if text.strip() else ""
    return f"<article><b>{html.escape(source)}</b> <span>{html.escape(note)}</span>{excerpt}</article>"


def _middle(text: str) -> str:
    """Return lines from the middle of a text, away from its title and its end."""
    begin = max(0, len(text) // 2 - _CHARACTERS // 2)
    return (
        ("… " if begin else "") + text[begin : begin + _CHARACTERS].strip() + (" …" if len(text) > _CHARACTERS else "")
    )
