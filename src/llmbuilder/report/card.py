"""Results as a small card in a notebook: what matters, and the loss curve, in HTML that needs nothing else."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

_WIDTH, _HEIGHT, _EDGE = 420, 120, 6
_LOOKS = {"loss": ("training", "#6c8fc7"), "validation_loss": ("validation", "#c2571a")}
_CARD = "display:inline-block;border:1px solid #8884;border-radius:8px;padding:10px 14px;font-family:sans-serif"


def result_card(title: str, facts: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> str:
    """Return a card of facts, those that are None left out, with the losses that a run has logged."""
    rows = "".join(
        f'<tr><td style="text-align:left;opacity:.7">{html.escape(name)}</td>'
        f'<td style="text-align:left">{html.escape(str(value))}</td></tr>'
        for name, value in facts.items()
        if value is not None
    )
    return f'<div style="{_CARD}"><b>{html.escape(title)}</b><table>{rows}</table>{_curves(history)}</div>'


def _curves(history: Sequence[Mapping[str, Any]]) -> str:
    lines = {name: _points(history, name) for name in _LOOKS}
    points = [point for line in lines.values() for point in line]
    if len(points) < 2:
        return ""
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    low, high = min(y for _, y in points), max(y for _, y in points)
    drawn, legend = "", ""
    for name, (words, color) in _LOOKS.items():
        places = " ".join(
            f"{_EDGE + (x - left) / max(1.0, right - left) * (_WIDTH - 2 * _EDGE):.1f},"
            f"{_HEIGHT - _EDGE - (y - low) / max(1e-9, high - low) * (_HEIGHT - 2 * _EDGE):.1f}"
            for x, y in lines[name]
        )
        if places:
            drawn += f'<polyline fill="none" stroke="{color}" stroke-width="1.6" points="{places}"/>'
            legend += f'<span style="color:{color}">{words}</span> '
    per = "pair" if any("reward_margin" in row for row in history) else "token"
    label = f"loss, {high:.2f} to {low:.2f} nats per {per}"
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">'
        f'{drawn}</svg><div style="font-size:85%">{legend}{label}</div>'
    )


def _points(history: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    found = [(float(row["step"]), float(row[name])) for row in history if row.get(name) is not None]
    return [(x, y) for x, y in found if math.isfinite(y)]
