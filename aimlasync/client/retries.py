"""What happens between two attempts of a call: whether there is another one, and how long the call waits for it.

A retry is taken from the retry budget of its endpoint, and its cost is reserved in the spending budget. While a call
waits it holds no permit and no connection. How long it waits is in `resilience.retry`. It may import `balancer`,
`call`, `failures` and what lies below `client`.
"""

from __future__ import annotations

import asyncio

from aimlasync.client.balancer import Balancer
from aimlasync.client.call import Attempt, Call
from aimlasync.client.failures import may_be_anothers
from aimlasync.cost.budget import Budget, Reservation
from aimlasync.endpoints.lane import Lane
from aimlasync.endpoints.upstream import Upstream
from aimlasync.errors import AimlasyncError, APIConnectionError, APIStatusError, BudgetExceededError, in_one_line
from aimlasync.info import Step
from aimlasync.logs import log_of
from aimlasync.resilience.retry_budget import PaidRetry, RetryBudget
from aimlasync.transport.base import StaleConnectionError

_log = log_of("aimlasync.retry")

# Seconds; less than that is no backoff, but what deciding takes.
_SHORTEST = 0.001


async def next_attempt(
    call: Call, failed: Attempt, error: AimlasyncError, balancer: Balancer, loop: asyncio.AbstractEventLoop
) -> Attempt | None:
    """Wait as long as the policy says, and for a permit; return None where there will be no other attempt.

    Raises what `Balancer.admit` raises; `error` is the caller's to raise.
    """
    attempt = None
    try:
        if await _goes_on(call, failed, error, loop):
            attempt = await balancer.admit(call)
    finally:
        if attempt is None and (paid := call.paid) is not None:
            call.paid = None
            paid.unsent()
    return attempt


async def _goes_on(call: Call, attempt: Attempt, error: AimlasyncError, loop: asyncio.AbstractEventLoop) -> bool:
    """Wait as long as the policy says, and return whether another attempt may be made and paid."""
    upstream, now = attempt.target.upstream, loop.time()
    name, why = upstream.endpoint.name, in_one_line(error)
    call.info.steps += (Step(kind="attempt", endpoint=name, seconds=now - attempt.sent_at, why=why),)
    if call.watch is not None:
        call.watch.stumbled(error, name)
    try:
        may_retry = await _may_retry(call, attempt.lane, error, now)
    finally:
        slept = loop.time() - now
        if slept > _SHORTEST:
            call.info.steps += (Step(kind="backoff", endpoint=name, seconds=slept, why=why),)
    if not may_retry:
        call.info.timing.total = loop.time() - call.started
        return False
    if call.budget is not None and call.reservation is None:
        try:
            call.reservation = await reserve(call, call.budget)
        except BudgetExceededError as short:
            error.explain(f"it is not tried again: {short.message}")
            return False
    return True


async def reserve(call: Call, budget: Budget) -> Reservation | None:
    """Set aside what an attempt may cost; a shared budget is asked for more, which another call may take first."""
    while True:
        try:
            return call.reserve()
        except BudgetExceededError:
            if not await budget.refill():
                raise


async def _may_retry(call: Call, lane: Lane, error: AimlasyncError, now: float) -> bool:
    """Return whether another attempt may be made, once the wait before it is over."""
    upstream = lane.upstream
    name, kind, retry_budget = upstream.endpoint.name, type(error).__name__, upstream.retry_budget
    if isinstance(error, StaleConnectionError) and not call.replaced:
        call.paid = _paid(retry_budget, error)
        if call.paid is not None:
            call.replaced = True
            lane.counters.retries += 1
            return True
    if call.modes is not None and call.modes.fall_back(call.targets, error):
        # Another request, which the server has not answered yet: it owes nothing for the one that it refused.
        call.tried -= {upstream}
        return True
    if call.only_refused and not _was_refused(error):
        return False
    attempts = call.info.attempts - call.replaced - (0 if call.modes is None else call.modes.fallen)
    if attempts < call.retry.attempts and may_be_anothers(call, error, now):
        # Another endpoint may serve it at once, and owes nothing for this one's failure.
        _log.debug("%s failed (%s), another endpoint is next", name, kind)
        return True
    remaining = float("inf") if call.deadline is None else call.deadline - now
    delay = call.retry.delay(attempts, error, remaining=remaining)
    if delay is not None:
        call.paid = _paid(retry_budget, error)
        if call.paid is None:
            delay = await _probe(call, upstream, error, delay)
    if delay is None:
        return False
    lane.counters.retries += 1
    _log.debug("%s failed (%s), next attempt in %.2f s", name, kind, delay)
    await asyncio.sleep(delay)
    return True


def _was_refused(error: AimlasyncError) -> bool:
    """Whether the server did not take the request: it said so, or there was no connection."""
    if isinstance(error, APIStatusError):
        return error.status in (429, 503)
    return isinstance(error, APIConnectionError) and error.billed is False


async def _probe(call: Call, upstream: Upstream, error: AimlasyncError, delay: float) -> float | None:
    """The retry budget is empty: an interactive call fails at once, bulk calls wait until one of them got through."""
    if call.priority != "bulk":
        return None
    retry_budget = upstream.retry_budget
    while not retry_budget.probe(error):
        call.paid = _paid(retry_budget, error)
        if call.paid is not None:
            return 0.0
        await asyncio.sleep(call.retry.backoff(retry_budget.failed_probes + 1, error) or delay)
    call.paid = PaidRetry(retry_budget)
    return delay


def _paid(retry_budget: RetryBudget, error: AimlasyncError) -> PaidRetry | None:
    """Return a retry that is paid for, None where too little is left."""
    cost = retry_budget.take(error)
    return None if cost is None else PaidRetry(retry_budget, cost)
