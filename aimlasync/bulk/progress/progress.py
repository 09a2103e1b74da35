"""The speed of a job, the time left, and which limit holds it back: the numbers behind a progress bar.

`Progress` is arithmetic on counters; the monotonic time is an argument. Speeds are those of the last half minute,
since a job's first minute says little about its last. Imports `Totals` and the statistics of an endpoint.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence

import msgspec

from aimlasync.bulk.progress.totals import Totals
from aimlasync.endpoints.statistics import EndpointStatistics

_WINDOW = 30.0
# Seconds between two samples, at least.
_STEP = 0.25

LIMITS = {
    "requests": "requests per minute",
    "tokens": "tokens per minute",
    "concurrency": "concurrency",
    "rate": "rate the server allows",
    "pause": "pause after a refusal",
    "retry": "waits before a retry",
    "store": "the store of answers",
    "budget": "what calls in flight may cost",
    "input": "no rows to send",
    "processes": "no process that could ask",
}
"""What may hold a job back, in words."""


class Activity(msgspec.Struct, kw_only=True):
    """What a runner is doing at one moment; rows that other processes have done are not in the totals yet."""

    in_flight: int = 0
    """Calls at a server."""
    limits: Sequence[str] = ()
    """What holds each process back: a key of `LIMITS`."""
    ok: int = 0
    """Of other processes in this run, as are the next three."""
    failed: int = 0
    tokens: int = 0
    cost_usd: float | None = None
    learned: tuple[str, ...] = ()
    """What was learned of limits, in words; of workers once they have ended."""


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
    """A key of `LIMITS`; None at the very start."""


class Progress:
    """How fast one run goes, and what held it back."""

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

    def snapshot(self, now: float, totals: Totals, activity: Activity) -> Snapshot:
        """Take a sample, and return where the job is."""
        finished = totals.finished + activity.ok + activity.failed
        tokens = totals.tokens - totals.tokens_before + activity.tokens
        self.sample(now, finished, tokens)
        rows_per_second, tokens_per_second = self.speed(now, finished, tokens)
        self.limits.update(activity.limits)
        costs = [cost for cost in (totals.cost, activity.cost_usd) if cost is not None]
        pending = None if totals.left is None else totals.left - finished
        return Snapshot(
            at=time.time(),
            seconds=self.seconds(now),
            total=totals.total,
            done=totals.ok + activity.ok,
            failed=totals.failed + activity.failed,
            in_flight=activity.in_flight,
            calls_per_second=rows_per_second,
            tokens_per_second=tokens_per_second,
            cost_usd=sum(costs) if costs else None,
            eta_seconds=pending / rows_per_second if pending is not None and rows_per_second > 0 else None,
            limited_by=max(activity.limits, key=activity.limits.count) if activity.limits else None,
        )


def limited_by(endpoints: list[EndpointStatistics], busy: int, workers: int, at_store: int = 0) -> str | None:
    """Return what holds a job back: what most calls wait for; else the input, when workers are idle.

    Of `workers`, `busy` have a row, and of these `at_store` wait for the store. Those that neither do that nor wait for
    their turn nor are at a server have failed before.
    """
    waiting = Counter[str]()
    for endpoint in endpoints:
        if endpoint.limited_by is not None:
            waiting[endpoint.limited_by] += endpoint.queued
    if waiting:
        return waiting.most_common(1)[0][0]
    in_flight = sum(endpoint.in_flight for endpoint in endpoints)
    if 2 * in_flight < busy:
        return "store" if 2 * at_store >= busy - in_flight else "retry"
    if busy >= workers:
        return "concurrency"
    return "input" if busy or workers else None
