"""The figures of one endpoint that `client.statistics()` returns, and the counters behind them.

Plain data without I/O. It imports nothing of this library.
"""

from __future__ import annotations

import msgspec


class EndpointStatistics(msgspec.Struct, kw_only=True):
    """One endpoint's load at this moment, and its counters since the client was created."""

    name: str
    in_flight: int
    queued: int
    limit: int
    limited_by: str | None
    """What the head of the queue waits for: concurrency, requests, tokens, rate (learned) or pause; None when no call
    waits."""
    paused_for: float
    """Seconds until the limiter's pause ends, 0.0 without a pause."""
    state: str
    """ok; open: it failed again and again, and calls go to other endpoints where there are any; half-open: one call
    tries it; retired: it left the rotation for good."""
    attempts: int
    answered: int
    refused: int
    """Attempts that ended with 429, 503 or a failed connection."""
    failed: int
    """Other attempts without an answer."""
    cancelled: int
    """Attempts whose answer nobody wanted any more: the caller or reader left, or a hedged call had its answer."""
    retries: int
    hedges: int
    """Second attempts sent because a first one was slow."""
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    """US dollars that the vendor charged by its own statements; None when it stated none."""


class Counters:
    """Counters over the attempts of one endpoint; the pipeline adds to them."""

    __slots__ = (
        "answered",
        "attempts",
        "cancelled",
        "completion_tokens",
        "cost_usd",
        "failed",
        "hedges",
        "prompt_tokens",
        "refused",
        "retries",
    )

    def __init__(self) -> None:
        self.attempts = 0
        self.answered = 0
        self.refused = 0
        self.failed = 0
        self.cancelled = 0
        self.retries = 0
        self.hedges = 0
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.cost_usd: float | None = None
