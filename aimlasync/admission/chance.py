"""Refusals that come by chance, at any rate: a member of a pool is full, or others overload the model.

A limit refuses a smaller share of the attempts, and soon none, as they are sent more slowly. Where the rate has fallen
and the same share is refused as before, it is no limit that refuses: to send fewer still would lose answers and save no
refusal. That share is taken for chance, and only more than that for a limit. Many in a row, with nothing accepted
between them, are no even share either. It is arithmetic without I/O or a clock, for `admission.adaptive`, and imports
nothing of this library.
"""

from __future__ import annotations

import math

# Shares of refusals that differ by less than this factor may be the same. They are compared where the rate is slower by
# its root.
_ALIKE = 2.0
# Refusals from which a share is told. Twice as many, above what chance refuses, speak of a limit.
_ENOUGH = 6


class Chance:
    """The share of the attempts that is refused at any rate. `accepted` counts those that were not refused, so far."""

    __slots__ = ("_above", "_at", "_began", "_excess", "_last", "_lost", "_run", "_top", "share")

    def __init__(self) -> None:
        self.share = 0.0
        """The share that is taken for chance; 0.0 while each refusal speaks of a limit."""
        self._excess = 0.0
        # What had been accepted at the last refusal.
        self._last = 0
        # Refusals in a row, with nothing accepted between them.
        self._run = 0
        # The rate from which on refusals are counted, what had been accepted before, and the refusals.
        self._top, self._began, self._lost = 0.0, 0, 0
        # Of the attempts counted, those accepted up to the last refusal.
        self._at = 0
        # At the rates above that: refusals, and attempts.
        self._above = (0, 0)

    def explains(self, accepted: int, probed: int) -> bool:
        """Take in a refusal; return whether it is one of those that come by chance.

        `probed` of the accepted attempts belong to the probe that it ends. What is refused there was sent too fast.
        """
        between, self._last = accepted - self._last, accepted
        self._run = 0 if between > 0 else self._run + 1
        if self._run > _ENOUGH:
            # So many in a row are no even share.
            self._top = 0.0
        if probed:
            self._began += probed
        else:
            counted = accepted - self._began
            if self._above[0] * (counted - self._at) > _ENOUGH * self._above[1]:
                # None came for so long that it is no even share.
                self._top = 0.0
            self._lost, self._at = self._lost + 1, counted
        if self.share * between > 2 * _ENOUGH:
            # None came for so long that chance is over.
            self.share = 0.0
        if not self.share:
            return False
        self._excess = max(0.0, self._excess - math.sqrt(_ALIKE) * self.share * between) + 1
        if self._excess > 2 * _ENOUGH:
            self._excess = 0.0
            return False
        return True

    def slowed(self, rate: float, accepted: int) -> bool:
        """Take in the rate to which refusals have brought attempts down; return whether that is in vain."""
        if not self._top or rate > 2 * self._top:
            self._top, self._began, self._at, self._lost, self._above = rate, accepted, 0, 0, (0, 0)
        if rate > self._top / math.sqrt(_ALIKE) or self._lost < _ENOUGH:
            return False
        lost, accepted, self._lost, self._at, self._began = self._lost, accepted - self._began, 0, 0, accepted
        share, above, slower, self._top = lost / (lost + accepted), self._above, rate / self._top, rate
        self._above = (above[0] + lost, above[1] + lost + accepted)
        if not above[1]:
            return False
        before = above[0] / above[1]
        # What a limit would refuse at this rate.
        limits = max(0.0, 1 - (1 - before) / slower)
        if max(before, share) > 1 / _ALIKE or not (before + limits) / 2 <= share < _ALIKE * before:
            return False
        self.share, self._excess, self._top = max(before, share), 0.0, 0.0
        return True
