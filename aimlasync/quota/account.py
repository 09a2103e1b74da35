"""The arithmetic of one account that several workers share: who may send how much, and when.

Law: pure; time is handed in, in seconds of any clock that all workers share. The script of `aimlasync.redis` does the
same in Lua, step by step; whatever is changed here is changed there. What is spent once and for all is `till`.

A lease is granted when all of these agree:
 - the minute has room: a lease counts from its grant until a minute after its end, what was not spent of it only until
   the worker says so. No minute is above the limit, whatever workers do within their leases;
 - the pace: grants follow one another at the rate of the limit, each beginning where the one before has been paid. So
   workers that ask are served in turn, and nobody asks twice for the same thing;
 - no pause.
How much: what the worker would like, at most its part of a fifth of a second, and at least one attempt, however large.
What an attempt took beyond its estimate is taken from what comes next; what it did not take is credit, at most a
minute's worth, and room in the minute in which it was counted. Credit pays for three quarters of a grant at most, so
that no second is above four times the rate.

The limits are never passed when a worker cannot reach the place, or the place forgets:
 - each worker is told a part of the limits which it may use while it cannot reach the place. All parts that workers
   may hold are together at most 1: a part that is lowered counts in full until the worker says that it knows, and a
   worker that is not heard keeps it for KNOWN seconds. A place that is gone gives out no parts, so those that workers
   held then stay at most 1 for as long as it is gone;
 - the part of a worker that was busy and is not heard any more is not granted to others for HOLD seconds: it may be
   using it. What it tells when it is back, it pays for;
 - with each answer a worker is told the account's last minute, in coarse sums. A place that forgot grants nothing to a
   worker before it was told them; what is unknown since then is taken to have been sent at the full pace;
 - for HOLD seconds a place that forgot grants no more than the parts of the workers that are back; for RETURN seconds
   it waits for them. If none comes, there were none.
So one thing is left: a worker that alone cannot reach the place for longer than HOLD seconds, while others do, adds its
part to theirs, unless it waits (`Ask.alone`).
Workers that give different limits are held to the lowest that was given within KNOWN seconds.
"""

from __future__ import annotations

import math
from typing import Literal

from aimlasync.quota.minute import BUSY, HOLD, STEP, WINDOW, Bucket, Wheel, step_of
from aimlasync.quota.protocol import Ask, Lease, Memory

# Seconds of the rate that all leases under way are worth together.
SLICE = 0.2
# Seconds in which a lease may be spent.
TTL = 1.0
# Seconds after which a worker is forgotten.
KNOWN = 60.0
# What the others have at least while the parts of workers that are not heard are kept.
LEAST = 0.05
# Seconds within which all workers come back to a place that forgot.
RETURN = 2.0
# The longest pause: what a peer says is not believed beyond it.
MAX_PAUSE = 3600.0
# Quarters of a second by which the clocks of two places may differ and still be one.
SAME_CLOCK = 8


class _Worker:
    """What is known of one worker: its open lease, until when it is busy and known, in whole seconds, and its part."""

    __slots__ = ("alone", "busy", "known", "number", "part", "requests", "step", "tokens")

    def __init__(self) -> None:
        # 0 for none.
        self.number = 0
        self.requests = self.tokens = 0.0
        self.step = 0
        self.busy = self.known = 0
        self.part = 0.0
        self.alone: Literal["waits", "part", "share"] = "waits"


