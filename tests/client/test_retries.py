"""What a retry takes from the retry budget of an endpoint comes back to that budget, however the call ends."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from weakref import ref

import pytest

from aimlasync import AsyncClient, Endpoint, Retry, Timeout
from aimlasync.config import Limits
from aimlasync.cost.budget import Budget
from aimlasync.cost.prices import Price
from aimlasync.errors import APIConnectionError, APITimeoutError, OverloadedError
from aimlasync.headers import Headers
from aimlasync.resilience.retry_budget import RetryBudget
from aimlasync.transport.base import RawReply, ReadBody
from tests.support.virtual import run

ANSWER = b'{"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}], "usage": {"total_tokens": 2}}'
EVENT = b'data: {"choices": [{"delta": {"content": "hi"}}]}\n\n'


class _Begun:
    """A response that has begun and says nothing more, until it is aborted."""

    status = 200
    headers = Headers({"content-type": "text/event-stream"})

    def __init__(self) -> None:
        self.pieces = [EVENT]
        self.is_aborted = asyncio.Event()

    async def read_some(self) -> bytes:
        if not self.pieces:
            await self.is_aborted.wait()
            raise APIConnectionError("aborted")
        return self.pieces.pop()

    def abort(self) -> None:
        self.is_aborted.set()


class Failing:
    """A transport to servers that answer, or cannot be reached, as `fails` says of a host."""

    def __init__(self, fails: Callable[[str], bool]) -> None:
        self.fails = fails
        self.asked: list[str] = []
        self.raised: list[ref[APIConnectionError]] = []

    async def send(self, method: str, url: str, headers: Any, own: Any, body: Any, **__: Any) -> RawReply:
        host = url.split("/")[2]
        self.asked.append(host)
        await asyncio.sleep(0.1)
        if self.fails(host):
            raise self.error()
        if b'"stream":true' in body:
            begun: Any = _Begun()
            return begun  # type: ignore[no-any-return]
        return ReadBody(200, Headers({"content-type": "application/json"}), ANSWER)

    def error(self) -> APIConnectionError:
        error = APIConnectionError("no connection")
        self.raised.append(ref(error))
        return error

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


def test_a_retry_that_is_streamed_is_given_back_when_it_begins() -> None:
    async def main() -> None:
        transport = Failing(lambda host: len(transport.asked) == 1)
        client = client_of(transport, "a", capacity=10)
        [budget] = budgets(client)
        stream = await ask(client, stream=True)
        assert (len(transport.asked), budget.available) == (2, 10)
        await stream.close()
        assert budget.available == 10

    run(main())


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("fails", [2, 99])
def test_what_a_call_held_is_free_when_it_ends_though_it_failed_before(fails: int, streams: bool) -> None:
    """And not when the collector comes: a stream that is dropped holds its place, and a request may hold images."""

    async def main() -> None:
        transport = Failing(lambda host: len(transport.asked) <= fails)
        client = client_of(transport, "a", capacity=500, retry=Retry(attempts=3))

        async def drop() -> None:
            with suppress(APIConnectionError):
                await ask(client, stream=streams)

        # What is loaded with the first failure is no garbage.
        await asyncio.create_task(drop())
        transport.asked.clear()
        transport.raised.clear()
        gc.disable()
        try:
            await asyncio.create_task(drop())
            await asyncio.sleep(0.01)
            assert client._pipeline.balancer.upstreams[0].limiter.in_flight == 0
            assert [error() for error in transport.raised] == [None] * min(fails, 3)
        finally:
            gc.enable()

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
