"""The limiter of one endpoint: which attempt may be sent, when, and what the others wait for.

`held_by` names what the next attempt waits for; users see it as `limited_by` of `client.statistics()`. How long one
call waited is in its `info.timing`: `queued` for the concurrency limit, `limited` for a rate limit or a pause. It is
arithmetic on the event loop's clock, without I/O. It may import `config`, `quota` and the other files of this package.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal, Protocol

import msgspec

from aimlasync.admission.fair_queue import FairQueue
from aimlasync.admission.rate_limits import BURST_REQUESTS, BURST_TOKENS, Bucket, Entry, Window
from aimlasync.config import Limits, Priority
from aimlasync.quota.lease import Allotment, Leases


class Admission(msgspec.Struct, eq=False):
    """An admitted attempt: its part of entries in the request and token windows, or its allotment of a lease."""

    request: Entry | None
    tokens: Entry | None
    amount: float = 0.0
    """The tokens that it is counted at."""
    allotment: Allotment | None = None
    """Set instead of the two entries where the rate limits are shared."""


class LearnedRate(Protocol):
    """A rate limit that is learned from refusals: what the limiter needs of `AdaptiveLimit`."""

    def delay(self, now: float) -> float:
        """Return the seconds until the next attempt may be sent."""

    def sent(self, now: float) -> None:
        """Note that an attempt is sent."""


class _Shortfall:
    """The bucket that keeps the head of the queue waiting, and the amount to acquire from it."""

    __slots__ = ("bucket", "step")

    def __init__(self, bucket: Bucket, step: float) -> None:
        self.bucket = bucket
        self.step = step


class Limiter:
    """One endpoint's limiter. Its mutable state: the count in flight, windows, buckets, the pause, and the queue.

    `learned_rate` is told of every admission in the instant in which it is made. With `leases` the rate limits are
    shared with other processes, and the shared place keeps the windows and buckets.

    An attempt is admitted in the instant in which all of these hold:

     - Fewer than `limit` attempts are in flight.
     - The sliding windows have room: in no minute more is sent than the rate limits allow. An attempt counts at its
       estimated tokens, and at its real tokens as soon as they are known.
     - The token buckets have room: they spread over the minute what the windows would allow at once.
     - The learned rate, where there is one, allows the next attempt.
     - There is no pause. A pause holds for the whole endpoint, and no caller that is cancelled ends it.

    Only the head of the queue is tried, so that small requests cannot starve a large one. A waiting call holds nothing,
    and its tokens are estimated again each time it is tried: an estimate made before the first answer may be far off. A
    request larger than the bucket is admitted when the bucket is full, and the requests behind it pay the rest (pay
    forward). A request larger than a minute's limit is sent alone in its minute. After an attempt, the difference
    between its estimated and its real tokens becomes debt, or credit for later attempts, at most a minute's worth. With
    a shared quota (`quota.lease`), the shared place keeps the windows and buckets, and an attempt takes its part of a
    lease instead. The queue, the concurrency limit and the pauses remain here.
    """

    __slots__ = (
        "_acquiring",
        "_learned_rate",
        "_leases",
        "_request_bucket",
        "_request_window",
        "_short_of",
        "_timer",
        "_token_bucket",
        "_token_window",
        "counts_tokens",
        "in_flight",
        "is_rated",
        "limit",
        "paused_until",
        "queue",
    )

    def __init__(
        self, limits: Limits, *, limit: int, learned_rate: LearnedRate | None = None, leases: Leases | None = None
    ) -> None:
        rpm, tpm = (limits.requests_per_minute, limits.tokens_per_minute) if leases is None else (None, None)
        self._leases = leases
        if leases is not None:
            leases.on_change(self.advance)
        self._request_window = None if rpm is None else Window(rpm)
        self._request_bucket = None if rpm is None else Bucket(rpm, BURST_REQUESTS)
        self._token_window = None if tpm is None else Window(tpm)
        self._token_bucket = None if tpm is None else Bucket(tpm, BURST_TOKENS)
        self._learned_rate = learned_rate
        self.counts_tokens = tpm is not None or (leases is not None and leases.counts_tokens)
        """Whether the limiter uses an estimate of tokens."""
        self.is_rated = rpm is not None or tpm is not None or leases is not None
        """Whether requests or tokens per minute are limited, by this limiter or by a shared quota."""
        self.limit = limit
        self.in_flight = 0
        self.paused_until = float("-inf")
        self.queue: FairQueue[Admission] = FairQueue()
        """The waiting calls; callers may read it and must not change it."""
        # What will try the head of the queue again: a timer, or a task that acquires from a bucket.
        self._timer: asyncio.TimerHandle | None = None
        self._acquiring: asyncio.Task[None] | None = None
        self._short_of: Literal["requests", "tokens"] | None = None

    @property
    def waiting(self) -> int:
        """How many attempts wait in the queue."""
        return len(self.queue)

    def enter_nowait(self, tokens: float, now: float) -> Admission | None:
        """Admit an attempt of about `tokens` if that is possible at once and no other call waits; else return None."""
        learned_rate = self._learned_rate
        if self.in_flight >= self.limit or self.paused_until > now:
            return None
        if learned_rate is not None and learned_rate.delay(now) > 0:
            return None
        if self.queue and self.queue.head() is not None:
            return None
        if self._leases is not None:
            allotment = self._leases.take(tokens, now)
            return None if allotment is None else self._admit(tokens, now, allotment)
        if not self.is_rated:
            self.in_flight += 1
            if learned_rate is not None:
                learned_rate.sent(now)
            return _UNCOUNTED
        if self._wait(tokens, now) > 0 or self._pay(tokens, now) is not None:
            return None
        return self._admit(tokens, now)

    async def enter(
        self, tokens: float | Callable[[], float], priority: Priority = "interactive", tenant: str | None = None
    ) -> Admission:
        """Wait in the queue until an attempt of about `tokens` may be sent; a cancelled wait holds nothing.

        Where `tokens` is a function, it is called each time the call is tried, so that newer estimates are used.
        """
        waiter = self.queue.join(priority, tokens if callable(tokens) else lambda: tokens, tenant)
        # The new waiter may be the head, also before waiters that were there.
        self.advance()
        try:
            return await waiter.turn
        except BaseException:
            if waiter.turn.done() and not waiter.turn.cancelled():
                # It was admitted and cancelled in the same iteration of the event loop: nothing was sent.
                self.withdraw(waiter.turn.result())
            else:
                waiter.turn.cancel()
                self.queue.left(waiter)
                self.advance()
            raise

    def leave(self, admission: Admission, tokens: float | None = None) -> None:
        """End an admitted attempt; `tokens` is how many it really took, None when that is not known."""
        self.in_flight -= 1
        if tokens is not None and admission.tokens is not None:
            self.settle(admission, admission.tokens, tokens)
        elif tokens is not None and admission.allotment is not None and self._leases is not None:
            self._leases.settle(admission.allotment, tokens)
        if self.queue:
            self.advance()

    def withdraw(self, admission: Admission) -> None:
        """End an admitted attempt that was never sent: it counts neither as a request nor by its tokens."""
        if admission.request is not None and self._request_window is not None and self._request_bucket is not None:
            self._request_window.settle(admission.request, -1.0)
            self._request_bucket.adjust(-1.0)
        if admission.allotment is not None and self._leases is not None:
            self._leases.withdraw(admission.allotment)
        self.leave(admission, 0.0)

    def resize(self, limit: int) -> None:
        """Set how many attempts may be in flight; a lower limit lets those in flight end and admits no others."""
        if limit != self.limit:
            grown = limit > self.limit
            self.limit = limit
            if grown and self.queue:
                self.advance()

    def pause(self, until: float) -> None:
        """Admit nothing before `until` (loop time); a shorter pause never shortens a longer one."""
        self.paused_until = max(self.paused_until, until)
        if self._leases is not None:
            self._leases.pause(until)

    async def close(self) -> None:
        """Return what was leased and not spent to the shared quota."""
        if self._leases is not None:
            await self._leases.close()

    def advance(self) -> None:
        """Admit from the head of the queue while nothing stands against it; then arrange that the head is tried again.

        A timer tries it again after a pause or a delay, a task when a bucket has room, `leave` when an attempt ends,
        and `Leases` when a lease begins.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self.in_flight < self.limit and (waiter := self.queue.head()) is not None:
            loop = waiter.turn.get_loop()
            now = loop.time()
            tokens = waiter.need()
            wait = max(self.paused_until - now, self._delay(now), self._wait(tokens, now))
            if wait > 0:
                self._timer = loop.call_later(wait, self.advance)
                return
            allotment: Allotment | None = None
            if self._leases is not None and (allotment := self._leases.take(tokens, now)) is None:
                self._leases.want(min(self.limit - self.in_flight, len(self.queue)), tokens, now)
                return
            shortfall = self._pay(tokens, now)
            if shortfall is not None:
                self._short_of = "tokens" if shortfall.bucket is self._token_bucket else "requests"
                if self._acquiring is None:
                    acquire = shortfall.bucket.acquire(shortfall.step)
                    self._acquiring = loop.create_task(acquire, name="aimlasync limiter")
                    self._acquiring.add_done_callback(self._acquired)
                return
            self.queue.serve(waiter, self._admit(tokens, now, allotment))
        if self._acquiring is not None and not self.queue:
            # No call waits for the bucket any more.
            self._acquiring.cancel()

    def held_by(self, now: float) -> Literal["pause", "concurrency", "rate", "requests", "tokens"] | None:
        """Return what the head of the queue waits for, None when nobody waits."""
        waiter = self.queue.head() if self.queue else None
        return None if waiter is None else self.stands_against(waiter.need(), now)

    def stands_against(
        self, tokens: float, now: float
    ) -> Literal["pause", "concurrency", "rate", "requests", "tokens"] | None:
        """Return what an attempt of about `tokens` would have to wait for, None where that is not known."""
        if self.paused_until > now:
            return "pause"
        if self.in_flight >= self.limit:
            return "concurrency"
        if self._delay(now) > 0:
            return "rate"
        if self._request_window is not None and self._request_window.wait(1.0, now) > 0:
            return "requests"
        if self._token_window is not None and self._token_window.wait(tokens, now) > 0:
            return "tokens"
        if self._leases is not None:
            return self._leases.held_by
        if self._acquiring is not None:
            return self._short_of
        if self._token_bucket is not None and (self._request_bucket is None or self._token_bucket.debt > 0):
            return "tokens"
        return None if self._request_bucket is None else "requests"

    def _acquired(self, task: asyncio.Task[None]) -> None:
        self._acquiring = None
        if self.queue or not task.cancelled():
            self.advance()

    def _delay(self, now: float) -> float:
        """Return the seconds until the learned rate allows the next attempt."""
        return 0.0 if self._learned_rate is None else self._learned_rate.delay(now)

    def _wait(self, tokens: float, now: float) -> float:
        """Return the seconds until both windows have room."""
        wait = 0.0
        if self._request_window is not None:
            wait = self._request_window.wait(1.0, now)
        if self._token_window is not None:
            wait = max(wait, self._token_window.wait(tokens, now))
        return wait

    def _pay(self, tokens: float, now: float) -> _Shortfall | None:
        """Take from both buckets and return None, or take from neither and return what is missing."""
        bucket, token_bucket = self._request_bucket, self._token_bucket
        if bucket is not None and (step := bucket.take(1.0, now)) > 0:
            return _Shortfall(bucket, step)
        if token_bucket is not None and (step := token_bucket.take(tokens, now)) > 0:
            if bucket is not None:
                bucket.adjust(-1.0)
            return _Shortfall(token_bucket, step)
        return None

    def _admit(self, tokens: float, now: float, allotment: Allotment | None = None) -> Admission:
        self.in_flight += 1
        if self._learned_rate is not None:
            self._learned_rate.sent(now)
        if allotment is not None:
            return Admission(None, None, allotment=allotment)
        window, token_window = self._request_window, self._token_window
        return Admission(
            window.admit(1.0, now) if window is not None else None,
            token_window.admit(tokens, now) if token_window is not None else None,
            tokens,
        )

    def settle(self, admission: Admission, entry: Entry, tokens: float) -> None:
        difference = tokens - admission.amount
        if difference and self._token_window is not None and self._token_bucket is not None:
            admission.amount = tokens
            self._token_window.settle(entry, difference)
            self._token_bucket.adjust(difference)


# The admission of every attempt of an endpoint without rate limits: there is nothing to settle.
_UNCOUNTED = Admission(None, None)
