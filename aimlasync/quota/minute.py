"""One limit's minute, and the count of the workers that share it: the parts of `quota.account`.

They are arithmetic without I/O; the caller passes the time. The script of `aimlasync.redis.scripts` does the same in
Lua, step by step: a change here is a change there. It imports nothing of this library.
"""

from __future__ import annotations

import math

# Seconds. The server counts a request when it arrives: one that was slow on its way counts there for longer.
WINDOW = 60.0 + 1.0
# Sums are kept by steps of a quarter of a second, and told to workers by stretches of so many steps.
STEP = 0.25
STRETCH = 20
# The rate of the leases, as a share of the limit. It is below what the minute allows (60 of 61.4), so that the minute
# rarely has to hold a lease back.
RATE_SHARE = 0.975
# Seconds that a lease may begin ahead of the rate: the time that an ask takes.
AHEAD = 0.2
# The share of a lease that credit may pay for.
CREDIT = 0.75
# Seconds after the begin of its lease in which a worker counts as busy; then its part goes to the others.
BUSY = 2.0
# Seconds for which the part of a busy worker that is not heard stays reserved.
HOLD = 20.0
# The longest debt that a worker's report can make, in seconds of the rate.
MAX_DEBT = 120.0

_EPSILON = 1e-6


class Bucket:
    """One limit: the time up to which the rate is paid for (`paid_to`), credit, and the sums of the last minute.

    Leases follow the generic cell rate algorithm: `paid_to` is its theoretical arrival time.
    """

    __slots__ = ("credit", "limit", "paid_to", "rate", "restored", "steps", "sums", "total")

    def __init__(self, limit: float) -> None:
        self.steps: dict[int, float] = {}
        # The sums by stretches; and what of `steps` workers told after a loss of state.
        self.sums: dict[int, float] = {}
        self.restored: dict[int, float] = {}
        self.total = 0.0
        self.credit = 0.0
        self.paid_to = 0.0
        self.set(limit)

    def set(self, limit: float) -> None:
        self.limit = limit
        self.rate = limit * RATE_SHARE / 60

    def forget(self, now: float) -> None:
        for steps, seconds in ((self.steps, STEP), (self.sums, STRETCH * STEP), (self.restored, STEP)):
            for step in [step for step in steps if step * seconds <= now - WINDOW]:
                del steps[step]
        self.total = sum(self.steps.values())
        if now - self.paid_to > 60.0:
            self.credit = 0.0

    def earliest(self, amount: float, now: float) -> float:
        """Return the first time from `now` on at which `amount` may be sent."""
        starts = max(now, self.paid_to - AHEAD)
        if self.total + min(amount, self.limit) - self.limit <= _EPSILON:
            return starts
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
        paid = min(self.credit, CREDIT * amount)
        self.credit -= paid
        seconds = (amount - paid) / self.rate
        self.paid_to = max(self.paid_to, starts) + min(seconds / share, seconds + HOLD)

    def add(self, amount: float, step: int) -> None:
        before = self.steps.get(step, 0.0)
        after = self.steps[step] = max(0.0, before + amount)
        self.total += after - before
        stretch = math.ceil(step / STRETCH)
        self.sums[stretch] = max(0.0, self.sums.get(stretch, 0.0) + after - before)

    def adjust(self, difference: float, now: float) -> None:
        """Note that attempts took `difference` more than was paid for, or less if it is negative."""
        if difference > 0:
            paid = min(self.credit, difference)
            self.credit -= paid
            owed = max(self.paid_to, now) + (difference - paid) / self.rate
            self.paid_to = max(self.paid_to, min(owed, now + MAX_DEBT))
            return
        # It pays debt first; the rest becomes credit.
        owed = max(0.0, self.paid_to - now) * self.rate
        paid = min(owed, -difference)
        self.paid_to -= paid / self.rate
        self.credit = min(self.limit, self.credit - difference - paid)

    def told(self, now: float) -> list[float]:
        """Return the sums that workers keep for the case that the place loses its state; see `protocol.Memory`."""
        sums = [self.credit, max(0.0, self.paid_to - now)]
        for stretch, amount in self.sums.items():
            sums += (stretch, amount)
        return sums

    def restore(self, told: list[float], shift: int, since: float, now: float, part: float) -> None:
        """Count the sums that were told, and the full rate since then; what several workers tell is counted once."""
        credit, ahead = told[:2] if len(told) >= 2 else (0.0, 0.0)
        sums: dict[int, float] = {}
        for stretch, amount in zip(told[2::2], told[3::2], strict=False):
            step = math.ceil(stretch) * STRETCH + shift
            if now < step * STEP + WINDOW < now + 3 * WINDOW:
                sums[step] = min(max(0.0, amount) * part, self.limit)
        # The sums reach to the time that was paid for then. From there to now, the full rate may have been sent.
        paid_to = since + min(max(0.0, ahead), MAX_DEBT)
        self.paid_to = max(self.paid_to, paid_to)
        until = now + AHEAD
        for step, amount in _sent_at_rate(max(paid_to, now - WINDOW), until, self.rate).items():
            sums[step] = sums.get(step, 0.0) + amount
        newest = math.ceil(until / STEP / STRETCH) * STRETCH
        # Credit may have paid for more since.
        credit = min(max(0.0, credit) * part, self.rate * (until - since) * CREDIT / (1 - CREDIT))
        sums[newest] = sums.get(newest, 0.0) + credit
        for step, amount in sums.items():
            more = amount - self.restored.get(step, 0.0)
            if more > 0:
                self.add(more, step)
                self.restored[step] = amount

    def was_alone(self, seconds: float, now: float, part: float) -> None:
        """Count what a worker may have sent in `seconds` in which it used its part alone, and make it debt."""
        for step, amount in _sent_at_rate(now - min(seconds, WINDOW), now, part * self.rate).items():
            self.add(amount, step)
        self.adjust(part * self.rate * min(seconds, BUSY), now)


def _sent_at_rate(since: float, until: float, rate: float) -> dict[int, float]:
    """Return what is sent at `rate`, by the last step of each stretch."""
    seconds, sums = STRETCH * STEP, {}
    for stretch in range(math.ceil(since / seconds), math.ceil(until / seconds) + 1):
        length = min(until, stretch * seconds) - max(since, (stretch - 1) * seconds)
        if length > 0:
            sums[stretch * STRETCH] = rate * length
    return sums


class Wheel:
    """How many workers there are, and the sum of their parts, by the second in which they expire (a timing wheel)."""

    __slots__ = ("counts", "parts")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.parts: dict[int, float] = {}

    def put(self, second: int, part: float) -> None:
        self.counts[second] = self.counts.get(second, 0) + 1
        self.parts[second] = self.parts.get(second, 0.0) + part

    def remove(self, second: int, part: float) -> None:
        if second in self.counts:
            self.counts[second] -= 1
            self.parts[second] -= part

    def forget(self, until: float) -> None:
        for second in [second for second in self.counts if second <= until]:
            del self.counts[second], self.parts[second]

    def sum(self, after: float) -> tuple[int, float]:
        """Return the count and the sum of the parts of the workers that expire after a time."""
        seconds = [second for second in self.counts if second > after]
        return sum(self.counts[second] for second in seconds), sum(self.parts[second] for second in seconds)


def step_of(time: float) -> int:
    """Return the step that ends at a time or after it."""
    return math.ceil(time / STEP)
