"""Pictures of the figures, as SVG without a library: bars with their numbers, and lines over a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

COLOURS = ("#0b6", "#06c", "#c60", "#939", "#c33", "#888", "#096", "#630")
WIDTH = 820


def bars(path: Path, title: str, unit: str, rows: Mapping[str, Mapping[str, float]]) -> None:
    """One group for each name, one bar for each loop, on a logarithmic scale because clients differ a hundredfold."""
    values = [value for row in rows.values() for value in row.values() if value > 0]
    if not values:
        return
    loops = list(dict.fromkeys(loop for row in rows.values() for loop in row))
    low, high = math.log10(min(values) / 2), math.log10(max(values))
    left, span, thick = 190, WIDTH - 190 - 90, 16
    parts = [_text(16, 26, f"{title} ({unit}, logarithmic)", bold=True)]
    parts += [_key(left + 130 * n, 46, loop, COLOURS[n]) for n, loop in enumerate(loops)]
    y = 64
    for name, row in rows.items():
        parts.append(_text(left - 8, y + thick * len(row) / 2 + 4, name, anchor="end"))
        for loop, value in row.items():
            length = (math.log10(value) - low) / (high - low) * span if value > 0 and high > low else 0
            colour = COLOURS[loops.index(loop)]
            parts.append(f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{thick - 2}" fill="{colour}"/>')
            parts.append(_text(left + length + 5, y + thick - 5, f"{value:,.1f}"))
            y += thick
        y += 10
    _write(path, y + 6, parts)


def lines(path: Path, title: str, x_name: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """Both axes logarithmic: what is twice as much is as far apart everywhere."""
    points = [point for line in series.values() for point in line if point[1] > 0]
    if not points:
        return
    left, top, width, height = 70, 50, WIDTH - 70 - 220, 360
    xs = sorted({x for x, _ in points})
    low, high = (math.log10(limit) for limit in (min(y for _, y in points) / 1.3, max(y for _, y in points) * 1.3))
    first, last = math.log2(xs[0]), math.log2(max(xs[-1], xs[0] * 2))

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            left + (math.log2(x) - first) / (last - first) * width,
            top + height - (math.log10(y) - low) / (high - low) * height,
        )

    parts = [_text(16, 26, title, bold=True), _text(left + width / 2, top + height + 40, x_name, anchor="middle")]
    for x in xs:
        at = place(x, 10**low)[0]
        parts.append(_text(at, top + height + 18, f"{x:g}", anchor="middle"))
        parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{top}" y2="{top + height}" stroke="#eee"/>')
    for power in range(math.floor(low), math.ceil(high) + 1):
        for step in (1, 2, 5):
            level = step * 10.0**power
            if low <= math.log10(level) <= high:
                at = place(xs[0], level)[1]
                parts.append(f'<line x1="{left}" x2="{left + width}" y1="{at:.1f}" y2="{at:.1f}" stroke="#ddd"/>')
                parts.append(_text(left - 8, at + 4, f"{level:,.0f}", anchor="end"))
    for number, (name, line) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        corners = [place(x, y) for x, y in line if y > 0]
        path_of = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
        parts.append(f'<polyline points="{path_of}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in corners]
        parts.append(_key(left + width + 16, top + 12 + 20 * number, name, colour))
    _write(path, top + height + 54, parts)


def over_time(path: Path, title: str, panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]) -> None:
    """Panels below each other, each with lines over the same seconds; both axes are linear and begin at zero."""
    left, width, height, y = 70, WIDTH - 70 - 160, 150, 50.0
    parts = [_text(16, 26, title, bold=True)]
    last = max((x for panel in panels.values() for line in panel.values() for x, _ in line), default=1.0)
    for name, panel in panels.items():
        most = max((value for line in panel.values() for _, value in line), default=0.0) or 1.0
        parts.append(_text(left, y + 4, name))
        top = y + 12
        for share in (0.0, 0.5, 1.0):
            at = top + height * (1 - share)
            parts.append(f'<line x1="{left}" x2="{left + width}" y1="{at:.1f}" y2="{at:.1f}" stroke="#ddd"/>')
            parts.append(_text(left - 8, at + 4, f"{most * share:,.0f}", anchor="end"))
        for number, (label, line) in enumerate(panel.items()):
            corners = " ".join(
                f"{left + x / last * width:.1f},{top + height * (1 - value / most):.1f}" for x, value in line
            )
            colour = COLOURS[number % len(COLOURS)]
            parts.append(f'<polyline points="{corners}" fill="none" stroke="{colour}" stroke-width="2"/>')
            parts.append(_key(left + width + 16, top + 12 + 20 * number, label, colour))
        y = top + height + 30
    parts.append(_text(left + width / 2, y, f"seconds, 0 to {last:.0f}", anchor="middle"))
    _write(path, y + 16, parts)


def _text(x: float, y: float, text: str, *, anchor: str = "start", bold: bool = False) -> str:
    weight = ' font-weight="bold" font-size="15"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{weight}>{escape(text)}</text>'


def _key(x: float, y: float, name: str, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y - 9:.1f}" width="10" height="10" fill="{colour}"/>{_text(x + 15, y, name)}'


def _write(path: Path, height: float, parts: Sequence[str]) -> None:
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" font-family="sans-serif" '
        f'font-size="12"><rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n',
        encoding="utf-8",
    )
