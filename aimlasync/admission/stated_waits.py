"""Whether a wait that refusals state holds for all calls, or for the refused one alone.

A window that is full takes nobody until it moves on, and says how long that is. Other servers, and gateways before
them, say the same wait with each refusal, though the next answer makes room. To stand still for it would leave such a
server idle. Where an attempt is refused alone, its wait holds for all. Where it is refused beside others, those may
have taken the room, and a wait that is long, or the same again, is put to the test: calls go on after a part of it.
Where one of them is answered that was sent within it, a wait like it holds for the refused call alone. Where one is
refused, twice as much of the wait is kept; and where that was alone, the next test is twice as many refusals away. It
is arithmetic without I/O or a clock, and imports nothing of this library.
"""

from __future__ import annotations

import math

# Seconds that all calls keep without a test, where the last wait was another one.
_SHORT = 5.0
# A longer one is that of a limit by the hour or the day.
_LONG = 120.0
# The part of a wait that all calls keep before a test, and the most seconds.
_PART, _MOST = 0.25, 1.0
# The most refusals from one test to the next.
_RAREST = 64


class StatedWaits:
    """What the waits of one server turned out to mean. Its mutable state: the last one, and what is known of it."""

    __slots__ = ("_between", "_is_for_one", "_kept", "_left", "_seconds", "_since", "is_tested")

    def __init__(self) -> None:
        self.is_tested = False
        """Whether calls go on within a wait; only then is an answer worth a word."""
        # The last wait, when it was stated, how much of it all calls keep, and whether some were answered within it.
        self._seconds, self._since, self._kept = math.nan, -math.inf, 0.0
        self._is_for_one = False
        # The refusals from one test to the next, and those that are left until then.
        self._between = self._left = 0

    def kept(self, now: float, started: float, beside: int, seconds: float) -> float:
        """Take in the wait that a refusal states; return the seconds of it that all calls are to keep.

        The refused attempt was sent at `started` beside so many others.
        """
        if started <= self._since:
            # It was sent before that wait was known.
            return self._kept
        is_same, is_within = seconds == self._seconds, now < self._since + self._seconds
        kept = seconds
        if not beside:
            if self.is_tested and is_within:
                self._between = self._left = min(_RAREST, 2 * self._between + 1)
            self._is_for_one = False
        elif self.is_tested and is_within:
            kept = min(seconds, 2 * self._kept)
        elif is_same and self._is_for_one:
            kept = 0.0
        elif self._left:
            self._left -= 1
        elif seconds <= _LONG and (seconds > _SHORT or is_same):
            kept = min(_PART * seconds, _MOST)
        self.is_tested = kept < seconds
        self._is_for_one = self._is_for_one and is_same
        self._seconds, self._since, self._kept = seconds, now, kept
        return kept

    def answered(self, started: float) -> None:
        """Take in the answer to an attempt sent at `started`; call it while a wait `is_tested`."""
        if self._since < started < self._since + self._seconds:
            self.is_tested, self._is_for_one = False, True
