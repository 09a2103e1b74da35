"""Draining a client: its calls that still wait for a permit, for budget or before a retry are cancelled.

`Waits` holds the tasks of these calls, and refuses calls that begin after the drain. A call that holds a permit is not
among them, so it goes on. Closing a client ends such calls with an error. It may import `errors`. Why a call waited is
in `explanation`.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

from aimlasync.errors import ClientClosedError


def drained() -> ClientClosedError:
    """Return the error of a call that begins too late."""
    return ClientClosedError("this client was drained and sends nothing more; use another copy of it")


def closed() -> ClientClosedError:
    """Return the error of a call that waits, or is to wait, when its client is closed."""
    return ClientClosedError("this client is closed; make a new one")


class Waits:
    """The tasks that wait: a call enters while it waits for a permit, for money, or before a retry."""

    __slots__ = ("_tasks", "is_closed", "is_drained")

    def __init__(self) -> None:
        # Each with the cancellations that it had been asked for before.
        self._tasks: dict[asyncio.Task[Any] | None, int] = {}
        self.is_drained = False
        """Whether nothing more is sent."""
        self.is_closed = False
        """Whether who waits gets ClientClosedError."""

    def drain(self) -> None:
        """Cancel the tasks that wait, and let no call wait from now on."""
        self.is_drained = True
        self._cancel()

    def close(self) -> None:
        """End the waits with ClientClosedError, and let no call wait from now on."""
        self.is_closed = True
        self._cancel()

    def _cancel(self) -> None:
        for task in list(self._tasks):
            # A loop that was closed under its calls ends none of them.
            if task is not None and not task.get_loop().is_closed():
                task.cancel()

    def __enter__(self) -> None:
        if self.is_closed:
            raise closed()
        if self.is_drained:
            raise drained()
        task = asyncio.current_task()
        self._tasks[task] = 0 if task is None else task.cancelling()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            task = asyncio.current_task()
        except RuntimeError:
            # No loop runs where the collector closes what was left of a call.
            if kind is not GeneratorExit:
                raise
            return
        asked = self._tasks.pop(task, 0)
        is_ours = self.is_closed and isinstance(error, asyncio.CancelledError)
        # Unless somebody else's cancellation is beside that of `close`.
        if is_ours and task is not None and task.uncancel() <= asked:
            raise closed() from None
