"""Results in the order of the input, within a bounded distance.

`InOrder` holds a result until those before it are there. `room` bounds how many it holds: it makes a row wait that
would be too far ahead of the oldest one that is not done. Imports asyncio alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class InOrder(Generic[T]):
    """Puts results back into the order of their numbers, which begin at 1 and leave none out."""

    def __init__(self, max_ahead: int) -> None:
        self._max_ahead = max_ahead
        # The number of the next result to give, and the results of later numbers.
        self._next = 1
        self._early: dict[int, T] = {}
        self._moved = asyncio.Event()

    async def room(self, number: int) -> None:
        """Wait until `number` may be begun."""
        while number - self._next >= self._max_ahead:
            self._moved.clear()
            await self._moved.wait()

    def add(self, number: int, result: T) -> Iterator[T]:
        """Add a result, and give those whose turn has come."""
        self._early[number] = result
        while self._next in self._early:
            self._moved.set()
            ready = self._early.pop(self._next)
            self._next += 1
            yield ready

    def rest(self) -> Iterator[T]:
        """Give what is left, with gaps where some were not finished."""
        for number in sorted(self._early):
            yield self._early.pop(number)
