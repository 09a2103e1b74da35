"""The shared place's arithmetic of one account's rate limits: which worker may send how much, and when.

It is arithmetic without I/O; the caller passes the time, in seconds of a clock that all workers share. The script of
`aimlasync.redis.scripts` does the same in Lua, step by step: a change here is a change there. A shared budget is in
`quota.purse`. The rules are in the docstring of `Account`. It may import `quota.minute` and `quota.protocol`.
"""

from __future__ import annotations

import math
from typing import Literal

from aimlasync.quota.minute import BUSY, HOLD, STEP, WINDOW, Bucket, Wheel, step_of
from aimlasync.quota.protocol import Ask, Lease, Memory

# What all leases that run at the same time are worth together, in seconds of the rate; of more workers than are served
# by LEASES leases a second it is more, at most TTL.
SLICE = 0.2
LEASES = 1000.0
# Seconds in which a lease may be spent.
TTL = 1.0
# Seconds after which a worker that was not heard is removed.
KNOWN = 60.0
# The share of the limits that is leased at least, while parts are kept for workers that are not heard.
LEAST = 0.05
# Seconds within which all workers return to a place that lost its state.
RETURN = 2.0
# The longest pause that a worker's report can open, in seconds.
MAX_PAUSE = 3600.0
# Two epochs whose clocks differ by at most so many quarters of a second are taken to share one clock.
SAME_CLOCK = 8


class _Worker:
    """What the place knows of one worker: its open lease, its part, and until which second it is busy and known."""

    __slots__ = ("alone", "busy", "known", "number", "part", "requests", "step", "tokens")

    def __init__(self) -> None:
        # The number of the open lease, 0 for none.
        self.number = 0
        self.requests = self.tokens = 0.0
        self.step = 0
        self.busy = self.known = 0
        self.part = 0.0
        self.alone: Literal["waits", "part", "share"] = "waits"