class Account:
    """One account's minute. All mutable state: the limits, sums and pace, who was seen, the pause, and its own age.

    It knows nothing of what was before, and waits for who does until `opens`: RETURN seconds, unless it is told.
    """

    def __init__(self, epoch: str, now: float, *, opens: float | None = None) -> None:
        self._begin(epoch, now)
        if opens is not None:
            self._opens = opens
        # Of each kind, limit -> until when it holds.
        self._limits: tuple[dict[float, float], dict[float, float]] = ({}, {})

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
        """Take in what a worker spent, and grant what it may send next."""
        if ask.epoch == self.epoch and ask.heard > self._number:
            # Restored from a copy: leases that were granted after it was made are not in it.
            self._begin(f"{now * 1e6:.0f}", now)
        self._requests = self._set(self._requests, self._limits[0], ask.requests_per_minute, now)
        self._tokens = self._set(self._tokens, self._limits[1], ask.tokens_per_minute, now)
        for bucket in (self._requests, self._tokens):
            if bucket is not None:
                bucket.forget(now)
        self._busy.forget(now - HOLD)
        self._known.forget(now)
        if now > self._sweep:
            self._sweep = now + KNOWN
            self._workers = {name: worker for name, worker in self._workers.items() if worker.known > now}
        if not ask.worker:
            # Somebody looks whether the place is there.
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
            # It asks for nothing, and has nothing.
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
        """Begin as one worker's part of an account of which it was told `memory` so long ago.

        A lease of that account may still be in its hands, so this one's pace begins when it has ended.
        """
        self._requests = self._set(self._requests, self._limits[0], requests, now)
        self._tokens = self._set(self._tokens, self._limits[1], tokens, now)
        if memory is not None:
            self._restore(memory, age, now, part)
        for bucket in (self._requests, self._tokens):
            if bucket is not None:
                bucket.paid_to = max(bucket.paid_to, now + TTL)

    def _restore(self, memory: Memory, age: float, now: float, part: float) -> None:
        """Count what the account sent before: what was told so long ago, and since then the pace."""
        shift = step_of(now - age) - memory.step
        if abs(shift) <= SAME_CLOCK:
            shift = 0
        for bucket, told in ((self._requests, memory.requests), (self._tokens, memory.tokens)):
            if bucket is not None:
                bucket.restore(told, shift, now - age, now, part)

    def _set(self, bucket: Bucket | None, limits: dict[float, float], limit: float | None, now: float) -> Bucket | None:
        if limit is not None:
            limits[limit] = now + KNOWN
        for old in [old for old, until in limits.items() if until <= now]:
            del limits[old]
        if not limits:
            return None
        if bucket is None:
            return Bucket(min(limits))
        bucket.set(min(limits))
        return bucket

    def _end(self, ask: Ask, worker: _Worker, now: float) -> int:
        """End the worker's lease at what it spent, and correct what it sent before; return where the lease is now."""
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
        # It may end before it began.
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
        """Return the part that the worker may use alone, and note the one that it may hold until it says otherwise."""
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
        """Tell a worker what there is beside its lease."""
        requests, tokens = self._requests, self._tokens
        lease.workers = self._known.sum(now)[0]
        lease.memory = Memory(step=step_of(now))
        if requests is not None:
            lease.requests_per_minute, lease.memory.requests = requests.limit, requests.told(now)
        if tokens is not None:
            lease.tokens_per_minute, lease.memory.tokens = tokens.limit, tokens.told(now)

    def _grant(self, ask: Ask, worker: _Worker, lease: Lease, now: float) -> None:
        busy, parts = self._busy.sum(now)
        # The part of the limits that is not in use by workers that the place does not hear.
        share = 1.0
        if now < self._opens:
            share = min(1.0, self._known.sum(now)[1] + worker.part)
        starts = now if share > 0 else self._opens
        share = max(LEAST, share - self._busy.sum(now - HOLD)[1] + parts) if share > 0 else 1.0
        calls = float(ask.calls)
        tokens = ask.tokens
        held_by: Literal["requests", "tokens", "pause"] = "requests"
        if self._requests is not None:
            calls = min(calls, math.floor(SLICE * self._requests.rate * share / (busy + 1)))
        if self._tokens is not None and tokens > 0:
            tokens = min(tokens, self._tokens.limit)
            calls = min(calls, math.floor(SLICE * self._tokens.rate * share / (busy + 1) / tokens))
        calls = max(1.0, calls)
        # What is leased for the first of them serves the others as well, mostly.
        tokens *= calls
        if self._requests is not None:
            starts = self._requests.earliest(calls, starts)
        if self._tokens is not None and (room := self._tokens.earliest(tokens, starts)) > starts:
            starts, held_by = room, "tokens"
        if self._paused_until > starts:
            starts, held_by = self._paused_until, "pause"
        # One minute may have room when the other has none: each is looked at again at the other's time.
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
