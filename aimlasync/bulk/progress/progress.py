"""How fast a job goes and what holds it back: the numbers behind a progress bar.

Law: arithmetic on counters; `now` is handed in. Speeds are those of the last half minute, since a job's first minute
says little about its last.
"""

from __future__ import annotations

from collections import Counter, deque

import msgspec

from aimlasync.endpoints.statistics import EndpointStatistics

_WINDOW = 30.0
# One sample a quarter of a second at most.
_STEP = 0.25

LIMITS = {
    "requests": "requests per minute",
    "tokens": "tokens per minute",
    "concurrency": "concurrency",
    "rate": "rate the server allows",
    "pause": "pause the server asked for",
    "budget": "what calls in flight may cost",
    "input": "input",
}
"""What may hold a job back, in words."""


class Snapshot(msgspec.Struct, kw_only=True):
    """A job at one moment; None is unknown."""

    at: float
    """Unix time."""
    seconds: float
    """Since this run began."""
    total: int | None
    """Rows in all."""
    done: int
    """Rows with a good answer, earlier runs included."""
    failed: int
    in_flight: int
    """Calls at a server."""
    calls_per_second: float
    tokens_per_second: float
    cost_usd: float | None
    eta_seconds: float | None
    limited_by: str | None
    """requests, tokens, concurrency, rate, pause, budget or input; None at the very start."""


class Pace:
    """Measures one run."""

    def __init__(self, now: float) -> None:
        self._began = now
        # (time, rows finished in this run, tokens of this run)
        self._samples: deque[tuple[float, int, int]] = deque([(now, 0, 0)])
        self.limits: Counter[str] = Counter()
        """Samples by what held the job back."""

    def sample(self, now: float, rows: int, tokens: int) -> None:
        """Note how far the run is."""
        if now - self._samples[-1][0] >= _STEP or len(self._samples) == 1:
            self._samples.append((now, rows, tokens))
            while len(self._samples) > 2 and self._samples[0][0] < now - _WINDOW:
                self._samples.popleft()

    def speed(self, now: float, rows: int, tokens: int) -> tuple[float, float]:
        """Return rows and tokens per second."""
        then, rows_then, tokens_then = self._samples[0]
        span = now - then
        return ((rows - rows_then) / span, (tokens - tokens_then) / span) if span > 0 else (0.0, 0.0)

    def seconds(self, now: float) -> float:
        """Return the seconds since the run began."""
        return now - self._began


def limited_by(endpoints: list[EndpointStatistics], busy: int, workers: int) -> str | None:
    """Return what holds a job back: what most calls wait for; else the input, when workers are idle."""
    waiting = Counter[str]()
    for endpoint in endpoints:
        if endpoint.limited_by is not None:
            waiting[endpoint.limited_by] += endpoint.queued
    if waiting:
        return waiting.most_common(1)[0][0]
    if busy >= workers:
        return "concurrency"
    return "input" if busy or workers else None
