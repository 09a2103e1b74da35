"""What all attempts at one endpoint share: the limits that the user stated, a shared quota, and the endpoint's pauses.

Each model of the endpoint has a `Limiter` of its own (`admission.limiter`), with its own queue. The head of such a
queue comes here when nothing of its own model stands against it. Here the rate limits are kept over the sum of all
models, and the models take turns. It is arithmetic on the event loop's clock, without I/O. It may import `config`,
`quota` and the other files of this package.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec

from aimlasync.admission.fair_queue import BULK_EVERY, Waiter
from aimlasync.admission.rate_limits import BURST_REQUESTS, BURST_TOKENS, Bucket, Entry, Unit, Window
from aimlasync.config import Limits
from aimlasync.quota.lease import Allotment, Leases

if TYPE_CHECKING:
    from aimlasync.admission.limiter import Limiter

UNLIMITED = 4096
"""The limit of attempts in flight of what has none of its own."""

WaitsFor = Literal["pause", "concurrency", "rate", "requests", "tokens"]
"""What an attempt waits for."""


# It is in no cycle: what it refers to are numbers.
class Admission(msgspec.Struct, eq=False, gc=False):
    """An admitted attempt: its part of an entry in the window, or its allotment of a lease."""

    entry: Entry | None = None
    amount: float = 0.0
    """The tokens that it is counted at."""
    allotment: Allotment | None = None
    """Set instead of the entry where the rate limits are shared."""
    at: float = 0.0
    """When an attempt that waited was admitted (loop time): what its learned rate was told, and not when it woke up."""
    beside: int = 0
    """How many others were in flight then, of those that share what is learned."""


class LearnedRate(Protocol):
    """A rate limit that is learned from refusals: what a limiter needs of `AdaptiveLimit`."""

    def delay(self, now: float) -> float:
        """Return the seconds until the next attempt may be sent."""

    def expected_wait(self, now: float, ahead: int) -> float:
        """Return the seconds until an attempt may be sent behind so many others."""

    def sent(self, now: float) -> None:
        """Note that an attempt is sent."""


class _Shortfall:
    """The bucket that keeps the head of a queue waiting, and the amount to acquire from it."""

    __slots__ = ("bucket", "step")

    def __init__(self, bucket: Bucket, step: float) -> None:
        self.bucket = bucket
        self.step = step


class EndpointLimiter:
    """One endpoint's limiter. Its mutable state: the count in flight, windows, buckets, the pause, whose turn it is.

    With `leases` the rate limits are shared with other processes, and the shared place keeps the windows and buckets.
    `learned_rate` is set where a rate is learned for the whole account; it is told of every admission in the instant in
    which it is made.

    An attempt that its model admits is admitted here in the instant in which all of these hold:

     - Fewer than `limit` attempts are in flight.
     - The sliding window has room: in no minute more is sent than the rate limits allow. An attempt counts at its
       estimated tokens, and at its real tokens as soon as they are known.
     - The token buckets have room: they spread over the minute what the window would allow at once.
     - The learned rate, where there is one, allows the next attempt.
     - There is no pause. A pause holds for the whole endpoint, and no caller that is cancelled ends it.

    The models that have a call ready (`ready`) take turns, those with an interactive call before those without; one of
    eight turns goes to a bulk call, as within a model. Only the call whose turn it is is tried, so that small requests
    cannot starve a large one. A request larger than the bucket is admitted when the bucket is full, and the requests
    behind it pay the rest (pay forward). A request larger than a minute's limit is sent alone in its minute. After an
    attempt, the difference between its estimated and its real tokens becomes debt, or credit for later attempts, at
    most a minute's worth. With a shared quota (`quota.lease`), the shared place keeps the windows and buckets, and an
    attempt takes its part of a lease instead. The queues, the concurrency limits and the pauses remain here.
    """

    __slots__ = (
        "_acquiring",
        "_request_bucket",
        "_short_of",
        "_since_bulk",
        "_timer",
        "_token_bucket",
        "_window",
        "counts_tokens",
        "in_flight",
        "is_rated",
        "learned_rate",
        "leases",
        "limit",
        "paused_until",
        "ready",
        "waiting",
        "waiting_bulk",
    )

    def __init__(self, limits: Limits, *, leases: Leases | None = None) -> None:
        rpm, tpm = (limits.requests_per_minute, limits.tokens_per_minute) if leases is None else (None, None)
        self.leases = leases
        if leases is not None:
            leases.on_change(self.advance)
        self._window = Window(rpm, tpm)
        self._request_bucket = None if rpm is None else Bucket(rpm, BURST_REQUESTS)
        self._token_bucket = None if tpm is None else Bucket(tpm, BURST_TOKENS)
        self.learned_rate: LearnedRate | None = None
        self.counts_tokens = tpm is not None or (leases is not None and leases.counts_tokens)
        """Whether the limiter uses an estimate of tokens."""
        self.is_rated = rpm is not None or tpm is not None or leases is not None
        """Whether requests or tokens per minute are limited, by this limiter or by a shared quota."""
        self.limit = UNLIMITED if limits.concurrency is None else limits.concurrency
        self.in_flight = 0
        self.waiting = 0
        """How many calls wait, at all models together."""
        self.waiting_bulk = 0
        """How many of these are bulk calls."""
        self.paused_until = float("-inf")
        # The models of which a call is ready but for what is limited here, in the order of their turns.
        self.ready: dict[Limiter, None] = {}
        self._since_bulk = 0
        # What will try the next call again: a timer, or a task that acquires from a bucket.
        self._timer: asyncio.TimerHandle | None = None
        self._acquiring: asyncio.Task[None] | None = None
        self._short_of: Unit | None = None

    def resize(self, limit: int) -> None:
        """Set how many attempts may be in flight; a lower limit lets those in flight end and admits no others."""
        grown = limit > self.limit
        self.limit = limit
        if grown and self.ready:
            self.advance()

    def pause(self, until: float) -> None:
        """Admit nothing before `until` (loop time); a shorter pause never shortens a longer one."""
        self.paused_until = max(self.paused_until, until)
        if self.leases is not None:
            self.leases.pause(until)

    def begun_again(self, limits: Limits) -> EndpointLimiter:
        """Return a limiter for another event loop, with the same window and pause; buckets and timers are a loop's."""
        other = EndpointLimiter(limits)
        other._window, other.paused_until = self._window, self.paused_until
        return other

    async def close(self) -> None:
        """Return what was leased and not spent to the shared quota."""
        if self.leases is not None:
            await self.leases.close()

    def take(self, tokens: float, now: float) -> Admission | None:
        """Admit an attempt of about `tokens` if what is limited here allows it at once; else return None.

        The caller has looked at `in_flight`, `paused_until` and `ready`.
        """
        if self.learned_rate is not None and self.learned_rate.delay(now) > 0:
            return None
        if self.leases is not None:
            allotment = self.leases.take(tokens, now)
            return None if allotment is None else self._admit(tokens, now, allotment)
        if self.is_rated and (self._window.wait(tokens, now) > 0 or self._pay(tokens, now) is not None):
            return None
        return self._admit(tokens, now)

    def settle(self, admission: Admission, tokens: float) -> None:
        """Count an attempt at the tokens that it really took."""
        if admission.allotment is not None:
            if self.leases is not None:
                self.leases.settle(admission.allotment, tokens)
        elif admission.entry is not None and self._token_bucket is not None:
            difference = tokens - admission.amount
            if difference:
                admission.amount = tokens
                self._window.settle(admission.entry, 0.0, difference)
                self._token_bucket.adjust(difference)

    def withdraw(self, admission: Admission) -> None:
        """Take back the request of an attempt that was never sent; `settle` takes back its tokens."""
        if admission.entry is not None:
            self._window.settle(admission.entry, -1.0, 0.0)
            if self._request_bucket is not None:
                self._request_bucket.adjust(-1.0)
        if admission.allotment is not None and self.leases is not None:
            self.leases.withdraw(admission.allotment)

    def joined(self, waiter: Waiter[Admission]) -> None:
        """Count a call that waits at one of the models from now on."""
        self.waiting += 1
        self.waiting_bulk += waiter.priority == "bulk"

    def left(self, waiter: Waiter[Admission]) -> None:
        """Count a call no more that was admitted or waits no longer."""
        self.waiting -= 1
        self.waiting_bulk -= waiter.priority == "bulk"

    def advance(self) -> None:
        """Admit the calls that are ready while nothing stands against them; then arrange that the next is tried again.

        A timer tries it again after a pause or a delay, a task when a bucket has room, `Limiter.leave` when an attempt
        ends, and `Leases` when a lease begins.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self.in_flight < self.limit and (limiter := self._next()) is not None:
            waiter = limiter.head()
            if waiter is None:
                del self.ready[limiter]
                continue
            loop = waiter.turn.get_loop()
            now = loop.time()
            tokens = waiter.need()
            wait = max(self.paused_until - now, self._delay(now), self._window.wait(tokens, now))
            if wait > 0:
                self._timer = loop.call_later(wait, self.advance)
                return
            allotment: Allotment | None = None
            if self.leases is not None and (allotment := self.leases.take(tokens, now)) is None:
                self.leases.want(min(self.limit - self.in_flight, self._wanted()), tokens, now)
                return
            shortfall = self._pay(tokens, now)
            if shortfall is not None:
                self._short_of = "tokens" if shortfall.bucket is self._token_bucket else "requests"
                if self._acquiring is None:
                    acquire = shortfall.bucket.acquire(shortfall.step)
                    self._acquiring = loop.create_task(acquire, name="aimlasync limiter")
                    self._acquiring.add_done_callback(self._acquired)
                return
            limiter.serve(waiter, self._admit(tokens, now, allotment), now)
            self.left(waiter)
            self._since_bulk = 0 if waiter.priority == "bulk" else self._since_bulk + 1
            del self.ready[limiter]
            if limiter.queue.waiting:
                # Its next turn is after those of the others.
                self.ready[limiter] = None
        if self._acquiring is not None and not self.ready:
            # No call waits for the bucket any more.
            self._acquiring.cancel()

    def stands_against(self, tokens: float, now: float) -> WaitsFor | None:
        """Return what an attempt of about `tokens` would have to wait for here, None where that is not known."""
        if self.paused_until > now:
            return "pause"
        if self.in_flight >= self.limit:
            return "concurrency"
        if self._delay(now) > 0:
            return "rate"
        if (unit := self._window.short_of(tokens, now)) is not None:
            return unit
        if self.leases is not None:
            return self.leases.held_by
        if self._acquiring is not None:
            return self._short_of
        if self._token_bucket is not None and (self._request_bucket is None or self._token_bucket.debt > 0):
            return "tokens"
        return None if self._request_bucket is None else "requests"

    def _next(self) -> Limiter | None:
        """Return the model whose turn it is: the first that has a call of the priority whose turn it is, else any."""
        ready = self.ready
        if len(ready) < 2 or self.waiting_bulk in (0, self.waiting):
            # Calls of one priority have no need to be looked at: there may be hundreds of models.
            return next(iter(ready), None)
        turn = "bulk" if self._since_bulk >= BULK_EVERY else "interactive"
        for limiter in ready:
            waiter = limiter.queue.head()
            if waiter is None or waiter.priority == turn:
                return limiter
        return next(iter(ready))

    def _wanted(self) -> int:
        """Return how many calls could be sent but for the rate limits."""
        return sum(min(limiter.queue.waiting, limiter.limit - limiter.in_flight) for limiter in self.ready)

    def _acquired(self, task: asyncio.Task[None]) -> None:
        self._acquiring = None
        if self.ready or not task.cancelled():
            self.advance()

    def _delay(self, now: float) -> float:
        """Return the seconds until the learned rate allows the next attempt."""
        return 0.0 if self.learned_rate is None else self.learned_rate.delay(now)

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
        if self.learned_rate is not None:
            self.learned_rate.sent(now)
        if allotment is not None:
            return Admission(allotment=allotment)
        return Admission(self._window.admit(tokens, now), tokens) if self.is_rated else UNCOUNTED


# The admission of every attempt of an endpoint without rate limits: there is nothing to settle.
UNCOUNTED = Admission()
