"""How many calls without an output cap are in flight while nobody knows how long a model's answers are.

A budget reserves a default for such a call, and learns from answers that were longer. Those in flight until then may
cost many times what was reserved for them. Where the budget could not bear that, there are only a few more of them than
there were answers. Imports `Waiters` and budgets.
"""

from __future__ import annotations

from aimlasync.bulk.jobs.waiters import Waiters
from aimlasync.cost.budget import Budget

# How many times the default a budget must bear: 40,000 tokens are a long reasoning.
_TIMES = 10
# In flight before the first answer. One that hangs must not hold back a job, and so few cost no fortune.
_FIRST = 4


class FirstCalls:
    """The calls at one model within a budget. Mutable: how many are in flight, were answered, and wait."""

    __slots__ = ("_answered", "_budget", "_in_flight", "_model", "_waiting")

    def __init__(self, budget: Budget, model: str) -> None:
        self._budget = budget
        self._model = model
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
            while self._in_flight >= _FIRST + self._answered and not self._is_borne():
                await self._waiting.wait()
        except BaseException:
            # It may have been woken before it was cancelled.
            self._waiting.wake_one()
            raise
        self._in_flight += 1

    def _is_borne(self) -> bool:
        """Whether one more may be in flight, however long answers are."""
        budget, price = self._budget, self._budget.prices.get(self._model)
        if price is None or price.output is None:
            return False
        return (self._in_flight + 1) * budget.default_output_tokens * price.output * _TIMES <= budget.remaining

    def end(self, *, is_answered: bool) -> None:
        """Make room for the next call, and for one more after an answer."""
        self._in_flight -= 1
        self._waiting.wake_one()
        if is_answered:
            self._answered += 1
            self._waiting.wake_one()
