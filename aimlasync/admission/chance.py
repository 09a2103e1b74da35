"""Refusals that come by chance, at any rate: a member of a pool is full, or others overload the model.

A limit refuses a smaller share of the attempts as they are sent more slowly, and none below what it accepted before.
Where the same share is refused there, it is no limit that refuses: to send fewer still would lose answers and save no
refusal. That share is taken for chance, and only more than that for a limit. Many in a row, with nothing accepted
between them, are no even share either. It is arithmetic without I/O or a clock, for `admission.adaptive`, and imports
nothing of this library.
"""

from __future__ import annotations

import math
from collections import deque

# Shares of refusals that differ by less than this factor may be the same.
_ALIKE = 2.0
# Refusals from which a share is told. Twice as many, above what chance refuses, speak of a limit.
_ENOUGH = 6

Interval = tuple[float, int, int, float]
"""A rate, what was accepted at it, the refusals (1 or 0) by which that ended, and the seconds that it took."""


class Chance:
    """The share of the attempts that is refused at any rate. `accepted` counts those that were not refused, so far."""

    __slots__ = ("_excess", "_intervals", "_last", "_last_at", "_run", "share", "since")

    def __init__(self) -> None:
        self.share = 0.0
        """The share that is taken for chance; 0.0 while each refusal speaks of a limit."""
        self.since: tuple[float, int] | None = None
        """When more than that began to be refused, and what had been accepted by then; None where no share is."""
        self._excess = 0.0
        # What had been accepted at the last refusal, and when that came.
        self._last, self._last_at = 0, -math.inf
        # Refusals in a row, with nothing accepted between them.
        self._run = 0
        self._intervals: deque[Interval] = deque(maxlen=4 * _ENOUGH)

    def explains(self, now: float, accepted: int, probed: int, rate: float, limit: float) -> bool:
        """Take in a refusal at a rate; return whether it is one of those that come by chance.

        `probed` of the accepted attempts belong to the probe that it ends. What is refused there was sent too fast. Up
        to `limit` of them are at the server, and may be refused still.
        """
        between, self._last = max(0, accepted - self._last), accepted
        seconds, self._last_at = now - self._last_at, now
        self._run = 0 if between else self._run + 1
        if self._run > _ENOUGH:
            # So many in a row are no even share.
            self._intervals.clear()
        elif rate < math.inf:
            self._intervals.append((rate, max(0, between - probed), 0 if probed else 1, seconds))
        if self.share * (between - limit) > 2 * _ENOUGH:
            # None came for so long that chance is over. Without: a bucket that follows 30 % refuses 40 % for 29.
            self.share = 0.0
        if not self.share:
            self.since = None
            return False
        self._excess -= math.sqrt(_ALIKE) * self.share * between
        if self.since is None or self._excess <= 0:
            self._excess, self.since = 0.0, (now, accepted)
        self._excess += 1
        # A probe that ends by mistake costs little.
        if self._excess > (_ENOUGH if self.since[1] >= accepted - probed else 2 * _ENOUGH):
            self._excess = 0.0
            return False
        return True

    def slowed(self) -> bool:
        """Return whether it was in vain that refusals have brought the rate down."""
        slow = sorted(self._intervals)
        fast: list[Interval] = []
        lost = sum(refused for _, _, refused, _ in slow)
        if lost < 2 * _ENOUGH:
            return False
        counts = [count for _, count, refused, _ in slow if refused]
        if lost * sum(count * count for count in counts) > 1.5 * _ALIKE * sum(counts) ** 2:
            # Bursts of them: the mean square of what chance spaces is twice its mean, squared. Without: capacities that
            # change refuse 1.5 % for 1.2.
            return False
        while 2 * sum(refused for _, _, refused, _ in fast) < lost - 1:
            fast.append(slow.pop())
        before, share = _share(fast), _share(slow)
        ended = [interval for interval in slow if interval[2]]
        # What was accepted at the higher rates: those that are known are not always reached. And the rate of the later
        # refusals.
        accepted = sum(count for _, count, _, _ in fast) / max(1e-9, sum(seconds for *_, seconds in fast))
        refused = sum(rate for rate, _, _, _ in ended) / len(ended)
        if refused > accepted or max(before, share) > 1 / _ALIKE:
            return False
        if not before / _ALIKE < share <= _share(ended) < _ALIKE * before:
            return False
        self.share, self._excess = max(before, share), 0.0
        self._intervals.clear()
        return True


def _share(intervals: list[Interval]) -> float:
    lost = sum(refused for _, _, refused, _ in intervals)
    return lost / (lost + sum(count for _, count, _, _ in intervals))
