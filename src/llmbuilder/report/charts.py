"""Line charts as SVG text, readable without any script; a script beside them adds values under the pointer."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

HEIGHT = 280
PHONE, NARROW, WIDE = 360, 540, 1080
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 12, 34
_MOST_POINTS, _MOST_ON_A_PHONE = 600, 150
_LARGEST = 1e100  # beyond, nothing is a measurement


@dataclass(frozen=True)
class Series:
    """One line of a chart: its name, its points in order of x, and its look (a CSS class of the report)."""

    name: str
    points: Sequence[tuple[float, float]]
    look: str


def line_chart(
    title: str, series: Sequence[Series], *, unit: str = "", log_scale: bool = False, width: int = NARROW
) -> str:
    """Return a figure with a title, a legend, axes and the lines; nothing if no line has two finite points."""
    finite = [Series(s.name, _finite(s.points, log_scale), s.look) for s in series]
    finite = [s for s in finite if len(s.points) >= 2]
    if not finite:
        return ""
    legend = "".join(f'<span class="key {s.look}">{html.escape(s.name)}</span>' for s in finite)
    unit_text = f' <span class="unit">{html.escape(unit)}</span>' if unit else ""
    labelled = f'class="wide" aria-label="{html.escape(title)}"'
    wide = _drawing(finite, log_scale, width, _MOST_POINTS, labelled)
    phone = _drawing(finite, log_scale, PHONE, _MOST_ON_A_PHONE, 'class="phone" aria-hidden="true"')
    return (
        f'<figure class="chart"><figcaption><b>{html.escape(title)}</b>{unit_text}{legend}</figcaption>'
        f"{wide}{phone}</figure>"
    )


def _drawing(series: Sequence[Series], log_scale: bool, width: int, most_points: int, attributes: str) -> str:
    """Return the lines of a chart in one width: letters shrink with a drawing, so a small screen has its own."""
    shown = [Series(s.name, _thinned(s.points, most_points), s.look) for s in series]
    xs = [x for s in shown for x, _ in s.points]
    ys = [_height(y, log_scale) for s in shown for _, y in s.points]
    scale = _Scale(min(xs), max(xs), *_padded(min(ys), max(ys)), log_scale, width)
    data = json.dumps(
        [{"name": s.name, "points": [[x, y, round(scale.x(x), 1), round(scale.y(y), 1)] for x, y in s.points]}
         for s in shown]
    )  # fmt: skip
    drawn = "".join([_axes(scale), *(_line(s, scale) for s in shown)])
    return (
        f'<svg viewBox="0 0 {width} {HEIGHT}" role="img" {attributes} '
        f"data-series='{html.escape(data, quote=True)}'>{drawn}</svg>"
    )


def smoothed(points: Sequence[tuple[float, float]], share: float = 0.04) -> list[tuple[float, float]]:
    """Return an exponential moving average that looks back over `share` of the points, corrected at its beginning."""
    keep = 1 - 1 / max(1.0, share * len(points))
    average, weight, result = 0.0, 0.0, []
    for x, y in points:
        if math.isfinite(y):
            average, weight = keep * average + (1 - keep) * y, keep * weight + (1 - keep)
            result.append((x, average / weight))
    return result


@dataclass(frozen=True)
class _Scale:
    left: float
    right: float
    low: float
    high: float
    is_log: bool
    width: int

    def x(self, value: float) -> float:
        return _LEFT + (value - self.left) / max(1e-12, self.right - self.left) * (self.width - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (_height(value, self.is_log) - self.low) / (self.high - self.low)
        return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)


def _height(value: float, is_log: bool) -> float:
    return math.log10(value) if is_log else value


def _padded(low: float, high: float) -> tuple[float, float]:
    room = 0.06 * (high - low) or max(abs(high) * 0.05, 1e-9)
    return low - room, high + room


def _finite(points: Sequence[tuple[float, float]], is_log: bool) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if abs(y) < _LARGEST and (y > 0 or not is_log)]


def _thinned(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    step = max(1, -(-len(points) // most))
    return list(points[::step]) if step == 1 or points[-1] == points[::step][-1] else [*points[::step], points[-1]]


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round numbers between two bounds, about `count` of them."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough), 10 * power)
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 12) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten between two exponents, only the powers over long ranges."""
    leads = (1, 2, 5) if high - low < 4 else (1,)
    values = [lead * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for lead in leads]
    inside = [value for value in values if low <= math.log10(value) <= high]
    return inside[:: max(1, len(inside) // 8)] if inside else [10**tick for tick in ticks(low, high)]


def _axes(scale: _Scale) -> str:
    parts, right = [], scale.width - _RIGHT
    for value in _log_ticks(scale.low, scale.high) if scale.is_log else ticks(scale.low, scale.high):
        y = scale.y(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{short(value)}</text>')
    most = 7 if scale.width > PHONE else 4
    for tick in ticks(scale.left, scale.right, most) if scale.right > scale.left else [scale.left]:
        x, base = scale.x(tick), HEIGHT - _BOTTOM
        parts.append(f'<text class="tick" x="{x:.1f}" y="{base + 18}" text-anchor="middle">{short(tick)}</text>')
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{base}" y2="{base}"/>')
    return "".join(parts)


def _line(series: Series, scale: _Scale) -> str:
    path = " ".join(f"{scale.x(x):.1f},{scale.y(y):.1f}" for x, y in series.points)
    dots = ""
    if len(series.points) <= 40:
        dots = "".join(f'<circle class="{series.look}" cx="{scale.x(x):.1f}" cy="{scale.y(y):.1f}" r="2.6"/>'
                       for x, y in series.points)  # fmt: skip
    return f'<polyline class="{series.look}" points="{path}"/>{dots}'


def short(value: float) -> str:
    """Return a number for an axis: 12k, 3.5M, 0.002, 1e-05."""
    if value == 0:
        return "0"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}" if abs(value) < 1e12 else f"{value:.0e}"
    return f"{value:.3g}"
