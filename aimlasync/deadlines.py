"""Deadlines and delays of many calls, with one timer for all.

`asyncio.timeout_at` costs each call a context manager and a timer, `loop.call_later` a timer. It imports nothing of
this library; one object serves one loop. A deadline means what `asyncio.timeout` means since Python 3.12, on 3.11 too:
when it passes, the task is cancelled, and that is told from everybody else's cancellation by counting them
(`Task.cancelling`). Where both happened, the call ends cancelled. A loop that stood still, as a machine that was
suspended or a callback that computes makes it, tells the time before it reads what arrived meanwhile; `grace` leaves
it the time to read first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

# A ring looks at all open alarms. The next one waits for this many seconds for each of them, so that thousands that
# pass one after the other cost a tenth of the time and not all of it; each is late by that much at most.
_SPACING = 1e-6
# Seconds. A timer that is late by more than that had a loop that stood still, and waits once more: for as long as it
# was late, since that much may have arrived, and for no longer than a second.
_LATE = 0.05
_MAX_GRACE = 1.0


def grace(due: float, now: float) -> float:
    """Return for how long a timer that was due then should wait before it rings; 0.0 unless the loop stood still."""
    late = now - due
    return min(late, _MAX_GRACE) if late > _LATE else 0.0


class Alarm(Protocol):
    """What is to be done at a time: of the loop, in seconds."""

    when: float

    def ring(self) -> None:
        """Do it."""


class _Delayed(msgspec.Struct, eq=False):
    when: float
    act: Callable[[], object]

    def ring(self) -> None:
        self.act()


class Bounded(msgspec.Struct, eq=False, kw_only=True):
    """What a task does until a deadline: a call is one. A deadline beside it would be one more object of each call."""

    when: float = float("inf")
    task: asyncio.Task[Any] | None = None
    """None unless the deadline is open."""
    cancelling: int = 0
    """Cancellations that the task had been asked for before."""
    has_passed: bool = False

    def ring(self) -> None:
        if self.task is not None:
            self.has_passed = True
            self.task.cancel()


class Deadlines:
    """The open alarms of one loop."""

    __slots__ = ("_due", "_loop", "_open", "_rings_at", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._open: set[Alarm] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = float("inf")
        # When the timer can ring at the earliest; infinite once it is to ring however late it is.
        self._due = float("inf")

    def start(self, work: Bounded, when: float) -> None:
        """Cancel the current task at `when`, unless `stop` comes first."""
        task = asyncio.current_task(self._loop)
        if task is None:
            raise RuntimeError("a call with a deadline must be made in a task")
        work.when, work.task = when, task
        if asked := task.cancelling():
            work.cancelling = asked
        self._open.add(work)
        if when < self._rings_at:
            self._arm(when)

    def stop(self, work: Bounded) -> bool:
        """End a deadline; return whether it passed and a cancellation of the task is its own and no other's.

        False where there is none, or where it was ended before.
        """
        task, work.task = work.task, None
        if task is None:
            return False
        if not work.has_passed:
            self._open.discard(work)
            return False
        return task.uncancel() <= work.cancelling

    def after(self, seconds: float, act: Callable[[], object]) -> Alarm:
        """Call `act` in so many seconds, unless `cancel` comes first."""
        alarm = _Delayed(self._loop.time() + seconds, act)
        self.open(alarm)
        return alarm

    def open(self, alarm: Alarm) -> None:
        """Ring `alarm` when it is time, unless `cancel` comes first."""
        self._open.add(alarm)
        if alarm.when < self._rings_at:
            self._arm(alarm.when)

    def cancel(self, alarm: Alarm) -> None:
        """Do nothing then; harmless when it is too late."""
        self._open.discard(alarm)

    def ring_all(self) -> None:
        """Ring all that are open, as if it were time."""
        alarms, self._open = self._open, set()
        for alarm in alarms:
            alarm.ring()

    def rest(self) -> None:
        """Let go of the loop's timer, which else keeps this alive until it rings, unless an alarm is open."""
        if self._timer is not None and not self._open:
            self._timer.cancel()
            self._timer, self._rings_at = None, float("inf")

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = when
        # Some alarms are past when they are set.
        self._due = max(when, self._loop.time())
        # Behind the callers' own bounds of the same turn: a cancellation of anyio's is lost behind another one.
        self._timer = self._loop.call_at(when, self._loop.call_soon, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._rings_at = float("inf")
        now = self._loop.time()
        if seconds := grace(self._due, now):
            self._arm(now + seconds)
            self._due = float("inf")
            return
        for alarm in [alarm for alarm in self._open if alarm.when <= now]:
            self._open.discard(alarm)
            alarm.ring()
        soonest = min((alarm.when for alarm in self._open), default=float("inf"))
        if soonest < float("inf"):
            self._arm(max(soonest, now + len(self._open) * _SPACING))
