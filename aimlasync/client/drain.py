"""Draining a client: its calls that still wait for a permit, for budget or before a retry are cancelled.

`Waits` holds the tasks of these calls, and refuses calls that begin after the drain. A call that holds a permit is not
among them, so it goes on. It may import `errors`. Why a call waited is in `explanation`.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

from aimlasync.errors import ClientClosedError


def drained() -> ClientClosedError:
    """Return the error of a call that begins too late."""
    return ClientClosedError("this client was drained and sends nothing more; use another copy of it")


class Waits:
    """The tasks that wait: a call enters while it waits for a permit, for money, or before a retry."""

    __slots__ = ("_tasks", "is_drained")

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any] | None] = set()
        self.is_drained = False
        """Whether nothing more is sent."""

    def drain(self) -> None:
        """Cancel the tasks that wait, and let no call wait from now on."""
        self.is_drained = True
        for task in list(self._tasks):
            # A loop that was closed under its calls ends none of them.
            if task is not None and not task.get_loop().is_closed():
                task.cancel()

    def __enter__(self) -> None:
        if self.is_drained:
            raise drained()
        self._tasks.add(asyncio.current_task())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._tasks.discard(asyncio.current_task())
        except RuntimeError:
            # No loop runs where the collector closes what was left of a call.
            if kind is not GeneratorExit:
                raise
