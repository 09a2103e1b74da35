"""TODO."""

from __future__ import annotations

import enum


class Outcome(enum.Enum):
    """What an attempt says about the server's capacity."""

    OK = enum.auto()
    """A good answer."""
    DROPPED = enum.auto()
    """Too much was asked: 429, 503, or no connection."""
    IGNORED = enum.auto()
    """Says nothing: a bad request, a cancelled caller."""
