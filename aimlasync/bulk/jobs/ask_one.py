"""One row from its request to its result: the call, and further calls when the answer is invalid.

A caller of the client, by its public names; keeps no result. Every answered call is counted, also those whose answer is
thrown away. What `asking` returns makes the calls for one request, `ClientAnswerer` makes them within a budget.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol

from aimlasync.bulk.input.rows import Row
from aimlasync.bulk.jobs.caps import UnpricedError
from aimlasync.bulk.jobs.first_calls import FirstCalls
from aimlasync.bulk.jobs.waiters import Waiters
from aimlasync.bulk.progress.progress import Activity
from aimlasync.bulk.tasks.request import Request
from aimlasync.bulk.tasks.result import Read, Result, first_result
from aimlasync.bulk.tasks.tasks import EmptyTextError, Task, empty_result
from aimlasync.cost.budget import Budget, output_cap
from aimlasync.errors import AimlasyncError, AnswerError, BudgetExceededError, ClientClosedError

if TYPE_CHECKING:
    from aimlasync.client.client import AsyncClient

Ask = Callable[[Request], Awaitable[Result]]


class Answerer(Protocol):
    """Who makes the calls of a job in other processes or on other machines, in the place of its client."""

    workers: int
    """Rows that are worth having at work."""

    async def ask(self, request: Request, /) -> Result:
        """Return what became of a request, its answer read as the task says.

        Raises ClientClosedError for a request that was not sent before `drain`.
        """

    def drain(self) -> None:
        """Send nothing more; calls in flight finish. The job has stopped, and what was not sent is left to the next."""

    def activity(self) -> Activity:
        """Return how many calls are at a server, and what holds the others back."""


class MoreMoney(Protocol):
    """What a call waits for that was refused although nothing is reserved here: others share the budget."""

    @property
    def is_waiting(self) -> bool:
        """Whether any call waits."""

    async def more(self) -> bool:
        """Wait until there may be more; False when none is to come."""

    def settle(self, is_more: bool) -> None:
        """End the wait of all calls."""


def request_or_result(row: Row, task: Task) -> Request | Result:
    """Return the request of a row; for a row without a text, for which nothing is sent, what becomes of it."""
    try:
        return task.request(row)
    except EmptyTextError as error:
        return empty_result(task, row, error)


async def at_once(result: Result) -> Result:
    """Return a result for which nothing is asked."""
    return result


def asking(client: AsyncClient, *, read: Read | None = None, retry_invalid: int = 0) -> Ask:
    """Return what asks for one request, and again up to `retry_invalid` times while `read` says the answer is no good.

    It is made once for a job, so that these options are not handed over for each row.
    """

    async def ask(request: Request) -> Result:
        result: Result | None = None
        api, body, structured = request.api, request.body, request.structured
        if api == "responses" and "input" not in body:
            # Each response has one; a body without one has a stored prompt.
            body = {"input": "", **body}
        cache: Literal["refresh"] | None = None
        while True:
            try:
                if structured is None and cache is None:
                    # Each option of a call takes time, and these are mostly not given.
                    reply = await client.ask(api, body, priority="bulk")
                else:
                    reply = await client.ask(api, body, priority="bulk", structured=structured, cache=cache)
            except (ClientClosedError, asyncio.CancelledError):
                if result is None or result.reply is None or not client.is_drained:
                    raise
                # The call again was not sent, and the answer before it was paid for.
                return result
            except AimlasyncError as error:
                result = result or Result(request, calls=0)
                result.fail(error)
                return result
            if result is None:
                result = first_result(request, reply)
            else:
                result.calls += 1
                result.count(reply)
            if read is None:
                return result
            try:
                result.answer = read(reply)
            except AnswerError as error:
                result.error = error
                # An answer that was no good is not to be found again by a client that keeps answers.
                cache = "refresh"
                if reply.info.cached:
                    # It was kept without being read, and is not asked for in vain for ever.
                    result.calls -= 1
                    continue
                if result.calls <= retry_invalid:
                    continue
            return result

    return ask


class ClientAnswerer:
    """Asks through a client, and within a `budget` where there is one; `claim` is for one that others share."""

    def __init__(
        self,
        client: AsyncClient,
        read: Read | None,
        *,
        retry_invalid: int,
        budget: Budget | None,
        claim: MoreMoney | None = None,
    ) -> None:
        if budget is not None:
            client.budget = budget
        self._ask = asking(client, read=read, retry_invalid=retry_invalid)
        self.ask: Ask = self._ask if budget is None else partial(self._ask_within, budget)
        """Return what became of a request."""
        self._claim = claim
        # Calls that were begun, and are neither over nor refused.
        self._asking = 0
        # Calls that wait for others to cost less than was reserved for them.
        self._waiting = Waiters()
        # By model.
        self._first: dict[str, FirstCalls] = {}

    @property
    def is_short_of_money(self) -> bool:
        """Whether calls wait because all that is left is reserved, or may be needed by those in flight."""
        if self._waiting or (self._claim is not None and self._claim.is_waiting):
            return True
        return any(first.is_waiting for first in self._first.values())

    async def _ask_within(self, budget: Budget, request: Request) -> Result:
        if budget.prices and request.model not in budget.prices:
            what = f"the price of {request.model} is not known, so no cap of money can hold; say it with --price IN,OUT"
            return Result(request, error=UnpricedError(what, billed=False), calls=0)
        if output_cap(request.body) is not None:
            return await self._ask_in_turn(budget, request)
        if (first := self._first.get(request.model)) is None:
            first = self._first[request.model] = FirstCalls(budget, request.model)
        result = None
        await first.begin()
        try:
            result = await self._ask_in_turn(budget, request)
        finally:
            first.end(is_answered=result is not None and result.reply is not None)
        return result

    async def _ask_in_turn(self, budget: Budget, request: Request) -> Result:
        # A call mostly costs less than was reserved for it, so a refused one waits for the end of one in flight.
        try:
            while True:
                # While this process waits for the others, none of its calls takes what they return to it.
                if self._claim is not None and self._claim.is_waiting:
                    await self._claim.more()
                self._asking += 1
                try:
                    result = await self._ask(request)
                finally:
                    self._asking -= 1
                if not isinstance(result.error, BudgetExceededError) or result.reply is not None:
                    return result
                # A call that is asked for and has reserved nothing yet may be about to.
                if budget.reserved or (self._claim is not None and self._asking):
                    await self._waiting.wait()
                elif self._claim is None or not await self._claim.more():
                    return result
        finally:
            self._waiting.wake_one()
