"""Whether to believe headers that say that a window is used up.

Some servers say so in every answer, or mean milliseconds, and a client that believes it sends a handful a minute. Where
a window took several attempts, and the first answer after its reset says again that nothing is left, one of the two is
wrong. After a few of those in a row it is not believed, until an attempt is refused. It is arithmetic without I/O or a
clock, and imports nothing of this library.
"""

from __future__ import annotations

import math

# So many contradictions in a row.
_MANY = 3


class UsedUp:
    """What one model's headers said of its windows. Its mutable state: the window under way."""

    __slots__ = ("_before", "_contradictions", "_last", "_size", "_until")

    def __init__(self) -> None:
        # Until when nothing is left, as was said; the answers before the first of a window that said so, and before the
        # last one; what the window took.
        self._until = -math.inf
        self._before = self._last = self._size = 0
        self._contradictions = 0

    def believes(self, now: float, seconds: float, answers: int) -> bool:
        """Take in that nothing is left for so many seconds, in the answer after so many; return whether to heed it."""
        if now < self._until:
            self._size = max(self._size, answers + 1 - self._before)
        else:
            took = answers + 1 - self._last
            self._contradictions = self._contradictions + 1 if 2 * took <= self._size else 0
            self._before, self._size = answers, took
        self._last = answers + 1
        self._until = max(self._until, now + seconds)
        return self._contradictions < _MANY

    def refused(self) -> None:
        """Take in a refusal: there are limits."""
        self._contradictions = 0
