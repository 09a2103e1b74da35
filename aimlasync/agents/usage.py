"""Counts the tokens and the cost of a run's model calls, and reserves each call in the budget.

Every model call is counted, also one without a reply: such a call is free where the vendor says so or nothing was
sent, and its cost is unknown otherwise. No I/O. It may import the run state, and the package's `cost`.
"""

from __future__ import annotations

from typing import Any

from aimlasync.agents.run_state import Run
from aimlasync.cost.budget import Budget, Reservation, output_cap
from aimlasync.cost.media import input_bound
from aimlasync.cost.prices import cost
from aimlasync.cost.tokens import taken_by
from aimlasync.endpoints.providers import model_of
from aimlasync.errors import AimlasyncError
from aimlasync.wire.base import encode

_PROMPT = ("messages", "input", "instructions", "tools")


class UsageTracker:
    """Keeps `run.usage` up to date, and reserves and settles model calls in the budget, if there is one."""

    def __init__(self, run: Run, budget: Budget | None) -> None:
        self._run = run
        self._budget = budget
        # Input and output tokens of the last reply.
        self._stored = 0

    def reserve(self, request: dict[str, Any]) -> Reservation | None:
        """Reserve the most that a model call may cost. Raises BudgetExceededError when that is more than is left."""
        if self._budget is None:
            return None
        prompt = {name: request[name] for name in _PROMPT if name in request}
        cap = output_cap({**request, **(request.get("extra_body") or {})})
        known = model_of(self._run.model)
        tokens = input_bound({**prompt, "model": self._run.model}, len(encode(prompt)))
        if request.get("previous_response_id") is not None:
            # The server adds what the last reply was made of.
            tokens += self._stored
        outside = known is not None and known.reasons_outside
        return self._budget.reserve(self._run.model, tokens, cap, reasons_outside=outside)

    def record_reply(self, reply: Any, reservation: Reservation | None) -> None:
        """Count a model call that has a reply, and settle its reservation."""
        usage = self._run.usage
        usage.requests += 1
        usage.attempts += reply.info.attempts
        taken = taken_by(reply.usage)
        if taken is None:
            usage.uncounted += 1
        else:
            self._stored = taken.input + taken.output
            usage.input_tokens += taken.input
            usage.output_tokens += taken.output
            usage.cached_tokens += taken.cached or 0
            usage.reasoning_tokens += taken.reasoning or 0
        cost_usd = reply.info.cost_usd
        if self._budget is not None and reservation is not None:
            self._budget.settle(reservation, cost_usd, reply.usage)
            if cost_usd is None:
                cost_usd = cost(self._budget.prices.get(self._run.model), reply.usage)
        if cost_usd is None:
            usage.unpriced += 1
        else:
            usage.stated_usd += cost_usd

    def record_failure(self, error: BaseException, reservation: Reservation | None) -> None:
        """Count a model call that was cancelled or ended in an error, and settle or release its reservation."""
        usage = self._run.usage
        attempts = 1
        if isinstance(error, AimlasyncError):
            attempts = 0 if error.info is None else error.info.attempts
        usage.attempts += attempts
        usage.requests += attempts > 0
        is_free = attempts == 0 or (isinstance(error, AimlasyncError) and error.billed is False)
        if not is_free:
            usage.uncounted += 1
            usage.unpriced += 1
        if self._budget is not None and reservation is not None:
            if is_free:
                self._budget.release(reservation)
            else:
                self._budget.settle(reservation)
