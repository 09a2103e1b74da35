"""Lets the fields of a struct be assigned as those of any other class, which takes a quarter of the time.

msgspec watches each assignment, for the garbage collector may have to begin to look at a struct by what is put into it.
It imports nothing of this library.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

S = TypeVar("S", bound=msgspec.Struct)


def plainly_stored(struct: type[S]) -> type[S]:
    """Let the fields be assigned unwatched; for a struct that must not be frozen, and is never put into itself.

    The collector looks at one that was made with an object that it looks at, or never.
    """
    # Later than in the body of the class: msgspec gives each class its own.
    struct.__setattr__ = object.__setattr__  # type: ignore[method-assign]
    struct.__delattr__ = object.__delattr__  # type: ignore[method-assign]
    return struct