class Account:
    """One account's rate limits. Its mutable state: limits, sums, workers, the pause, and its epoch.

    A new account knows nothing of an earlier epoch, and waits until `opens` for workers that do; without `opens`, for
    RETURN seconds.

    When a lease begins. It is granted at the first time at which all of these hold:
     - The minute has room. A lease counts from its grant until a minute after its end; what was not spent of it counts
       until the worker reports so. So no minute is above the limit, whatever workers do within their leases.
     - The rate allows it. Leases follow one another at the rate of the limit: each begins when the one before is paid
       for. So workers are served in turn, and a worker asks once for each lease.
     - There is no pause.

    How large it is. A worker gets what it asks for: at most its part of a fifth of a second, and at least one attempt,
    however large. Where more than 200 are busy it is a part of up to a second, so that the place is not asked more
    often. Tokens that an attempt took beyond its estimate are taken from later leases. Tokens that it did not take are
    credit, at most a minute's worth, and room in the minute in which they were counted. Credit pays for three quarters
    of a lease at most, so that no second is above four times the rate.

    How the limits hold when a worker cannot reach the shared place, or the place loses its state:
     - Each worker is told the part of the limits that it may use while it cannot reach the place. All parts that
       workers may hold are together at most 1. A part that is lowered counts in full until the worker confirms the new
       one, and a worker that is not heard keeps its part for KNOWN seconds. A place that is gone grants no parts, so
       the sum stays at most 1.
     - The part of a busy worker that is not heard is not leased to others for HOLD seconds, since the worker may be
       using it. What it reports on its return counts.
     - Each answer holds the account's last minute, in coarse sums. A place that lost its state grants nothing to a
       worker that knows an older epoch, until the worker has sent these sums. The time since then counts as sent at the
       full rate.
     - For RETURN seconds a place that lost its state waits for the workers to return. Until HOLD seconds have passed,
       it grants no more than the parts of those that returned. If none returns, there were none.

    One case remains: a worker that cannot reach the place for longer than HOLD seconds, while others can, adds its part
    to theirs, unless it is set to wait (`Ask.alone`).

    Where workers are given different limits, those of the worker that began last hold for all: its first ask states
    them, and every answer tells them with a version. Later asks repeat what their worker heard, so that a place that
    lost its state learns the newest limits from the workers that return. A limit that nobody was given holds on while
    a worker is left that heard it.
    """

    def __init__(self, epoch: str, now: float, *, opens: float | None = None) -> None:
        self._begin(epoch, now)
        if opens is not None:
            self._opens = opens
        # The limits in force, of requests and of tokens, and how often they have changed.
        self._limits: tuple[float | None, float | None] = (None, None)
        self._version = 0

    def _begin(self, epoch: str, now: float) -> None:
        self.epoch = epoch
        self._since = now
        self._opens = now + RETURN
        self._requests: Bucket | None = None
        self._tokens: Bucket | None = None
        self._number = 0
        self._workers: dict[str, _Worker] = {}
        self._sweep = now + KNOWN
        self._busy = Wheel()
        self._known = Wheel()
        self._paused_until = 0.0

    def lease(self, ask: Ask, now: float) -> Lease:
        """Take in what a worker reports, and grant its next lease."""
        if ask.epoch == self.epoch and ask.heard > self._number:
            # The state was restored from an older copy, which lacks the leases that were granted since.
            self._begin(f"{now * 1e6:.0f}", now)
        self._busy.forget(now - HOLD)
        self._known.forget(now)
        self._agree(ask.requests_per_minute, ask.tokens_per_minute, ask.version, now)
        for bucket in (self._requests, self._tokens):
            if bucket is not None:
                bucket.forget(now)
        if now > self._sweep:
            self._sweep = now + KNOWN
            self._workers = {name: worker for name, worker in self._workers.items() if worker.known > now}
        if not ask.worker:
            # An ask without a worker tests whether the place works.
            return Lease(epoch=self.epoch, number=0)
        worker = self._workers.get(ask.worker)
        if worker is not None and worker.known <= now:
            worker = None
        if ask.epoch not in ("", self.epoch):
            if ask.memory is None:
                return Lease(epoch=self.epoch, number=0, is_lost=True)
            self._restore(ask.memory, ask.age, now, 1.0)
        ended = 0
        if worker is None:
            worker = _Worker()
            if ask.part > 0 and now < self._opens:
                self._opens = max(self._opens, self._since + HOLD)
        else:
            self._busy.remove(worker.busy, 0.0 if worker.alone == "waits" else worker.part)
            self._known.remove(worker.known, worker.part)
        if ask.epoch == self.epoch:
            ended = self._end(ask, worker, now)
        if ask.away > 0 and ask.epoch in ("", self.epoch):
            for bucket in (self._requests, self._tokens):
                if bucket is not None:
                    bucket.was_alone(ask.away, now, ask.part)
        if ask.pause > 0:
            self._paused_until = max(self._paused_until, now + min(ask.pause, MAX_PAUSE))
        if ask.leaves:
            self._workers.pop(ask.worker, None)
            return Lease(epoch=self.epoch, number=0, ended=ended)
        lease = Lease(epoch=self.epoch, number=0, ended=ended, part=self._part(ask, worker, now))
        if ask.calls > 0:
            self._grant(ask, worker, lease, now)
        elif worker.number == 0 or worker.step * STEP <= now:
            # It asks for nothing and holds no lease.
            worker.busy = 0
        if worker.busy:
            self._busy.put(worker.busy, 0.0 if worker.alone == "waits" else worker.part)
        worker.known = math.ceil(now + lease.starts + KNOWN)
        self._known.put(worker.known, worker.part)
        self._workers[ask.worker] = worker
        self._tell(lease, now)
        return lease

    def begin_alone(
        self, requests: float | None, tokens: float | None, memory: Memory | None, age: float, now: float, part: float
    ) -> None:
        """Begin with one worker's part of an account; `memory` is what the account told it `age` seconds ago.

        The worker may still hold a lease of that account, so the first lease of this one begins after its end.
        """
        self._agree(requests, tokens, 0, now)
        if memory is not None:
            self._restore(memory, age, now, part)
        for bucket in (self._requests, self._tokens):
            if bucket is not None:
                bucket.paid_to = max(bucket.paid_to, now + TTL)

    def _restore(self, memory: Memory, age: float, now: float, part: float) -> None:
        """Count what was sent in an earlier epoch: the sums that were told `age` seconds ago, then the full rate."""
        shift = step_of(now - age) - memory.step
        if abs(shift) <= SAME_CLOCK:
            shift = 0
        for bucket, told in ((self._requests, memory.requests), (self._tokens, memory.tokens)):
            if bucket is not None:
                bucket.restore(told, shift, now - age, now, part)

    def _agree(self, requests: float | None, tokens: float | None, version: int, now: float) -> None:
        """Put the limits in force that an ask states: of a worker that begins, or that heard newer ones elsewhere."""
        if version == 0 or version > self._version:
            before = self._limits
            if version > 0 or self._known.sum(now)[0] > 0:
                # What is not stated stays.
                requests = before[0] if requests is None else requests
                tokens = before[1] if tokens is None else tokens
            self._limits = (requests, tokens)
            self._version = max(version, self._version + (self._limits != before))
        self._requests = _set(self._requests, self._limits[0])
        self._tokens = _set(self._tokens, self._limits[1])

    def _end(self, ask: Ask, worker: _Worker, now: float) -> int:
        """End the worker's lease at what it spent, apply its corrections, and return the step where it counts now."""
        bucket = self._tokens
        if bucket is not None:
            for step, difference in ask.corrections.items():
                step = step or step_of(now)
                if step in bucket.steps or difference > 0:
                    bucket.add(difference, min(step, step_of(now + 2 * WINDOW)))
                bucket.adjust(difference, now)
        if not ask.lease or worker.number != ask.lease:
            return 0
        worker.number = 0
        if worker.step * STEP + WINDOW <= now:
            return 0
        # A lease may be ended before it began.
        step = min(worker.step, step_of(now))
        for bucket, granted, spent in (
            (self._requests, worker.requests, ask.spent_requests),
            (self._tokens, worker.tokens, ask.spent_tokens),
        ):
            if bucket is not None:
                bucket.add(-granted, worker.step)
                bucket.add(spent, step)
                if spent != granted:
                    bucket.adjust(spent - granted, now)
        return step

    def _part(self, ask: Ask, worker: _Worker, now: float) -> float:
        """Return the part that the worker may use alone, and note what it may hold until it confirms that part."""
        count, parts = self._known.sum(now)
        part = ask.part
        if ask.alone != "share" and now >= self._opens:
            part = 1 / (count + 1)
        if ask.alone != "share":
            part = max(0.0, min(part, 1 - parts))
        worker.alone = ask.alone
        worker.part = max(ask.part, part)
        return part

    def _tell(self, lease: Lease, now: float) -> None:
        """Fill in what an answer states besides the lease: workers, limits in force, and the last minute."""
        requests, tokens = self._requests, self._tokens
        lease.version = self._version
        lease.workers = self._known.sum(now)[0]
        lease.memory = Memory(step=step_of(now))
        if requests is not None:
            lease.requests_per_minute, lease.memory.requests = requests.limit, requests.told(now)
        if tokens is not None:
            lease.tokens_per_minute, lease.memory.tokens = tokens.limit, tokens.told(now)

    def _grant(self, ask: Ask, worker: _Worker, lease: Lease, now: float) -> None:
        """Fill `lease` with what the worker may send and from when, and take that from the minutes."""
        busy, parts = self._busy.sum(now)
        # The share of the limits that can be leased: without the parts of workers that are not heard.
        share = 1.0
        if now < self._opens:
            share = min(1.0, self._known.sum(now)[1] + worker.part)
        starts = now if share > 0 else self._opens
        share = max(LEAST, share - self._busy.sum(now - HOLD)[1] + parts) if share > 0 else 1.0
        calls = float(ask.calls)
        tokens = ask.tokens
        part = min(TTL, max(SLICE, (busy + 1) / LEASES)) * share / (busy + 1)
        held_by: Literal["requests", "tokens", "pause"] = "requests"
        if self._requests is not None:
            calls = min(calls, math.floor(part * self._requests.rate))
        if self._tokens is not None and tokens > 0:
            tokens = min(tokens, self._tokens.limit)
            calls = min(calls, math.floor(part * self._tokens.rate / tokens))
        calls = max(1.0, calls)
        # The tokens of the first attempt are taken for each of the others.
        tokens *= calls
        if self._requests is not None:
            starts = self._requests.earliest(calls, starts)
        if self._tokens is not None and (room := self._tokens.earliest(tokens, starts)) > starts:
            starts, held_by = room, "tokens"
        if self._paused_until > starts:
            starts, held_by = self._paused_until, "pause"
        # The minutes of requests and tokens may have room at different times, so each is checked again at the other's.
        if self._requests is not None:
            starts = max(starts, self._requests.earliest(calls, starts))
        if self._tokens is not None:
            starts = max(starts, self._tokens.earliest(tokens, starts))
        step = step_of(starts + TTL)
        if self._requests is not None:
            self._requests.take(calls, starts, step, share)
        if self._tokens is not None:
            self._tokens.take(tokens, starts, step, share)
        self._number += 1
        worker.number, worker.requests, worker.tokens, worker.step = self._number, calls, tokens, step
        worker.busy = math.ceil(starts + BUSY)
        lease.number, lease.requests, lease.tokens = self._number, calls, tokens
        lease.starts, lease.seconds, lease.step, lease.held_by = starts - now, TTL, step, held_by


def _set(bucket: Bucket | None, limit: float | None) -> Bucket | None:
    if limit is None:
        return None
    if bucket is None:
        return Bucket(limit)
    bucket.set(limit)
    return bucket
