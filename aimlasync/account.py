"""The arithmetic of one account that several workers share: who may send how much, and when.

Law: pure; time is handed in, in seconds of any clock that all workers share. The script of `aimlasync.redis` does the
same in Lua, step by step; whatever is changed here is changed there.

A lease is granted when all of these agree:
 - the minute has room: a lease counts from its grant until a minute after its end, what was not spent of it only until
   the worker says so. No minute is above the limit, whatever workers do within their leases;
 - the pace: grants follow one another at the rate of the limit, each beginning where the one before has been paid. So
   workers that ask are served in turn, and nobody asks twice for the same thing;
 - no pause.
How much: what the worker would like, at most its part of a fifth of a second, and at least one attempt, however large.
What an attempt took beyond its estimate is taken from what comes next; what it did not take is credit, at most a
minute's worth, and room in the minute in which it was counted.
"""

from __future__ import annotations

import math
from typing import Literal

from aimlasync.quota import Ask, Draw, Lease

# A server counts when a request arrives: one that was slow on its way counts there for longer.
WINDOW = 60.0 + 1.0
# Sums are kept by quarters of a second.
STEP = 0.25
# The pace, as a share of the limit: below what the minute allows (60 of 61.4), so that the minute is the exception.
PACE = 0.975
# Seconds that a worker may be ahead of the pace: what it takes to ask.
AHEAD = 0.2
# Seconds of the rate that all leases under way are worth together.
SLICE = 0.2
# Seconds in which a lease may be spent.
TTL = 1.0
# Seconds after which a worker that asks for nothing leaves its part to the others, and after which it is forgotten.
BUSY = 2.0
KNOWN = 60.0
# A place that nobody could ask for this long was away, and all workers come back to it, within so many seconds.
AWAY = 1.0
RETURN = 3.0
# A worker draws this part of its share of what is left: what one worker holds is not there for the others.
PARTS = 8

_EPSILON = 1e-6


class _Bucket:
    """One limit: when the pace has been paid to, and what it is owed."""

    __slots__ = ("credit", "limit", "paid_to", "rate", "steps")

    def __init__(self, limit: float) -> None:
        self.steps: dict[int, float] = {}
        self.credit = 0.0
        self.paid_to = float("-inf")
        self.set(limit)

    def set(self, limit: float) -> None:
        self.limit = limit
        self.rate = limit * PACE / 60

    def forget(self, now: float) -> None:
        for step in [step for step in self.steps if step * STEP + WINDOW <= now]:
            del self.steps[step]
        if now - self.paid_to > 60.0:
            self.credit = 0.0

    def earliest(self, amount: float, now: float) -> float:
        """When `amount` may be sent."""
        starts = max(now, self.paid_to - AHEAD)
        over = sum(n for step, n in self.steps.items() if step * STEP + WINDOW > starts)
        over += min(amount, self.limit) - self.limit
        if over > _EPSILON:
            for step in sorted(self.steps):
                leaves = step * STEP + WINDOW
                if leaves > starts:
                    over -= self.steps[step]
                    if over <= _EPSILON:
                        return leaves
        return starts

    def take(self, amount: float, starts: float, step: int, share: float) -> None:
        self.add(amount, step)
        paid = min(self.credit, amount)
        self.credit -= paid
        self.paid_to = max(self.paid_to, starts) + (amount - paid) / (self.rate * share)

    def add(self, amount: float, step: int) -> None:
        self.steps[step] = max(0.0, self.steps.get(step, 0.0) + amount)

    def adjust(self, difference: float, now: float) -> None:
        """Something took `difference` more than was paid for, or less."""
        if difference > 0:
            paid = min(self.credit, difference)
            self.credit -= paid
            self.paid_to = max(self.paid_to, now) + (difference - paid) / self.rate
            return
        # First what is owed, then what comes.
        owed = max(0.0, self.paid_to - now) * self.rate
        paid = min(owed, -difference)
        self.paid_to -= paid / self.rate
        self.credit = min(self.limit, self.credit - difference - paid)


class _Open:
    """A lease that its worker has not ended yet."""

    __slots__ = ("number", "requests", "step", "tokens")

    def __init__(self, number: int, requests: float, tokens: float, step: int) -> None:
        self.number = number
        self.requests = requests
        self.tokens = tokens
        self.step = step


