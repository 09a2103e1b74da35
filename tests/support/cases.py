"""Many small cases in one test, where a test of each would take longer to begin than to run.

It imports nothing of the library.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def case(*said: object) -> Iterator[None]:
    """Name the case in whatever fails within it."""
    try:
        yield
    except BaseException as failed:
        failed.add_note(f"The case: {', '.join(map(repr, said))}")
        raise
