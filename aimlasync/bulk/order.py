"""Results in the order of the input, within a bounded distance.

Law: holds what came before its turn, and at most `max_ahead` rows of it: `room` makes the rows wait that would go
further ahead of the oldest one not yet done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from aimlasync.bulk.classify import Result


class InOrder:
    """Puts results back into the order of their rows."""

    def __init__(self, max_ahead: int) -> None:
        self._max_ahead = max_ahead
        # The number of the row that is next to be written, and the results behind it.
        self._next = 1
        self._early: dict[int, Result] = {}
        self._moved = asyncio.Event()

    async def room(self, number: int) -> None:
        """Wait until row `number` may be begun."""
        while number - self._next >= self._max_ahead:
            self._moved.clear()
            await self._moved.wait()

    def add(self, result: Result) -> Iterator[Result]:
        """Take a result in and give those whose turn it is."""
        self._early[result.row.number] = result
        while (ready := self._early.pop(self._next, None)) is not None:
            self._next += 1
            self._moved.set()
            yield ready

    def rest(self) -> Iterator[Result]:
        """Give what is left, with gaps where rows were not finished."""
        for number in sorted(self._early):
            yield self._early.pop(number)