class Account:
    """One account's minute. All mutable state: sums, pace, open leases, who was seen, the pause, and who is back."""

    def __init__(self, epoch: str, now: float) -> None:
        self.epoch = epoch
        self._requests: _Bucket | None = None
        self._tokens: _Bucket | None = None
        self._number = 0
        self._open: dict[str, _Open] = {}
        # Worker -> until when it has a part, and when it is forgotten.
        self._busy: dict[str, float] = {}
        self._known: dict[str, float] = {}
        self._paused_until = float("-inf")
        # When somebody asked last; who is back, and until when the others are waited for.
        self._asked = float("-inf")
        self._back: set[str] = set()
        self._back_until = float("-inf")

    def lease(self, ask: Ask, now: float) -> Lease:
        """Take in what a worker spent, and grant what it may send next."""
        self._requests = _set(self._requests, ask.requests_per_minute)
        self._tokens = _set(self._tokens, ask.tokens_per_minute)
        for bucket in (self._requests, self._tokens):
            if bucket is not None:
                bucket.forget(now)
        self._busy = {worker: until for worker, until in self._busy.items() if until > now}
        self._known = {worker: until for worker, until in self._known.items() if until > now}
        self._open = {worker: lease for worker, lease in self._open.items() if lease.step * STEP + WINDOW > now}
        if ask.returns and now - self._asked > AWAY:
            self._back = set()
            self._back_until = now + RETURN
        self._asked = now
        ended = self._end(ask, now)
        if ask.pause > 0:
            self._paused_until = max(self._paused_until, now + ask.pause)
        self._known[ask.worker] = now + KNOWN
        if ask.calls <= 0:
            if ask.worker not in self._open:
                self._busy.pop(ask.worker, None)
            return Lease(epoch=self.epoch, number=0, ended=ended, workers=len(self._known))
        return self._grant(ask, now, ended)

    def _end(self, ask: Ask, now: float) -> int:
        """End the worker's lease at what it spent, and correct what it sent before; return where the lease is now."""
        if ask.epoch != self.epoch:
            return 0
        bucket = self._tokens
        if bucket is not None:
            for step, difference in ask.corrections.items():
                if step in bucket.steps:
                    bucket.add(difference, step)
                bucket.adjust(difference, now)
        lease = self._open.get(ask.worker)
        if lease is None or lease.number != ask.lease:
            return 0
        del self._open[ask.worker]
        # It may end before it began.
        step = min(lease.step, _step(now))
        for bucket, granted, spent in (
            (self._requests, lease.requests, ask.spent_requests),
            (self._tokens, lease.tokens, ask.spent_tokens),
        ):
            if bucket is not None:
                bucket.add(-granted, lease.step)
                bucket.add(spent, step)
                if spent != granted:
                    bucket.adjust(spent - granted, now)
        return step

    def _grant(self, ask: Ask, now: float, ended: int) -> Lease:
        self._busy[ask.worker] = now + BUSY
        parts = len(self._busy)
        share = 1.0
        if now < self._back_until:
            # Those who are not back yet keep to their parts alone: theirs are not given to others.
            self._back.add(ask.worker)
            parts = max(parts, ask.workers)
            share = min(1.0, len(self._back) / ask.workers)
        calls = float(ask.calls)
        tokens = ask.tokens
        starts = now
        held_by: Literal["requests", "tokens", "pause"] = "requests"
        if self._requests is not None:
            calls = min(calls, math.floor(SLICE * self._requests.rate / parts))
        if self._tokens is not None and tokens > 0:
            tokens = min(tokens, self._tokens.limit)
            calls = min(calls, math.floor(SLICE * self._tokens.rate / parts / tokens))
        calls = max(1.0, calls)
        # What is leased for the first of them serves the others as well, mostly.
        tokens *= calls
        if self._requests is not None:
            starts = self._requests.earliest(calls, now)
        if self._tokens is not None and (room := self._tokens.earliest(tokens, now)) > starts:
            starts, held_by = room, "tokens"
        if self._paused_until > starts:
            starts, held_by = self._paused_until, "pause"
        # One minute may have room when the other has none: each is looked at again at the other's time.
        if self._requests is not None:
            starts = max(starts, self._requests.earliest(calls, starts))
        if self._tokens is not None:
            starts = max(starts, self._tokens.earliest(tokens, starts))
        step = _step(starts + TTL)
        if self._requests is not None:
            self._requests.take(calls, starts, step, share)
        if self._tokens is not None:
            self._tokens.take(tokens, starts, step, share)
        self._number += 1
        self._open[ask.worker] = _Open(self._number, calls, tokens, step)
        self._busy[ask.worker] = starts + BUSY
        return Lease(
            epoch=self.epoch,
            number=self._number,
            requests=calls,
            tokens=tokens,
            starts=starts - now,
            seconds=TTL,
            step=step,
            ended=ended,
            workers=len(self._known),
            held_by=held_by,
        )


class Till:
    """Something that is spent once and for all, in parts; all mutable state is who holds how much of it."""

    def __init__(self) -> None:
        self._held: dict[str, int] = {}

    def draw(self, draw: Draw) -> int:
        """Return how much more the worker may spend, 0 when that is less than it needs."""
        others = sum(self._held.values()) - self._held.get(draw.worker, 0)
        left = draw.total - others - draw.keeps
        granted = 0
        if 0 < draw.needs <= left:
            granted = max(draw.needs, left // (PARTS * len(self._held.keys() | {draw.worker})))
        self._held[draw.worker] = draw.keeps + granted
        return granted


def _set(bucket: _Bucket | None, limit: float | None) -> _Bucket | None:
    if limit is None:
        return None
    if bucket is None:
        return _Bucket(limit)
    bucket.set(limit)
    return bucket


def _step(time: float) -> int:
    return math.ceil(time / STEP)
