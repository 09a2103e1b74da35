"""Deadlines of many calls, with one timer for all: `asyncio.timeout_at` costs each call a context manager and a timer.

Law: no I/O, one loop. The meaning is that of `asyncio.timeout` since Python 3.12, on 3.11 too: a deadline that passes
cancels the task, and is told from everybody else's cancellation by counting them (`Task.cancelling`); where both
happened, the call ends cancelled.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

# A ring looks at all open bounds. The next one waits for this many seconds for each of them, so that thousands that
# pass one after the other cost a tenth of the time and not all of it; each is late by that much at most.
_SPACING = 1e-6


class Bound(msgspec.Struct, eq=False):
    """One deadline of one task."""

    task: asyncio.Task[Any]
    when: float
    cancelling: int
    """Cancellations that the task had been asked for before."""
    has_passed: bool = False


class Deadlines:
    """The open deadlines of one loop."""

    __slots__ = ("_loop", "_open", "_rings_at", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._open: set[Bound] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = float("inf")

    def start(self, when: float) -> Bound:
        """Cancel the current task at `when`, unless `stop` comes first."""
        task = asyncio.current_task(self._loop)
        if task is None:
            raise RuntimeError("a call with a deadline must be made in a task")
        bound = Bound(task, when, task.cancelling())
        self._open.add(bound)
        if when < self._rings_at:
            self._arm(when)
        return bound

    def stop(self, bound: Bound) -> bool:
        """End a deadline, once; return whether it passed and a cancellation of the task is its own and no other's."""
        if not bound.has_passed:
            self._open.discard(bound)
            return False
        return bound.task.uncancel() <= bound.cancelling

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = when
        self._timer = self._loop.call_at(when, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._rings_at = float("inf")
        now = self._loop.time()
        for bound in [bound for bound in self._open if bound.when <= now]:
            self._open.discard(bound)
            bound.has_passed = True
            bound.task.cancel()
        if self._open:
            soonest = min(bound.when for bound in self._open)
            self._arm(max(soonest, now + len(self._open) * _SPACING))
