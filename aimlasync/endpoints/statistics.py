"""The figures of one endpoint and of its models that `client.statistics()` returns, and the counters behind them.

Plain data without I/O. It imports nothing of this library.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Statistics(msgspec.Struct, kw_only=True):
    """The load at this moment, and the counters since the client was created."""

    in_flight: int
    queued: int
    limit: int
    """How many attempts may be in flight: stated or learned."""
    limited_by: str | None
    """What the head of the queue waits for: concurrency, requests, tokens, rate (learned) or pause; None when no call
    waits."""
    paused_for: float
    """Seconds until the pause ends, 0.0 without one; an endpoint is paused while all of its models are."""
    state: str
    """ok; open: it failed again and again, and calls go to other endpoints where there are any; half-open: one call
    tries it; retired: the endpoint left the rotation for good."""
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


class ModelStatistics(Statistics, kw_only=True):
    """One model's figures at one endpoint."""

    model: str
    """The model as it was asked for; "" for requests that name none."""
    rate: float | None
    """Attempts per second, as learned from refusals; None while no limit of them is known."""
    learned: str | None
    """What was learned of its limits and has held, in words; None while nothing has."""


class EndpointStatistics(Statistics, kw_only=True):
    """One endpoint's figures: the sums of its models, those of models that are forgotten included."""

    name: str
    models: list[ModelStatistics]
    """The models of late, each with its own limit, pause and state."""


class Counters:
    """Counters over the attempts of one model at one endpoint; the pipeline adds to them."""

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

    @property
    def share_refused(self) -> float:
        """The share of refused attempts among those that were refused or answered, 0.0 without any."""
        return self.refused / max(1, self.refused + self.answered)

    def all(self) -> dict[str, Any]:
        """Return the counters by name."""
        return {name: getattr(self, name) for name in self.__slots__}

    def add(self, other: Counters) -> None:
        """Add the counters of another model."""
        for name, count in other.all().items():
            if count is not None:
                setattr(self, name, (getattr(self, name) or 0) + count)
