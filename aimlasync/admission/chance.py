"""Refusals that come by chance, at any rate: a member of a pool is full, or others overload the model.

A limit refuses the attempts of a probe, which are sent faster than others were accepted, and few others. What chance
refuses comes outside probes as often as in them, at lower rates than were accepted, evenly, and beside any number of
others: to send fewer would lose answers and save no refusal. That share is taken for chance, and only more than that
for a limit. It is arithmetic without I/O or a clock, for `admission.adaptive`, and imports nothing of this library.
"""

from __future__ import annotations

import math
from collections import deque

# Shares of refusals that differ by less than this factor may be the same.
_ALIKE = 2.0
# Refusals, twice as many, from which a share is told. The same number is the logarithm of the odds, twice that outside
# probes, from which on more than that share speaks of a limit.
_ENOUGH = 6

Interval = tuple[float, int, int, float, int, bool]
"""A rate, what was accepted at it, the refusals (1 or 0) by which that ended, the seconds that it took, how many others
were beside the refused attempt, and whether it was a probe."""


class Chance:
    """The share of the attempts that is refused at any rate. `accepted` counts those that were not refused, so far."""

    __slots__ = ("_excess", "_intervals", "_last", "_last_at", "share", "since")

    def __init__(self) -> None:
        self.share = 0.0
        """The share that is taken for chance; 0.0 while each refusal speaks of a limit."""
        self.since: tuple[float, int] | None = None
        """When more than that began to be refused, and what had been accepted by then; None where no share is."""
        self._excess = 0.0
        # What had been accepted at the last refusal, and when that came.
        self._last, self._last_at = 0, -math.inf
        self._intervals: deque[Interval] = deque(maxlen=6 * _ENOUGH)

    def explains(
        self, now: float, accepted: int, known: float, probe: tuple[float, int, float], beside: int, limit: float
    ) -> bool:
        """Take in a refusal, beside so many others, at a known rate; return whether it is one that comes by chance.

        `probe` is the rate of the probe that it ends, the attempts accepted in it (0 outside a probe), and its seconds.
        Up to `limit` of those accepted are at the server, and may be refused still.
        """
        between, self._last = max(0, accepted - self._last), accepted
        seconds, self._last_at = now - self._last_at, now
        rate, probed, tried = probe
        if self.share * (between - limit) > 2 * _ENOUGH:
            # None came for so long that chance is over. Without: a bucket that follows 30 % refuses 40 % for 29.
            self.share = 0.0
        if not self.share:
            self.since = None
        else:
            # The odds that the share is its own root: where one in a hundred comes by chance, three in a row do not.
            self._excess -= between * math.log1p(math.sqrt(self.share))
            if self.since is None or self._excess <= 0:
                self._excess, self.since = 0.0, (now, accepted)
            self._excess -= math.log(self.share) / 2
            # A probe that ends by mistake costs little.
            if self._excess < (2 * _ENOUGH / 3 if self.since[1] >= accepted - probed else 2 * _ENOUGH):
                return True
            self._excess = 0.0
        if known < math.inf:
            inside, tried = min(probed, between), min(tried, seconds)
            self._intervals.append((known, between - inside, int(not inside), seconds - tried, beside, False))
            if inside:
                self._intervals.append((rate, inside, 1, tried, beside, True))
        return False

    def slowed(self) -> bool:
        """Return whether it was in vain that refusals have brought the rate down; if so, the share is known."""
        slow = sorted(self._intervals)
        fast: list[Interval] = []
        held = [interval for interval in self._intervals if not interval[-1]]
        lost, share = sum(refused for _, _, refused, *_ in slow), _share(held)
        if lost < 2 * _ENOUGH or not math.sqrt(_ALIKE) * self.share <= share <= 1 / _ALIKE:
            return False
        if _share([interval for interval in slow if interval[-1]]) > _ALIKE * share:
            # Probes: what was sent faster was refused.
            return False
        gaps = [0]
        for _, count, refused, *_ in held:
            gaps[-1] += count
            gaps += [0] * refused
        if (len(gaps) - 1) * sum(gap * gap for gap in gaps) > 1.25 * (1 + 1 / (1 - share)) * sum(gaps) ** 2:
            # Bursts of them: the mean square of what chance spaces is so many times its mean, squared. With twice, as
            # for small shares: of 98/s that are 30 % refused for a minute, .3 are sent for one in ten seeds.
            return False
        levels = sorted(beside for _, _, refused, _, beside, _ in held if refused)
        if levels[-1] > 4 and levels[-1] - levels[len(levels) // 2] < math.sqrt(levels[-1]) / 2:
            # All of them at one height: that is the limit of attempts in flight. Few attempts are always at one height.
            return False
        while 2 * sum(refused for _, _, refused, *_ in slow) > lost + 1:
            fast.append(slow.pop())
        # What was accepted at the higher rates: those that are known are not always reached. And the later ones' rates.
        accepted = sum(count for _, count, *_ in fast) / max(1e-9, sum(seconds for _, _, _, seconds, *_ in fast))
        rates = [rate for rate, _, refused, *_ in slow if refused]
        if sum(rates) > 0.97 * accepted * len(rates):
            # Without the 3 %: a sliding minute that a probe has filled refuses some; .93 for .97.
            return False
        self.share, self._excess = share, 0.0
        self._intervals.clear()
        return True


def _share(intervals: list[Interval]) -> float:
    lost = sum(refused for _, _, refused, *_ in intervals)
    return lost / max(1, lost + sum(count for _, count, *_ in intervals))
