"""The tasks that go on in the next turn of the loop, since something has changed in what they wait for.

A future of asyncio has a callback of its own put into the loop when it is done. Here one callback goes on with all
tasks that were told of something in a turn. It imports nothing of this library.
"""

from __future__ import annotations

import asyncio
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
            loop.call_soon(self._go_on, loop)
        self._woken.append(waited)

    def _go_on(self, loop: asyncio.AbstractEventLoop) -> None:
        woken, self._woken = iter(self._woken), []
        try:
            for waited in woken:
                waited.go_on()
        finally:
            # Behind a step that ends the program, as Ctrl-C does; mostly none are left.
            for waited in woken:
                self.add(waited, loop)
