"""Inline SVG for a report: columns over time, a histogram of times on a log axis.

x is in percent and y in pixels, so a chart fills any width while type, lines and hatching keep their size. The
`<title>` of a column is its tooltip, with or without script. No text of others is drawn. Imports the histogram of
`facts`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final, NamedTuple

from aimlasync.bulk.report.times import Histogram

# Least distance of two axis labels in percent: "00:00:00" at 360 px of page.
_APART: Final = 21.0
# The width of a mark's label in percent: "p99 1.25 ms" at 360 px of page.
_LABEL: Final = 26.0
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400)
_LOG_STEPS = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9))
_HEAD = 10


class Html(str):
    """Markup; any other str is text that is still to be escaped."""

    __slots__ = ()


Tick = tuple[float, str, str]
"""x, a label of the x axis, and the line below it."""


class Bar(NamedTuple):
    """One column: where, how high its layers are from the bottom up, and its tooltip's lines."""

    x: float
    wide: float
    layers: Sequence[float]
    tip: Sequence[str]


class TimeAxis:
    """Where a time is on the axis: the sessions of a job side by side, gaps between them narrow and marked."""

    def __init__(self, sessions: Sequence[tuple[float, float]], width: float, number: Callable[[float], int]) -> None:
        self.width = width
        self.sessions = sessions
        gap = min(3.0, 24 / len(sessions))
        parts = [(number(start), number(end) + 1) for start, end in sessions]
        self._columns = sum(after - first for first, after in parts)
        self._wide = (100 - gap * (len(sessions) - 1)) / self._columns
        # First column, column after the last, and where the first begins.
        self._parts: list[tuple[int, int, float]] = []
        x = 0.0
        for first, after in parts:
            self._parts.append((first, after, x))
            x += (after - first) * self._wide + gap
        self.gaps = [(x - gap, gap) for _, _, x in self._parts[1:]]
        """(x, width) of each, in percent."""

    def column(self, number: int) -> tuple[float, float, float]:
        """Return x and width of column `number`, and the seconds of it in which the job ran."""
        at = max(at for at, (first, _, _) in enumerate(self._parts) if first <= number or at == 0)
        first, _, x = self._parts[at]
        start, end = self.sessions[at]
        ran = min(end, (number + 1) * self.width) - max(start, number * self.width)
        # A little wider, because rounding to pixels would leave seams. Half a column at least, to compute a rate by.
        return x + (number - first) * self._wide, self._wide + 0.03, max(ran, self.width / 2)

    def ticks(self) -> Iterator[Tick]:
        """Yield times, each with its date when the tick before has another."""
        span = self._columns * self.width
        step = next((step for step in _STEPS if span / step <= 6), 0.0) or 86_400 * math.ceil(span / 86_400 / 6)
        last, day = -math.inf, ""
        for first, after, x in self._parts:
            here = math.ceil(round(first * self.width / step, 6)) * step
            while here <= after * self.width:
                at = x + (here / self.width - first) * self._wide
                if at - last >= _APART and at <= 100:
                    moment = datetime.fromtimestamp(here, UTC)
                    date, clock = f"{moment.day} {moment:%b}", f"{moment:%H:%M}" if step >= 60 else f"{moment:%H:%M:%S}"
                    clock += f".{moment.microsecond // 100_000}" if step < 1 else ""
                    yield at, clock, date if date != day else ""
                    last, day = at, date
                here += step


def over_time(
    axis: TimeAxis, bars: Sequence[Bar], kinds: Sequence[str], *, label: str, height: int, unit: str = ""
) -> Html:
    """Draw columns over time; `kinds` are the CSS classes of their layers."""
    parts = []
    last = -math.inf
    for number, (x, wide) in enumerate(axis.gaps, 1):
        parts.append(_rect(x, _HEAD, wide, height, "gap"))
        if x - last >= 5:
            parts.append(_text(x + wide / 2, _HEAD + 12, f"{number}", "middle", kind="mark"))
            last = x
    return _plot(bars, kinds, ticks=axis.ticks(), height=height, label=label, parts=parts, unit=unit)


