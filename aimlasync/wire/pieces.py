"""Texts that arrive in pieces, and are read before the last has come.

It imports nothing.
"""

from __future__ import annotations


def joined(pieces: list[str]) -> str:
    """Return the pieces as one text, and keep them as that one: to read after each piece joins each piece once."""
    if len(pieces) > 1:
        pieces[:] = ["".join(pieces)]
    return pieces[0] if pieces else ""
