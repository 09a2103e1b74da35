"""A caller that goes away, at every step of a call: permits, sockets and counters are whole afterwards."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from aimlasync import AsyncClient, Limits, Retry, Timeout
from aimlasync.errors import APITimeoutError
from tests.support.servers import STEPS, RawServer, Script, raw_server, turns, until

HELLO = [{"role": "user", "content": "Hello"}]
BODY = json.dumps({"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}).encode()
CHUNK = b'data: {"choices": [{"delta": {"content": "hi"}, "finish_reason": "stop"}]}\n\n'


async def whole(client: AsyncClient) -> None:
    await client.chat.completions.create(model="m", messages=HELLO)


async def streamed(client: AsyncClient) -> None:
    stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
    async with stream:
        async for _ in stream:
            pass


ANSWERS = [
    Script([BODY[:20], BODY[20:]], content_type="application/json", end="keep"),
    Script([b"{}"], status=500, content_type="application/json", end="keep"),
    Script([CHUNK, b": more\n\n", b"data: [DONE]\n\n"], end="keep"),
]


async def healthy(client: AsyncClient, server: RawServer) -> None:
    """Nothing is held, and the client still works."""
    limiter = client._pipeline.balancer.upstreams[0].limiter
    await until(lambda: limiter.in_flight == 0 and limiter.waiting == 0)
    server.scripts = [ANSWERS[0]]
    await whole(client)
    assert limiter.in_flight == 0


@pytest.mark.parametrize("script", ANSWERS, ids=["answer", "500-then-backoff", "stream"])
@pytest.mark.parametrize("call", [whole, streamed])
async def test_a_call_may_be_cancelled_at_any_step(
    call: Callable[[AsyncClient], Awaitable[Any]], script: Script
) -> None:
    tasks_before = asyncio.all_tasks()
    async with raw_server(script) as server:
        options: dict[str, Any] = {"retry": Retry(attempts=2, base=0.002), "limits": Limits(concurrency=1)}
        async with AsyncClient(api_key="k", base_url=server.base_url, timeout=Timeout(total=60), **options) as client:
            for step in range(STEPS):
                server.scripts = [script]
                task: asyncio.Future[Any] = asyncio.ensure_future(call(client))
                await turns(step)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await healthy(client, server)
                if not task.cancelled():
                    break
            assert (task.exception() is None) == (script.status == 200)
        await until(lambda: server.open_connections == 0)
    await until(lambda: asyncio.all_tasks() == tasks_before)


async def test_a_cancelled_waiter_leaves_the_queue_and_the_next_one_moves_up() -> None:
    async with raw_server(Script(head=b"", end="stall")) as server:
        limits = Limits(concurrency=1)
        async with AsyncClient(api_key="k", base_url=server.base_url, limits=limits) as client:
            first, second, third = (asyncio.ensure_future(whole(client)) for _ in range(3))
            await until(lambda: client._pipeline.balancer.upstreams[0].limiter.waiting == 2)
            second.cancel()
            await asyncio.gather(second, return_exceptions=True)
            server.scripts = [ANSWERS[0]]
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            await third


async def test_closing_the_client_ends_the_streams_that_are_open() -> None:
    async with raw_server(Script([CHUNK.replace(b'"stop"', b"null")], end="stall")) as server:
        client = AsyncClient(api_key="k", base_url=server.base_url)
        stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
        reading = asyncio.ensure_future(stream.collect())
        await asyncio.sleep(0.01)
        await client.close()
        (outcome,) = await asyncio.gather(reading, return_exceptions=True)
        assert isinstance(outcome, Exception)
        await until(lambda: server.open_connections == 0)


@pytest.mark.parametrize(
    "waits_for",
    [
        {"limits": Limits(requests_per_minute=60)},
        {"limits": Limits(tokens_per_minute=600)},
        {"limits": Limits(concurrency=1)},
        {"limits": Limits(requests_per_minute=60, tokens_per_minute=600), "max_wait": 60.0},
    ],
    ids=["requests", "tokens", "concurrency", "both, bounded"],
)
async def test_a_call_that_waits_its_turn_may_be_cancelled_at_any_step(waits_for: dict[str, Any]) -> None:
    tasks_before = asyncio.all_tasks()
    async with raw_server(Script(head=b"", end="stall")) as server:
        async with AsyncClient(api_key="k", base_url=server.base_url, **waits_for) as client:
            limiter = client._pipeline.balancer.upstreams[0].limiter
            holders = [asyncio.ensure_future(whole(client)) for _ in range(4)]
            await until(lambda: limiter.in_flight >= 1 and limiter.waiting >= 1)
            waiting = limiter.waiting
            for step in range(25):
                task = asyncio.ensure_future(whole(client))
                for _ in range(step):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                assert limiter.waiting == waiting
            for holder in holders:
                holder.cancel()
            await asyncio.gather(*holders, return_exceptions=True)
            assert (limiter.in_flight, limiter.waiting) == (0, 0)
            assert client.statistics()[0].attempts == len(holders) - waiting
        await until(lambda: server.open_connections == 0)
    await until(lambda: asyncio.all_tasks() == tasks_before)


@pytest.mark.parametrize("apart", [0.0, 0.0001, 0.001])
@pytest.mark.parametrize("waits", [False, True], ids=["answer", "place"])
async def test_a_bound_of_anyio_that_passes_with_the_calls_own_is_no_cancellation(waits: bool, apart: float) -> None:
    """Both cancel the task in one turn of the loop, and anyio tells its own cancellation by its message."""
    async with raw_server(Script(head=b"", end="stall")) as server:
        async with AsyncClient(api_key="k", base_url=server.base_url, limits=Limits(concurrency=1)) as client:
            holder = asyncio.ensure_future(whole(client)) if waits else None
            await asyncio.sleep(0.01)

            async def bounded() -> None:
                asyncio.get_running_loop().call_later(0.01, time.sleep, 0.02)
                with pytest.raises((TimeoutError, APITimeoutError)), anyio.fail_after(0.02):
                    await client.chat.completions.create(model="m", messages=HELLO, timeout=0.02 + apart)
                task = asyncio.current_task()
                assert task is not None
                assert task.cancelling() == 0
                await asyncio.sleep(0)

            for _ in range(3):
                await asyncio.create_task(bounded())
            if holder is not None:
                holder.cancel()
                await asyncio.gather(holder, return_exceptions=True)
