"""What a retry takes from the retry budget of an endpoint comes back to that budget, however the call ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from aimlasync import AsyncClient, Endpoint, Retry, Timeout
from aimlasync.client.receive import ReadBody
from aimlasync.config import Limits
from aimlasync.cost.budget import Budget
from aimlasync.cost.prices import Price
from aimlasync.errors import APIConnectionError, APITimeoutError, OverloadedError
from aimlasync.headers import Headers
from aimlasync.resilience.retry_budget import RetryBudget
from aimlasync.transport.base import RawReply
from tests.support.virtual import run

ANSWER = b'{"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}], "usage": {"total_tokens": 2}}'


class _Response:
    status = 200
    headers = Headers({"content-type": "application/json"})


class Failing:
    """A transport to servers that answer, or cannot be reached, as `fails` says of a host."""

    def __init__(self, fails: Callable[[str], bool]) -> None:
        self.fails = fails
        self.asked: list[str] = []

    async def send(self, method: str, url: str, *_: Any, **__: Any) -> RawReply:
        host = url.split("/")[2]
        self.asked.append(host)
        await asyncio.sleep(0.1)
        if self.fails(host):
            raise APIConnectionError("no connection")
        response: Any = _Response()
        return ReadBody(response, ANSWER)

    async def close(self) -> None:
        pass


def client_of(transport: Failing, *hosts: str, capacity: int, **options: Any) -> AsyncClient:
    endpoints = [Endpoint(base_url=f"https://{host}/v1", api_key="k", name=host) for host in hosts]
    client = AsyncClient(endpoints=endpoints, transport=transport, **{"timeout": Timeout(total=None), **options})
    for upstream in client._pipeline.balancer.upstreams:
        upstream.retry_budget = RetryBudget(capacity=capacity)
    return client


async def ask(client: AsyncClient, **options: Any) -> Any:
    return await client.chat.completions.create(model="m", messages=[], priority="bulk", **options)


def budgets(client: AsyncClient) -> list[RetryBudget]:
    return [upstream.retry_budget for upstream in client._pipeline.balancer.upstreams]


@pytest.mark.parametrize("ends", ["cancelled", "late", "refused"])
def test_the_next_call_probes_where_one_that_was_to_probe_is_never_sent(ends: str) -> None:
    async def main() -> None:
        is_out = True
        client = client_of(Failing(lambda host: is_out), "a", capacity=10, retry=Retry(attempts=9))
        [budget], [upstream] = budgets(client), client._pipeline.balancer.upstreams
        budget.take(APIConnectionError("all there is"))
        bound = {"timeout": 30.0} if ends == "late" else {}
        first = asyncio.ensure_future(ask(client, **bound))
        await asyncio.sleep(0.2)
        assert repr(budget).endswith("probing>")
        # It is to wait for its place, behind the pause.
        upstream.limiter.pause(asyncio.get_running_loop().time() + (900 if ends == "refused" else 100))
        await asyncio.sleep(10)
        if ends == "cancelled":
            first.cancel()
        with pytest.raises((asyncio.CancelledError, APITimeoutError, OverloadedError)):
            await first
        assert repr(budget) == "<RetryBudget 0 of 10>"
        await asyncio.sleep(1000)
        second = asyncio.ensure_future(ask(client))
        await asyncio.sleep(0.2)
        is_out = False
        assert (await asyncio.wait_for(second, 60)).text == "hi"

    run(main())


def test_a_retry_that_is_not_sent_for_lack_of_money_is_given_back() -> None:
    async def main() -> None:
        money = Budget(0.015, prices={"m": Price(input=0.0, output=0.01)}, default_output_tokens=1)
        client = client_of(Failing(lambda host: True), "a", capacity=100, budget=money)
        with pytest.raises(APIConnectionError, match="not tried again"):
            await ask(client)
        assert [budget.available for budget in budgets(client)] == [100]

    run(main())


def test_a_retry_that_another_endpoint_answers_is_given_back_where_it_was_taken() -> None:
    async def main() -> None:
        failing = {"a", "b"}
        transport = Failing(lambda host: host in failing)
        client = client_of(transport, "a", "b", capacity=100, limits=Limits(concurrency=4))
        call = asyncio.ensure_future(ask(client, affinity="x"))
        await asyncio.sleep(0.15)
        # What follows is paid for by the endpoint that failed last, and answered by either.
        paying = transport.asked[1]
        failing.clear()
        failing.add(paying)
        await call
        assert transport.asked[-1] != paying
        assert [budget.available for budget in budgets(client)] == [100, 100]

    run(main())
