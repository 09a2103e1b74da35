"""Who may send to one endpoint, and when: attempts in flight, requests and tokens per minute, pauses, one queue.

Arithmetic on the loop's clock, without I/O. It may import `config`, `quota` and the other files of this package.

An attempt is admitted when all of these agree, and they are all taken in the same instant:
 - fewer than `limit` attempts are in flight;
 - the sliding window has room: no minute is above the limit, each attempt counted at what it really cost as soon as
   that is known;
 - the bucket has room: it spreads what the window would allow at once over the minute;
 - no pause: a pause stops the whole endpoint, and no caller that goes away lifts it.

Within a priority and a tenant, calls are served first come, first served, whatever their sizes. Only the head of the
queue is measured, so that small requests never starve a large one. A waiting call holds nothing.
A request larger than the bucket is admitted when the bucket is full; the requests behind it pay the rest (pay forward).
A request larger than a minute's limit goes alone.
Where the account's minute is shared with other processes, the shared place has windows and buckets (`quota.account`),
and an attempt takes its part of a lease instead; the queue, the places in flight and the pauses stay here.
Reserve, then settle: an attempt is admitted at an estimate. The difference to what it cost becomes debt, or credit for
later attempts, at most a minute's worth. A waiting call is estimated again whenever it is measured: a long queue that
was estimated before the first answer would else be wrong to its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal, Protocol

from aimlasync.admission.fair_queue import Line
from aimlasync.admission.rate_limits import BURST_REQUESTS, BURST_TOKENS, Bucket, Entry, Window
from aimlasync.config import Limits, Priority
from aimlasync.quota.lease import Leases, Slip


class Admission:
    """An attempt that may be sent, and what it was admitted at."""

    __slots__ = ("request", "slip", "tokens")

    def __init__(self, request: Entry | None, tokens: Entry | None, slip: Slip | None = None) -> None:
        self.request = request
        self.tokens = tokens
        # Instead of both, where the minute is shared.
        self.slip = slip


class Pace(Protocol):
    """A learned rate."""

    def delay(self, now: float) -> float:
        """Return the seconds until the next attempt may be sent."""

    def sent(self, now: float) -> None:
        """Note that an attempt is sent."""


class _NoPace:
    """No rate."""

    def delay(self, now: float) -> float:
        return 0.0

    def sent(self, now: float) -> None:
        return None


class _Short:
    """A bucket that must be filled by a step before the head can be admitted."""

    __slots__ = ("bucket", "step")

    def __init__(self, bucket: Bucket, step: float) -> None:
        self.bucket = bucket
        self.step = step


class Limiter:
    """One endpoint's gate. All mutable state: the count in flight, the windows, the buckets, the pause, and the line.

    `pace` is a rate that was learned elsewhere; it is told of every admission, in the instant it is made.
    With `leases` the minute is shared with other processes: windows and buckets are then where it is shared.
    """

    __slots__ = (
        "_acquiring",
        "_leases",
        "_line",
        "_pace",
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
    )

    def __init__(self, limits: Limits, *, limit: int, pace: Pace | None = None, leases: Leases | None = None) -> None:
        rpm, tpm = (limits.requests_per_minute, limits.tokens_per_minute) if leases is None else (None, None)
        self._leases = leases
        if leases is not None:
            leases.on_move(self.advance)
        self._request_window = None if rpm is None else Window(rpm)
        self._request_bucket = None if rpm is None else Bucket(rpm, BURST_REQUESTS)
        self._token_window = None if tpm is None else Window(tpm)
        self._token_bucket = None if tpm is None else Bucket(tpm, BURST_TOKENS)
        self._pace: Pace = pace or _NoPace()
        self.counts_tokens = tpm is not None or (leases is not None and leases.counts_tokens)
        """Whether an estimate of tokens is of any use here."""
        self.is_rated = rpm is not None or tpm is not None or leases is not None
        """Whether requests or tokens per minute are counted, here or where they are shared."""
        self.limit = limit
        self.in_flight = 0
        self.paused_until = float("-inf")
        self._line: Line[Admission] = Line()
        # What will measure the head again: a moment, or a bucket that is being filled.
        self._timer: asyncio.TimerHandle | None = None
        self._acquiring: asyncio.Task[None] | None = None
        self._short_of: Literal["requests", "tokens"] | None = None

    @property
    def waiting(self) -> int:
        """Attempts in the line."""
        return len(self._line)

    @property
    def line(self) -> Line[Admission]:
        """Who waits; to be looked at, not changed."""
        return self._line

    def enter_nowait(self, tokens: float, now: float) -> Admission | None:
        """Admit an attempt of about `tokens` if nobody waits and nothing stands in its way."""
        pace = self._pace
        if self.in_flight >= self.limit or self.paused_until > now or pace.delay(now) > 0:
            return None
        if self._line and self._line.head() is not None:
            return None
        if self._leases is not None:
            slip = self._leases.take(tokens, now)
            return None if slip is None else self._admit(tokens, now, slip)
        if not self.is_rated:
            self.in_flight += 1
            pace.sent(now)
            return _FREE
        if self._wait(tokens, now) > 0 or self._pay(tokens, now) is not None:
            return None
        return self._admit(tokens, now)

    async def enter(
        self, tokens: float | Callable[[], float], priority: Priority = "interactive", tenant: str | None = None
    ) -> Admission:
        """Wait in line until an attempt of about `tokens` may be sent. Cancelled, it leaves nothing behind.

        A function is asked anew whenever the line moves: what was learned meanwhile counts.
        """
        waiter = self._line.join(priority, tokens if callable(tokens) else lambda: tokens, tenant)
        # It may be the head; it may also stand before the one that is waited for.
        self.advance()
        try:
            return await waiter.turn
        except BaseException:
            if waiter.turn.done() and not waiter.turn.cancelled():
                # Admitted in the same turn of the loop as it was cancelled: nothing was sent.
                self.withdraw(waiter.turn.result())
            else:
                waiter.turn.cancel()
                self._line.left(waiter)
                self.advance()
            raise

    def leave(self, admission: Admission, tokens: float | None = None) -> None:
        """End an admitted attempt; `tokens` is what it really cost, None when that is not known."""
        self.in_flight -= 1
        if tokens is not None and admission.tokens is not None:
            self._settle(admission.tokens, tokens)
        elif tokens is not None and admission.slip is not None and self._leases is not None:
            self._leases.settle(admission.slip, tokens)
        if self._line:
            self.advance()

    def withdraw(self, admission: Admission) -> None:
        """End an admitted attempt that was never sent: it costs nothing."""
        if admission.request is not None and self._request_window is not None and self._request_bucket is not None:
            self._request_window.settle(admission.request, 0.0)
            self._request_bucket.adjust(-1.0)
        if admission.slip is not None and self._leases is not None:
            self._leases.withdraw(admission.slip)
        self.leave(admission, 0.0)

    def resize(self, limit: int) -> None:
        """Set how many may be in flight; attempts above a lower limit go on, and are not followed by others."""
        if limit != self.limit:
            grown = limit > self.limit
            self.limit = limit
            if grown and self._line:
                self.advance()

    def pause(self, until: float) -> None:
        """Send nothing before `until` (loop time); a shorter pause never cuts a longer one."""
        self.paused_until = max(self.paused_until, until)
        if self._leases is not None:
            self._leases.pause(until)

    async def close(self) -> None:
        """Give back what was leased and not spent."""
        if self._leases is not None:
            await self._leases.close()

    def advance(self) -> None:
        """Admit from the head of the line while everything agrees; then see to it that it is measured again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self.in_flight < self.limit and (waiter := self._line.head()) is not None:
            loop = waiter.turn.get_loop()
            now = loop.time()
            tokens = waiter.need()
            wait = max(self.paused_until - now, self._pace.delay(now), self._wait(tokens, now))
            if wait > 0:
                self._timer = loop.call_later(wait, self.advance)
                return
            slip: Slip | None = None
            if self._leases is not None and (slip := self._leases.take(tokens, now)) is None:
                self._leases.want(min(self.limit - self.in_flight, len(self._line)), tokens, now)
                return
            short = self._pay(tokens, now)
            if short is not None:
                self._short_of = "tokens" if short.bucket is self._token_bucket else "requests"
                if self._acquiring is None:
                    self._acquiring = loop.create_task(short.bucket.acquire(short.step), name="aimlasync limiter")
                    self._acquiring.add_done_callback(self._acquired)
                return
            self._line.serve(waiter, self._admit(tokens, now, slip))
        if self._acquiring is not None and not self._line:
            # Nobody waits for it any more.
            self._acquiring.cancel()

    def held_by(self, now: float) -> Literal["pause", "concurrency", "rate", "requests", "tokens"] | None:
        """Return what the head of the line waits for, None when nobody waits."""
        waiter = self._line.head() if self._line else None
        if waiter is None:
            return None
        if self.paused_until > now:
            return "pause"
        if self.in_flight >= self.limit:
            return "concurrency"
        if self._pace.delay(now) > 0:
            return "rate"
        if self._request_window is not None and self._request_window.wait(1.0, now) > 0:
            return "requests"
        if self._token_window is not None and self._token_window.wait(waiter.need(), now) > 0:
            return "tokens"
        return self._short_of if self._leases is None else self._leases.held_by

    def _acquired(self, task: asyncio.Task[None]) -> None:
        self._acquiring = None
        if self._line or not task.cancelled():
            self.advance()

    def _wait(self, tokens: float, now: float) -> float:
        """Seconds until both windows have room."""
        wait = 0.0
        if self._request_window is not None:
            wait = self._request_window.wait(1.0, now)
        if self._token_window is not None:
            wait = max(wait, self._token_window.wait(tokens, now))
        return wait

    def _pay(self, tokens: float, now: float) -> _Short | None:
        """Take from both buckets, or from neither and say which is short of how much."""
        bucket, token_bucket = self._request_bucket, self._token_bucket
        if bucket is not None and (step := bucket.take(1.0, now)) > 0:
            return _Short(bucket, step)
        if token_bucket is not None and (step := token_bucket.take(tokens, now)) > 0:
            if bucket is not None:
                bucket.adjust(-1.0)
            return _Short(token_bucket, step)
        return None

    def _admit(self, tokens: float, now: float, slip: Slip | None = None) -> Admission:
        self.in_flight += 1
        self._pace.sent(now)
        if slip is not None:
            return Admission(None, None, slip)
        window, token_window = self._request_window, self._token_window
        return Admission(
            window.admit(1.0, now) if window is not None else None,
            token_window.admit(tokens, now) if token_window is not None else None,
        )

    def _settle(self, entry: Entry, tokens: float) -> None:
        difference = tokens - entry.amount
        if difference and self._token_window is not None and self._token_bucket is not None:
            self._token_window.settle(entry, tokens)
            self._token_bucket.adjust(difference)


_FREE = Admission(None, None)
