"""Attempts that hang: sent long ago and neither answered nor ended, while calls wait for their places.

A machine loses power, a network forgets a connection, a server is stuck: nobody says so, and an attempt there waits for
its timeout, which may be ten minutes away. Where such attempts fill what is learned of a limit, nothing would be sent
until then. So one more is sent. Once it is answered, what hangs takes no place of the others until it ends. It is
arithmetic without I/O or a clock, and imports nothing of this library.
"""

from __future__ import annotations

import math


class Hung:
    """The attempts in flight that hang. Its mutable state: their count, and whether others are answered meanwhile."""

    __slots__ = ("_are_others_answered", "_since", "count")

    def __init__(self) -> None:
        self.count = 0
        self._since = -math.inf
        self._are_others_answered = False

    def found(self, now: float, in_flight: int) -> None:
        """Note that all attempts in flight hang."""
        self.count, self._since, self._are_others_answered = in_flight, now, False

    def ended(self, sent_at: float, *, is_answered: bool) -> None:
        """Note that an attempt ended; call it while `count` is not 0."""
        if sent_at < self._since:
            self.count -= 1
        elif is_answered:
            self._are_others_answered = True

    def beside(self, limit: int) -> int:
        """Return how many attempts may be in flight, those that hang included, where `limit` may that do not."""
        return self.count + limit if self._are_others_answered else max(limit, self.count + 1)
