"""The outcomes of an attempt that matter to admission. It imports nothing of this library."""

from __future__ import annotations

import enum


class Outcome(enum.Enum):
    """What an attempt says about the server's capacity."""

    OK = enum.auto()
    """A good answer."""
    DROPPED = enum.auto()
    """The server refused for lack of capacity: 429, 503, or no connection."""
    IGNORED = enum.auto()
    """It says nothing about capacity: a bad request, say."""
    CANCELLED = enum.auto()
    """Nor does this: nobody waits for the answer any more."""
