"""How much may be in flight at one endpoint.

Law: arithmetic and one queue; no I/O. All mutable state is the count of permits out and the queue of those who wait.
"""

from __future__ import annotations

import asyncio
import enum
from collections import deque

import msgspec

# Permits when none are asked for: enough to be fast, and what one connection pool carries without strain.
DEFAULT_CONCURRENCY = 64


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What an endpoint may be asked for; None means that nothing is known."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    concurrency: int | None = None
    """Attempts in flight at most."""

    def __post_init__(self) -> None:
        for name in ("requests_per_minute", "tokens_per_minute", "concurrency"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} must be above zero and finite, not {value}")
        if self.concurrency is not None and self.concurrency != int(self.concurrency):
            raise ValueError(f"concurrency must be a whole number, not {self.concurrency}")


class Outcome(enum.Enum):
    """What an attempt says about the server's capacity."""

    OK = enum.auto()
    """A good answer."""
    DROPPED = enum.auto()
    """Too much was asked: 429, 503, or no connection."""
    IGNORED = enum.auto()
    """Says nothing: a bad request, a cancelled caller."""


class Permits:
    """A counter with a first-come-first-served queue.

    A permit that is released while callers wait goes straight to the first of them; it is never free in between, so no
    newcomer overtakes.
    """

    __slots__ = ("_waiters", "in_flight", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_flight = 0
        self._waiters: deque[asyncio.Future[None]] = deque()

    @property
    def queued(self) -> int:
        """Callers waiting."""
        return sum(not waiter.done() for waiter in self._waiters)

    def acquire_nowait(self) -> bool:
        """Take a permit if one is free and nobody waits for it."""
        if self.in_flight < self.limit and not self._waiters:
            self.in_flight += 1
            return True
        return False

    async def acquire(self) -> None:
        """Take a permit, waiting in line for it. Cancelled, it leaves nothing behind."""
        if self.acquire_nowait():
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled():
                # The permit had been handed over in the same turn of the loop: pass it on.
                self.release()
            elif waiter in self._waiters:
                # Not there where a release met it, cancelled, on its way to the next one.
                self._waiters.remove(waiter)
            raise

    def release(self, outcome: Outcome = Outcome.IGNORED) -> None:
        """Give a permit back, with what its attempt taught."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self.in_flight -= 1
