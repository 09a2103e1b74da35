"""The tasks that go on in the next turn of the loop, since something has changed in what they wait for.

A future of asyncio has a callback of its own put into the loop when it is done. Here one callback goes on with all
tasks that were told of something in a turn. It imports nothing of this library.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from operator import length_hint
from typing import Protocol


class Waited(Protocol):
    """What a task waits for."""

    def go_on(self) -> None:
        """Let the task that waits go on, if there is one."""


class Wakeups:
    """What was told of something in this turn of the loop."""

    __slots__ = ("_woken",)

    def __init__(self) -> None:
        self._woken: list[Waited] = []

    def add(self, waited: Waited, loop: asyncio.AbstractEventLoop) -> None:
        """Let the task go on that waits for this, in the next turn."""
        if not self._woken:
            loop.call_soon(self._begin, loop)
        self._woken.append(waited)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        woken, self._woken = self._woken, []
        _go_on(iter(woken), loop)


def _go_on(woken: Iterator[Waited], loop: asyncio.AbstractEventLoop) -> None:
    """Let all go on that are left."""
    if length_hint(woken) > 1:
        # A step may end the program, as Ctrl-C does, or run the loop in itself (nest_asyncio, of notebooks) until
        # one of the others has gone on: the rest does not depend on it.
        loop.call_soon(_go_on, woken, loop)
    for waited in woken:
        waited.go_on()
