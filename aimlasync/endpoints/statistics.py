"""What one endpoint is doing and has done: the figures of `client.statistics()`, and the sums behind them.

Plain data; imports nothing of this library.
"""

from __future__ import annotations

import msgspec


class EndpointStatistics(msgspec.Struct, kw_only=True):
    """What one endpoint is doing and has done."""

    name: str
    in_flight: int
    queued: int
    limit: int
    limited_by: str | None
    """What the head of the line waits for: concurrency, requests, tokens, rate (learned) or pause; None without one."""
    paused_for: float
    """Seconds until the limiter opens again, 0.0 when it is open."""
    state: str
    """closed (healthy), open, half-open, or the reason why it left the rotation."""
    attempts: int
    answered: int
    refused: int
    """429, 503 and connections that failed."""
    failed: int
    """Other attempts without an answer."""
    retries: int
    hedges: int
    """Second attempts sent because a first one was slow."""
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    """US dollars that the vendor stated; None when it stated none."""


class Counters:
    """Sums over the attempts of one endpoint."""

    __slots__ = (
        "answered",
        "attempts",
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
        self.retries = 0
        self.hedges = 0
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.cost_usd: float | None = None
