"""When rows were worked on and how long they took, in bounded memory, whatever the number of rows. Pure."""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Final

MOST_COLUMNS: Final = 360
"""Of a timeline."""

# Stretches of work that are told apart, and gaps between them that are shown.
_SPANS = 256
_GAPS = 12


class Histogram:
    """Times on a log scale: `PER_DECADE` buckets for each power of ten from 1 ms to 11 days; the ends take the rest."""

    PER_DECADE: Final = 100

    def __init__(self) -> None:
        self.counts = [0] * (self.PER_DECADE * 9)
        self.total = 0
        self.most = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        at = int((math.log10(seconds) + 3) * self.PER_DECADE) if seconds > 0.001 else 0
        self.counts[at if at < len(self.counts) else -1] += 1
        self.total += 1
        if seconds > self.most:
            self.most = seconds

    def quantile(self, share: float) -> float:
        """Return a time within 1.2% of the one below which `share` of them are. Needs at least one."""
        rank = math.ceil(share * self.total)
        at = next(at for at, seen in enumerate(accumulate(self.counts)) if seen >= rank)
        return min(self.edge(at + 0.5), self.most)

    def edge(self, at: float) -> float:
        """Return the time at which bucket `at` begins."""
        return float(10 ** (at / self.PER_DECADE - 3))


@dataclass(slots=True)
class Column:
    """What finished in one stretch of time."""

    ok: int = 0
    failed: int = 0
    seconds: float = 0.0
    queued: float = 0.0
    limited: float = 0.0


class Timeline:
    """Columns of one width, which grows as the job gets longer.

    Only stretches in which a row finished take a column, so a night's pause coarsens nothing.
    """

    # Tenths of a second. Each divides the next, so coarsening never splits a column.
    _WIDTHS = (1, 5, 10, 50, 150, 300, 600, 3000, 9000, 18_000, 36_000, 108_000, 216_000, 432_000, 864_000)

    def __init__(self) -> None:
        self.columns: dict[int, Column] = {}
        self._tenths = 1

    @property
    def width(self) -> float:
        """Seconds per column."""
        return self._tenths / 10

    def number(self, at: float) -> int:
        """Return the number of the column of time `at`."""
        # Whole tenths first: dividing a float by each width would put a border time into either neighbour.
        return int(at * 10) // self._tenths

    def column(self, at: float) -> Column:
        """Return the column of time `at`, for counting in it."""
        number = self.number(at)
        if number not in self.columns:
            self.columns[number] = Column()
            while len(self.columns) > MOST_COLUMNS:
                self.coarsen()
            number = self.number(at)
        return self.columns[number]

    def coarsen(self) -> None:
        """Make the columns wider."""
        wider = next((width for width in self._WIDTHS if width > self._tenths), self._tenths * 10)
        factor, self._tenths = wider // self._tenths, wider
        fine, self.columns = self.columns, {}
        for number, column in fine.items():
            into = self.columns.setdefault(number // factor, Column())
            for name in Column.__slots__:
                setattr(into, name, getattr(into, name) + getattr(column, name))


class Spans:
    """When any row was being worked on: disjoint stretches of time, in order."""

    _SLACK = 1.0

    def __init__(self) -> None:
        self.spans: list[tuple[float, float]] = []

    def add(self, start: float, end: float) -> None:
        """Count a row that was worked on from `start` to `end`."""
        spans = self.spans
        first = after = bisect_left(spans, start - self._SLACK, key=lambda span: span[1])
        # Rows finish in the order of time, so this is usually one step: a row joins the last stretch.
        while after < len(spans) and spans[after][0] <= end + self._SLACK:
            start, end = min(start, spans[after][0]), max(end, spans[after][1])
            after += 1
        spans[first:after] = [(start, end)]
        if len(spans) > _SPANS:
            at = min(range(len(spans) - 1), key=lambda at: spans[at + 1][0] - spans[at][1])
            spans[at : at + 2] = [(spans[at][0], spans[at + 1][1])]

    def sessions(self, width: float) -> list[tuple[float, float]]:
        """Return the stretches between gaps that are worth showing on an axis of columns of `width` seconds."""
        gaps = [(after[0] - before[1], at) for at, (before, after) in enumerate(pairwise(self.spans), 1)]
        worked = sum(end - start for start, end in self.spans)
        worth = max(5.0, 0.02 * worked, 2 * width)
        starts = sorted(at for gap, at in heapq.nlargest(_GAPS, gaps) if gap >= worth)
        borders = pairwise([0, *starts, len(self.spans)])
        return [(self.spans[first][0], self.spans[after - 1][1]) for first, after in borders if first < after]
