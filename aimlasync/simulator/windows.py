"""A strict sliding window: how much may be admitted in any 60 seconds.

Law: arithmetic on times that are handed in; no clock, no I/O.
Rule: an amount is admitted at time t when it and everything admitted in (t - seconds, t] sum to no more than the limit.
What is refused consumes nothing. An amount larger than the whole limit is never admitted.
Every admitted amount is kept until it leaves the window, so no burst at a bucket's edge slips through.
"""

from __future__ import annotations

from collections import deque


class SlidingWindow:
    """Exact record of what was admitted in the last `seconds`."""

    __slots__ = ("_admitted", "_sum", "limit", "seconds")

    def __init__(self, limit: float, *, seconds: float = 60.0) -> None:
        self.limit = limit
        self.seconds = seconds
        # (time, amount) oldest first, and the sum of the amounts.
        self._admitted: deque[tuple[float, float]] = deque()
        self._sum = 0.0

    def remaining(self, now: float) -> float:
        """Return how much may be admitted at `now`."""
        admitted = self._admitted
        oldest = now - self.seconds
        while admitted and admitted[0][0] <= oldest:
            self._sum -= admitted.popleft()[1]
        return self.limit - self._sum

    def admit(self, amount: float, now: float) -> None:
        """Count `amount`; the caller has asked `remaining` first."""
        self._admitted.append((now, amount))
        self._sum += amount

    def wait(self, amount: float, now: float) -> float:
        """Return the seconds from `now` until `amount` would be admitted if nothing else were."""
        missing = amount - self.remaining(now)
        if missing <= 0:
            return 0.0
        for time, held in self._admitted:
            missing -= held
            if missing <= 0:
                # Never 0, which would say that it fits: the difference of two times may vanish in rounding.
                return max(time + self.seconds - now, 1e-6)
        return self.seconds
