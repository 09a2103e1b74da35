"""One account's limits, shared by several processes: what they ask of the shared place, and what it answers.

Law: plain data and a protocol. The arithmetic of the shared place is `account`, a worker's side of it `leases`; places
are `aimlasync.redis` and `aimlasync.lease_server`.

A worker leases a small slice of the account's requests and tokens, spends it within a second in its own line, and says
with its next question what it spent. So the shared place is asked a few times a second, whatever the rate, and a
worker that dies takes one lease with it.
"""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec


class Ask(msgspec.Struct, array_like=True, kw_only=True):
    """What a worker tells the shared place, and what it wants."""

    worker: str
    requests_per_minute: float | None
    """Of the whole account."""
    tokens_per_minute: float | None
    calls: int = 0
    """How many attempts it would like to send now; 0 asks for nothing."""
    tokens: float = 0.0
    """Of the first of them."""
    epoch: str = ""
    """The life of the shared place in which `lease` and `corrections` belong."""
    lease: int = 0
    """The lease that ends with this, 0 for none."""
    spent_requests: float = 0.0
    spent_tokens: float = 0.0
    """Of that lease."""
    corrections: dict[int, float] = {}
    """Step -> tokens that the attempts counted there took beyond what they were counted at; negative for fewer."""
    pause: float = 0.0
    """Seconds for which the server told the account to wait."""
    workers: int = 1
    """How many there were when the shared place was last heard."""
    returns: bool = False
    """Whether it could not be heard until now, and the worker kept to its part alone."""


class Lease(msgspec.Struct, array_like=True, kw_only=True):
    """What a worker may send, and when."""

    epoch: str
    number: int
    requests: float = 0.0
    tokens: float = 0.0
    starts: float = 0.0
    """Seconds from now."""
    seconds: float = 0.0
    """How long it may be spent from then on."""
    step: int = 0
    """Where it is counted."""
    ended: int = 0
    """Where the lease is counted that ended with the question."""
    workers: int = 1
    held_by: Literal["requests", "tokens", "pause"] = "requests"
    """Why it does not start at once."""


class Draw(msgspec.Struct, array_like=True, kw_only=True):
    """What a worker holds of something that is spent once and for all, and how much more it needs; whole units.

    It states what it holds and not what it gives, so that a question that was asked twice does no harm.
    """

    worker: str
    purse: str
    """Which of them: "usd"."""
    total: int
    """All there is of it."""
    keeps: int
    """What the worker has drawn so far and does not give back."""
    needs: int = 0


class QuotaDownError(Exception):
    """The shared place does not answer, and nothing may be given out without it."""


class Quota(Protocol):
    """A place that leases out one account's requests, tokens and money."""

    async def lease(self, ask: Ask) -> Lease:
        """Take in what was spent, and grant what may be sent next; never above the limits, whoever else asks."""

    async def draw(self, draw: Draw) -> int:
        """Return how much more the worker may spend, 0 when less is left than it needs. Raises QuotaDownError."""

    async def close(self) -> None:
        """Let go of connections."""
