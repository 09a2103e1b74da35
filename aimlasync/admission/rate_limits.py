"""Requests and tokens per minute: a sliding window that keeps the limit, and a token bucket that spreads it.

It is arithmetic on times that the caller passes. This is the only file that imports aiolimiter, and it uses its public
API alone. The window mirrors the server's: it holds what was sent in the last minute, and counts each attempt at its
real cost as soon as that is known. The bucket spreads what the window would allow at once, because servers also enforce
shorter intervals. It imports nothing of this library.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import Any, Literal

import msgspec
from aiolimiter import AsyncLimiter

# The server counts a request when it arrives, and the window when it is sent. A request that was slow on its way leaves
# the server's window later, so this window is a second longer.
_WINDOW = 60.0 + 1.0

Unit = Literal["requests", "tokens"]
"""What is limited per minute."""

# What sums of floats may be wrong by.
_NOTHING = 1e-6

# The bucket's rate, as a share of the limit. It is below the limit, so that the window rarely has to hold an attempt
# back.
_RATE_SHARE = 0.985

# The size of a bucket, in seconds of its rate.
BURST_REQUESTS = 0.05
BURST_TOKENS = 0.2

# A bucket takes from aiolimiter what its rate gives in so many seconds at once, where there is room, and spends that by
# arithmetic: aiolimiter costs a coroutine each time.
_AHEAD_SECONDS = 0.01

# A window whose limits per minute are higher counts what is sent within so many seconds as one entry, as late as the
# last of it.
_DENSE_LIMIT = 12_000.0
_SLOT_SECONDS = 0.05

# From this rate per second on, a bucket holds two at least: a timer is about a millisecond late, and a bucket of one
# cannot make up for it.
_SLOW_RATE = 5.0

# Credit expires when an endpoint sent nothing for so long: the server's minute has passed as well.
_CREDIT_SECONDS = 60.0


class Window:
    """What was admitted in the last minute: entries of a time and amounts, which change when they are settled."""

    __slots__ = (
        "_entries",
        "_max_requests",
        "_max_tokens",
        "_newest",
        "_newest_until",
        "_one",
        "_slot",
        "requests",
        "tokens",
    )

    def __init__(self, max_requests: float | None, max_tokens: float | None) -> None:
        self._max_requests = float("inf") if max_requests is None else max_requests
        self._max_tokens = float("inf") if max_tokens is None else max_tokens
        # An amount above the limit fits into an empty window.
        self._one = min(1.0, self._max_requests)
        self.requests = 0.0
        self.tokens = 0.0
        self._entries: deque[Entry] = deque()
        self._slot = _SLOT_SECONDS if min(self._max_requests, self._max_tokens) > _DENSE_LIMIT else 0.0
        # The entry that takes in what is admitted until then.
        self._newest = Entry(0.0, 0.0, 0.0)
        self._newest_until = float("-inf")

    def wait(self, tokens: float, now: float) -> float:
        """Return the seconds until a request of `tokens` fits, 0.0 if it fits now."""
        entries, most = self._entries, self._max_tokens
        while entries and entries[0].time <= now - _WINDOW:
            self._forget(entries.popleft())
        over = self.requests + self._one - self._max_requests
        over_tokens = self.tokens + (tokens if tokens < most else most) - most
        if over <= _NOTHING and over_tokens <= _NOTHING:
            return 0.0
        for entry in entries:
            over -= entry.requests
            over_tokens -= entry.tokens
            if over <= _NOTHING and over_tokens <= _NOTHING:
                return max(entry.time + _WINDOW - now, 1e-3)
        return _WINDOW

    def short_of(self, tokens: float, now: float) -> Unit | None:
        """Return of what a request of `tokens` is too much now, None if it fits."""
        if self.wait(tokens, now) <= 0:
            return None
        return "requests" if self.requests + self._one - self._max_requests > _NOTHING else "tokens"

    def admit(self, tokens: float, now: float) -> Entry:
        """Count a request of `tokens` from `now` on; return the entry that it is a part of."""
        self.requests += 1.0
        self.tokens += tokens
        if now < self._newest_until and self._newest.counts:
            entry = self._newest
            entry.requests += 1.0
            entry.tokens += tokens
            return entry
        entry = Entry(now + self._slot, 1.0, tokens)
        if self._slot:
            self._newest, self._newest_until = entry, now + self._slot
        self._entries.append(entry)
        return entry

    def settle(self, entry: Entry, requests: float, tokens: float) -> None:
        """Count so many more in an entry, or fewer, if negative."""
        entry.requests += requests
        entry.tokens += tokens
        if entry.counts:
            self.requests += requests
            self.tokens += tokens

    def _forget(self, entry: Entry) -> None:
        entry.counts = False
        # Sums of floats drift, so the totals of an empty window are set to zero.
        self.requests = max(0.0, self.requests - entry.requests) if self._entries else 0.0
        self.tokens = max(0.0, self.tokens - entry.tokens) if self._entries else 0.0


# Numbers alone: the collector need not look at the thousands of a minute.
class Entry(msgspec.Struct, eq=False, gc=False):
    """What was admitted at one time."""

    time: float
    requests: float
    tokens: float
    counts: bool = True


class Bucket:
    """aiolimiter's bucket with a balance: debt, which the next attempts pay, and credit, which they spend first."""

    __slots__ = ("_ahead", "_cap", "_limiter", "_max_credit", "_rate", "_taken", "_used", "credit", "debt")

    def __init__(self, per_minute: float, burst_seconds: float) -> None:
        rate = per_minute * _RATE_SHARE / 60
        burst = max(1.0, rate * burst_seconds)
        if rate >= _SLOW_RATE:
            burst = max(burst, 2.0)
        self._rate = rate
        self._cap = burst
        self._limiter = AsyncLimiter(burst, burst / rate)
        self._max_credit = per_minute
        self._ahead = min(burst / 4, rate * _AHEAD_SECONDS)
        # When it was last tried, and when something was last taken from it.
        self._used = self._taken = float("-inf")
        self.debt = 0.0
        self.credit = 0.0

    def take(self, amount: float, now: float) -> float:
        """Take `amount` and return 0.0, or take nothing and return how much must be acquired first."""
        if now - self._used > _CREDIT_SECONDS:
            self.credit = 0.0
        self._used = now
        if self.debt <= 0.0 and amount <= self.credit:
            self.credit -= amount
            return 0.0
        if self.debt > 0:
            # While nothing was taken, the bucket leaked until it was empty; the time after that pays debt.
            unused = (now - self._taken) * self._rate - self._cap
            if unused > 0:
                self.debt = max(0.0, self.debt - unused)
                self._taken += unused / self._rate
        while self.debt > 0:
            # Debt is paid before anything is admitted, in steps that fit into the bucket.
            paid = min(self.debt, self.credit)
            self.debt -= paid
            self.credit -= paid
            step = min(self._cap, self.debt)
            if not self._limiter.has_capacity(step):
                return step
            _finish(self._limiter.acquire(step))
            self._taken = now
            self.debt -= step
        short = max(0.0, amount - self.credit)
        step = min(self._cap, short)
        ahead = self._ahead
        if step + ahead > self._cap or not self._limiter.has_capacity(step + ahead):
            ahead = 0.0
            if not self._limiter.has_capacity(step):
                return step
        _finish(self._limiter.acquire(step + ahead))
        if step > 0:
            self._taken = now
        self.credit = max(0.0, self.credit - amount) + ahead
        # What did not fit into the bucket is debt for later attempts (pay forward).
        self.debt = short - step
        return 0.0

    async def acquire(self, step: float) -> None:
        """Wait until the bucket has room for `step`, take it, and keep it as credit."""
        await self._limiter.acquire(step)
        self._taken = asyncio.get_running_loop().time()
        self.credit += step

    def adjust(self, difference: float) -> None:
        """Note that an attempt took `difference` more (or less, if negative) than it was admitted at."""
        if difference > 0:
            spent = min(self.credit, difference)
            self.credit -= spent
            self.debt += difference - spent
        else:
            paid = min(self.debt, -difference)
            self.debt -= paid
            self.credit = min(self._max_credit, self.credit - difference - paid)


def _finish(acquire: Coroutine[Any, Any, None]) -> None:
    """Run to its end a coroutine that has nothing to wait for."""
    try:
        acquire.send(None)
    except StopIteration:
        return
    raise AssertionError("has_capacity said that there was nothing to wait for")
