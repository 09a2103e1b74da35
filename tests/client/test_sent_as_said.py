"""A call is sent as often as it says, whatever a server does with its connections; and every account agrees."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import pytest

from aimlasync import APIConnectionError, AsyncClient, Endpoint, Hedge, Limits, Retry, bulk
from aimlasync.cost.budget import Budget
from aimlasync.cost.prices import Price
from aimlasync.transport import aiohttp_session, connection
from tests.support.servers import listening, reset, until

HELLO: Any = [{"role": "user", "content": "Hello"}]
BODY = json.dumps(
    {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}], "usage": {"total_tokens": 2}}
).encode()
REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
How = Literal["fin", "reset", "late", "mid-head", "mid-body", "interim", "one byte"]


class Server:
    """Answers until it turns: from then on it reads a request, and ends the connection."""

    def __init__(self, how: How, late: float) -> None:
        self.how = how
        self.late = late
        self.endings = 0.0
        """Of how many connections more."""
        self.read = 0
        """Requests read since it turned."""
        self.waiting = 0
        self.hold = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(int(n[15:]) for n in head.lower().split(b"\r\n") if n.startswith(b"content-length:"))
                await reader.readexactly(length)
                if self.endings:
                    self.endings -= 1
                    self.read += 1
                    await self.end(writer)
                    return
                self.waiting += 1
                await self.hold.wait()
                writer.write(REPLY)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def end(self, writer: asyncio.StreamWriter) -> None:
        if self.how == "reset":
            reset(writer)
        elif self.how == "late":
            # Longer than a connection may take to die that the server had closed before.
            await asyncio.sleep(self.late)
        elif self.how == "mid-head":
            writer.write(REPLY[:30])
        elif self.how == "mid-body":
            writer.write(REPLY[:-5])
        elif self.how == "interim":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        elif self.how == "one byte":
            writer.write(REPLY[:1])
            # Read before the reset, which would take it away.
            await asyncio.sleep(0.01)
            reset(writer)


@asynccontextmanager
async def turned(
    how: How, idle: int, *, late: float = 0.04, **options: Any
) -> AsyncIterator[tuple[Server, AsyncClient]]:
    """A server that answered `idle` calls at once, and from now on answers none."""
    server = Server(how, late)
    async with listening(server.serve, backlog=1000) as port:
        endpoint = Endpoint(base_url=f"http://127.0.0.1:{port}/v1", limits=Limits(concurrency=max(1, idle)))
        with pytest.MonkeyPatch.context() as patch:
            # On a busy machine, too, what is not late is at once.
            for module in (aiohttp_session, connection):
                patch.setattr(module, "AT_ONCE", late / 2 if how == "late" else 60.0)
            async with AsyncClient(endpoints=[endpoint], timeout=60, **options) as client:
                warm = [asyncio.create_task(ask(client)) for _ in range(idle)]
                await until(lambda: server.waiting == idle)
                server.hold.set()
                await asyncio.gather(*warm)
                server.endings = math.inf
                yield server, client


async def ask(client: AsyncClient, **params: Any) -> Any:
    return await client.chat.completions.create(model="m", messages=HELLO, max_tokens=10, **params)


async def answer(client: AsyncClient, *, stream: bool) -> None:
    reply = await ask(client, stream=stream)
    if stream:
        await reply.collect()


def retries(attempts: int) -> Retry:
    return Retry(attempts=attempts, base=0.001)


@pytest.mark.parametrize("how", ["fin", "reset", "late", "mid-head", "mid-body", "interim", "one byte"])
@pytest.mark.parametrize("idle", [0, 1, 50])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("attempts", [1, 3])
async def test_a_server_reads_a_call_no_more_often_than_it_counts(
    how: How, idle: int, stream: bool, attempts: int
) -> None:
    async with turned(how, idle, retry=retries(attempts)) as (server, client):
        before = client.statistics()[0]
        with pytest.raises(APIConnectionError) as caught:
            await answer(client, stream=stream)
        info = caught.value.info
        assert info is not None
        replaced = idle > 0 and how in ("fin", "reset")
        assert info.attempts == server.read
        assert info.attempts == attempts + replaced
        after = client.statistics()[0]
        assert after.attempts - before.attempts == info.attempts
        assert after.failed + after.refused - before.failed - before.refused == info.attempts
        assert after.retries == info.attempts - 1
        assert after.in_flight == 0


async def test_five_hundred_idle_connections_make_no_difference() -> None:
    async with turned("fin", 500, retry=retries(1)) as (server, client):
        with pytest.raises(APIConnectionError) as caught:
            await ask(client)
        assert caught.value.info is not None
        assert caught.value.info.attempts == server.read <= 2


@pytest.mark.parametrize("how", ["fin", "late"])
async def test_a_hedged_call_counts_both_and_a_replacement(how: How) -> None:
    # The second call is begun long before the first one ends, or never.
    hedge = Hedge(after=0.01 if how == "late" else 60.0, max_extra=1.0)
    async with turned(how, 20, late=0.4, retry=retries(1), hedge=hedge) as (server, client):
        with pytest.raises(APIConnectionError) as caught:
            await ask(client)
        assert caught.value.info is not None
        assert caught.value.info.attempts == server.read == 2


@pytest.mark.parametrize("how", ["fin", "late", "mid-head"])
async def test_rows_of_a_job_count_each_of_their_requests(how: How) -> None:
    async with turned(how, 50, retry=retries(2)) as (server, client):
        rows = [{"model": "m", "messages": HELLO, "max_tokens": 10}] * 20
        attempts = [result.attempts async for result in bulk.map(client, rows, concurrency=4)]
        assert len(attempts) == 20
        assert sum(attempts) == server.read
        assert max(attempts) <= 3


@pytest.mark.parametrize(("how", "read"), [("fin", 3), ("late", 2)])
async def test_a_budget_pays_for_every_request_that_may_have_been_answered(how: How, read: int) -> None:
    budget = Budget(1.0, prices={"m": Price(input=0, output=0.001)})
    async with turned(how, 5, retry=retries(2), budget=budget) as (server, client):
        spent = budget.spent
        with pytest.raises(APIConnectionError):
            await ask(client)
        assert server.read == read
        assert budget.spent - spent == pytest.approx(read * 0.01)
        assert budget.reserved == 0


async def test_a_budget_that_has_no_more_ends_a_call_before_its_next_request() -> None:
    budget = Budget(0.025, prices={"m": Price(input=0, output=0.001)})
    async with turned("late", 0, retry=retries(9), budget=budget) as (server, client):
        with pytest.raises(APIConnectionError, match="budget"):
            await ask(client)
        assert server.read == 2
        assert (budget.spent, budget.reserved) == (0.02, 0)


async def test_the_retry_budget_pays_for_a_replacement_and_an_empty_one_sends_none() -> None:
    async with turned("fin", 5, retry=retries(1)) as (server, client):
        quota = client._pipeline.balancer.upstreams[0].retry_budget
        full = quota.available
        with pytest.raises(APIConnectionError):
            await ask(client)
        assert quota.available == full - quota.retry_cost
        quota.available = 0
        with pytest.raises(APIConnectionError) as caught:
            await ask(client)
        assert caught.value.info is not None
        assert caught.value.info.attempts == 1
        assert server.read == 3


async def test_a_server_that_closes_what_is_idle_is_not_a_failing_one() -> None:
    async with turned("fin", 50, retry=retries(1)) as (server, client):
        # Each call finds one of the connections that are about to die, and is answered over a fresh one.
        upstream = client._pipeline.balancer.upstreams[0]
        for _ in range(10):
            server.endings = 1
            assert (await ask(client)).info.attempts == 2
        assert upstream.circuit.state == "closed"
        assert upstream.limiter.limit == 50
