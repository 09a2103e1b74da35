"""A line of those who wait, in two lanes: interactive goes before bulk, but for a share that is bulk's.

Law: order only; who is admitted, and when, is the business of the one who keeps the line. First come, first served
within a lane. All mutable state is the two queues, the number alive in them, and the count since bulk had its turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, Literal, TypeVar

Priority = Literal["interactive", "bulk"]

# When both lanes wait, every so many turns one is bulk's: it moves on, and interactive hardly notices.
_BULK_EVERY = 8
# Those who left stay in the queue until they are at its head, or until they are this many more than the living.
_DEAD = 64

T = TypeVar("T")


class Waiter(Generic[T]):
    """One who waits for `turn`; `need` tells the keeper of the line, whenever it asks, how much is waited for."""

    __slots__ = ("need", "priority", "turn")

    def __init__(self, turn: asyncio.Future[T], priority: Priority, need: Callable[[], float]) -> None:
        self.turn = turn
        self.priority = priority
        self.need = need


class Line(Generic[T]):
    """The line; `len` counts those who still wait."""

    __slots__ = ("_alive", "_bulk", "_interactive", "_since_bulk")

    def __init__(self) -> None:
        self._interactive: deque[Waiter[T]] = deque()
        self._bulk: deque[Waiter[T]] = deque()
        self._alive = 0
        self._since_bulk = 0

    def join(self, priority: Priority, need: Callable[[], float]) -> Waiter[T]:
        """Stand at the end of a lane."""
        waiter: Waiter[T] = Waiter(asyncio.get_running_loop().create_future(), priority, need)
        self._lane(priority).append(waiter)
        self._alive += 1
        return waiter

    def head(self) -> Waiter[T] | None:
        """Return the one whose turn it is, None when nobody waits."""
        for lane in (self._interactive, self._bulk):
            while lane and lane[0].turn.done():
                lane.popleft()
        if self._bulk and (not self._interactive or self._since_bulk >= _BULK_EVERY):
            return self._bulk[0]
        return self._interactive[0] if self._interactive else None

    def serve(self, waiter: Waiter[T], what: T) -> None:
        """Give the head its turn."""
        self._lane(waiter.priority).popleft()
        self._alive -= 1
        self._since_bulk = 0 if waiter.priority == "bulk" else self._since_bulk + 1
        waiter.turn.set_result(what)

    def left(self) -> None:
        """Note that one in the line has been cancelled and was not served."""
        self._alive -= 1
        dead = len(self._interactive) + len(self._bulk) - self._alive
        if dead > self._alive + _DEAD:
            for lane in (self._interactive, self._bulk):
                living = [waiter for waiter in lane if not waiter.turn.done()]
                lane.clear()
                lane.extend(living)

    def __len__(self) -> int:
        return self._alive

    def _lane(self, priority: Priority) -> deque[Waiter[T]]:
        return self._interactive if priority == "interactive" else self._bulk
