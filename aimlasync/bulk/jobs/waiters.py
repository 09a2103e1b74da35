"""Coroutines that wait to be woken one at a time, in the order in which they began to wait. Imports asyncio alone."""

from __future__ import annotations

import asyncio
from collections import deque


class Waiters:
    """Nobody is woken twice, and one that was cancelled is passed over."""

    def __init__(self) -> None:
        self._turns: deque[asyncio.Future[None]] = deque()

    def __bool__(self) -> bool:
        return bool(self._turns)

    async def wait(self) -> None:
        """Wait for a `wake_one`."""
        turn = asyncio.get_running_loop().create_future()
        self._turns.append(turn)
        await turn

    def wake_one(self) -> None:
        """Wake the one that has waited longest; does nothing without one."""
        while self._turns:
            turn = self._turns.popleft()
            if not turn.done():
                turn.set_result(None)
                return