def histogram(bins: Sequence[tuple[float, float, int]], *, marks: Sequence[tuple[str, float]], label: str) -> Html:
    """Draw bins of times (from, to, count) on a log axis, with vertical marks (name, seconds)."""
    low, high = math.log10(bins[0][0]), math.log10(bins[-1][1])

    def place(seconds: float) -> float:
        return (math.log10(max(seconds, 1e-3)) - low) / (high - low) * 100

    bars = [
        Bar(
            place(start),
            (place(end) - place(start)) * 0.9,
            [count],
            (f"{duration(start)} to {duration(end)}", f"{count:,} rows"),
        )
        for start, end, count in bins
    ]
    parts, height, head = [], 120, 16 * len(marks) + 12
    places = [place(seconds) for _, seconds in marks]
    # So that no line crosses a label, the first labels are right of their lines, the first on top; then the others are
    # left of theirs, the last on top.
    if places[-1] <= 100 - _LABEL:
        right = len(marks)
    elif places[0] >= _LABEL:
        right = 0
    else:
        right = 1 + max(range(len(marks) - 1), key=lambda at: places[at + 1] - places[at])
    for row, at in enumerate([*range(right), *reversed(range(right, len(marks)))]):
        (name, seconds), x, y = marks[at], places[at], 16 * row + 12
        side, shift = ("start", 5) if at < right else ("end", -5)
        parts.append(_line(x, x, y - 10, head + height, "quantile"))
        parts.append(_text(x, y, f"{name} {duration(seconds)}", side, kind="mark", shift=shift))
    decades = range(math.floor(low), math.ceil(high) + 1)
    for steps in _LOG_STEPS:
        times = [time for decade in decades for step in steps if low <= math.log10(time := step * 10.0**decade) <= high]
        if len(times) >= 4:
            break
    ticks: list[Tick] = []
    for time in times:
        if not ticks or place(time) - ticks[-1][0] >= _APART:
            ticks.append((place(time), _exact(time), ""))
    return _plot(bars, ["ok"], ticks=ticks, height=height, label=label, parts=parts, head=head)


def bins_of(of: Histogram) -> list[tuple[float, float, int]]:
    """Return at most some 50 bins (from, to, count), the outer ones empty."""
    filled = [at for at, count in enumerate(of.counts) if count]
    # A tenth of a decade on both sides, so that one value alone has a scale.
    first, last = max(0, filled[0] - 10), filled[-1] + 10
    step = next(step for step in (1, 2, 5, 10, 20) if (last - first) / step <= 48)
    starts = range(first // step * step, (last // step + 2) * step, step)
    return [(of.edge(at), of.edge(after), sum(of.counts[at:after])) for at, after in pairwise(starts)]


def duration(seconds: float) -> str:
    """Return a time as a person says it, with two or three digits that matter."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    unit, size, below, part = next(
        scale for scale in (("d", 86_400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)) if whole >= scale[1]
    )
    rest = whole % size // part
    return f"{whole // size:,} {unit} {rest} {below}" if rest else f"{whole // size:,} {unit}"


def _plot(
    bars: Sequence[Bar],
    kinds: Sequence[str],
    *,
    ticks: Iterable[Tick],
    height: int,
    label: str,
    parts: Sequence[str] = (),
    head: int = _HEAD,
    unit: str = "",
) -> Html:
    base = head + height
    step, levels = _levels(max(sum(bar.layers) for bar in bars))
    drawn = []
    for level in range(levels + 1):
        y, value = base - level / levels * height, level * step
        drawn.append(_line(0, 100, y, y, "level" if level else "base"))
        drawn.append(_text(0, y + 4, f"{value:,.3g}" if value < 100 else f"{value:,.0f}", "end", shift=-8, after=unit))
    for bar in bars:
        y = float(base)
        for kind, value in zip(kinds, bar.layers, strict=True):
            if value:
                # A value above 0 is drawn one pixel high at least.
                tall = max(1.0, value / (step * levels) * height)
                y -= tall
                drawn.append(_rect(bar.x, y, bar.wide, tall, kind))
        drawn.append(_rect(bar.x, head, bar.wide, height, "hit", "\n".join(bar.tip)))
    bottom = base + 22
    for x, words, below in ticks:
        side = "start" if x < 3 else "end" if x > 97 else "middle"
        drawn += [_line(x, x, base, base + 5, "base"), _text(x, base + 18, words, side)]
        if below:
            drawn.append(_text(x, base + 32, below, side))
            bottom = base + 36
    return Html(
        f'<svg class="chart" role="img" aria-label="{label}" height="{bottom}">{"".join([*drawn, *parts])}</svg>'
    )


def _levels(most: float) -> tuple[float, int]:
    # A round step, and how many of them, two to four, reach `most`.
    power = 10.0 ** math.floor(math.log10(most)) if most > 0 else 1.0
    step = next(step for step in (0.5, 1, 2, 5) if most / (step * power) <= 4.000001)
    return step * power, max(1, math.ceil(round(most / (step * power), 6)))


def _rect(x: float, y: float, wide: float, tall: float, kind: str, tip: str = "") -> str:
    title = f"<title>{tip}</title>" if tip else ""
    return f'<rect class="{kind}" x="{x:.3f}%" y="{y:.1f}" width="{wide:.3f}%" height="{tall:.1f}">{title}</rect>'


def _line(x1: float, x2: float, y1: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.2f}%" x2="{x2:.2f}%" y1="{y1:.1f}" y2="{y2:.1f}"/>'


def _exact(time: float) -> str:
    return f"{time * 1000:.10g} ms" if time < 1 else f"{time:,.10g} s" if time < 1e4 else f"{time / 3600:,.3g} h"


def _text(x: float, y: float, text: str, side: str, *, kind: str = "tick", shift: int = 0, after: str = "") -> str:
    return f'<text class="{kind}" x="{x:.2f}%" dx="{shift}" y="{y:.1f}" text-anchor="{side}">{text}{after}</text>'
