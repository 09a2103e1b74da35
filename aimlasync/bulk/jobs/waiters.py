"""Coroutines that wait to be woken one at a time, in the order in which they began to wait. Imports asyncio alone."""

from __future__ import annotations

import asyncio
from collections import deque


class Waiters(deque[asyncio.Future[None]]):
    """Nobody is woken twice, and one that was cancelled is passed over. It is true while there are any."""

    async def wait(self) -> None:
        """Wait for a `wake_one`."""
        turn = asyncio.get_running_loop().create_future()
        self.append(turn)
        await turn

    def wake_one(self) -> None:
        """Wake the one that has waited longest; does nothing without one."""
        while self:
            turn = self.popleft()
            if not turn.done():
                turn.set_result(None)
                return
