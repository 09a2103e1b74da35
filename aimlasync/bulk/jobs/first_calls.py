"""How many calls without an output cap are in flight while nobody knows how long a model's answers are.

A budget reserves a default for such a call, and learns from answers that were longer. Those in flight until then may
cost many times what was reserved for them, so there are only a few more of them than there were answers. Imports
`Waiters` alone.
"""

from __future__ import annotations

from aimlasync.bulk.jobs.waiters import Waiters

# In flight before the first answer. One that hangs must not hold back a job, and so few cost no fortune.
_FIRST = 4


class FirstCalls:
    """The calls at one model. Mutable: how many are in flight, were answered, and wait."""

    __slots__ = ("_answered", "_in_flight", "_waiting")

    def __init__(self) -> None:
        self._in_flight = 0
        self._answered = 0
        self._waiting = Waiters()

    @property
    def is_waiting(self) -> bool:
        """Whether any call waits for answers."""
        return bool(self._waiting)

    async def begin(self) -> None:
        """Wait until another call may be made; `end` must follow."""
        try:
            while self._in_flight >= _FIRST + self._answered:
                await self._waiting.wait()
        except BaseException:
            # It may have been woken before it was cancelled.
            self._waiting.wake_one()
            raise
        self._in_flight += 1

    def end(self, *, is_answered: bool) -> None:
        """Make room for the next call, and for one more after an answer."""
        self._in_flight -= 1
        self._waiting.wake_one()
        if is_answered:
            self._answered += 1
            self._waiting.wake_one()
