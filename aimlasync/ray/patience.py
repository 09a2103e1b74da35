"""How long a process of a cluster may say nothing before it is taken for lost.

A process that is frozen and one that gets no processor look alike. The first must be replaced; the second would be
replaced again and again before its first answer. So each replacement doubles the time, and a silence that ended by
itself is one that may come again. Imports nothing.
"""

from __future__ import annotations

_HALF = 600.0
"""Seconds of news after which half is left of what is above the least."""


class Patience:
    """`seconds` that the next news of one process may take: at least as many as it begins with."""

    def __init__(self, seconds: float) -> None:
        self.seconds = self._least = seconds

    def heard(self, after: float) -> None:
        """Take into account that news came, after so many seconds."""
        kept = (self.seconds - self._least) * 0.5 ** (after / _HALF)
        self.seconds = max(self._least + kept, 2 * after)

    def lost(self) -> None:
        """Take into account that none came in time."""
        self.seconds *= 2
