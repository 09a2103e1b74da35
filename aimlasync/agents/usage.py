"""What the model calls of a run take: tokens, money, and the budget that they are held to.

Law: arithmetic, no I/O. Every call is counted, also one without a reply: it is free where the vendor says so or nothing
was sent, and of unknown cost otherwise.
"""

from __future__ import annotations

from typing import Any

from aimlasync.agents.adapters import Dialect
from aimlasync.agents.run_state import Run
from aimlasync.budget import Budget, Reservation, output_cap
from aimlasync.errors import AimlasyncError
from aimlasync.prices import cost
from aimlasync.wire import encode

_PROMPT = ("messages", "input", "instructions", "tools")


class Account:
    """Keeps `run.usage`, and reserves each call in the budget, if there is one."""

    def __init__(self, run: Run, dialect: Dialect, budget: Budget | None) -> None:
        self._run = run
        self._dialect = dialect
        self._budget = budget

    def reserve(self, request: dict[str, Any]) -> Reservation | None:
        """Set aside what a call may cost. Raises BudgetExceededError when that is more than is left."""
        if self._budget is None:
            return None
        most = output_cap({**request, **(request.get("extra_body") or {})})
        # A byte is at most a token, so that what is reserved is a bound, not a guess.
        told = {name: request[name] for name in _PROMPT if name in request}
        return self._budget.reserve(self._run.model, len(encode(told)), most)

    def answered(self, reply: Any, reservation: Reservation | None) -> None:
        """Count a call that has a reply."""
        usage = self._run.usage
        usage.requests += 1
        usage.attempts += reply.info.attempts
        if reply.usage is None:
            usage.uncounted += 1
        else:
            self._dialect.count(reply.usage, usage)
        paid = reply.info.cost_usd
        if self._budget is not None and reservation is not None:
            self._budget.settle(reservation, paid, reply.usage)
            if paid is None:
                paid = cost(self._budget.prices.get(self._run.model), reply.usage)
        if paid is None:
            usage.unpriced += 1
        else:
            usage.stated_usd += paid

    def failed(self, error: BaseException, reservation: Reservation | None) -> None:
        """Count a call that was cancelled or ended in an error."""
        usage = self._run.usage
        attempts = 1
        if isinstance(error, AimlasyncError):
            attempts = 0 if error.info is None else error.info.attempts
        usage.attempts += attempts
        usage.requests += attempts > 0
        free = attempts == 0 or (isinstance(error, AimlasyncError) and error.billed is False)
        if not free:
            usage.uncounted += 1
            usage.unpriced += 1
        if self._budget is not None and reservation is not None:
            if free:
                self._budget.release(reservation)
            else:
                self._budget.settle(reservation)
