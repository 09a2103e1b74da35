"""Hundreds of calls that go wrong in every known way, through an app and without one, leave nothing behind.

The long form, with memory and latency, is `benchmarks/soak.py`.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import until

pytest.importorskip("sse_starlette", reason="pip install 'aimlasync[test]' has what this test needs")

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aimlasync import AimlasyncError, AsyncClient, Limits, OverloadedError, Retry, Timeout
from aimlasync.simulator import Fault, Latency, Simulator
from aimlasync.simulator.faults import KINDS
from aimlasync.starlette import client_of, event_stream, exception_handlers, lifespan
from tests.support.web import browser, serving

NANO = "openai/gpt-5-nano-2025-08-07"
HELLO: Any = [{"role": "user", "content": "Hello"}]
FILES = Path("/proc/self/fd")


def files() -> int:
    return len(os.listdir(FILES)) if FILES.exists() else 0


def faults() -> list[Fault]:
    return [Fault(kind, probability=0.02, delay=0.01) for kind in KINDS]


async def calls(client: AsyncClient, seed: int, count: int) -> Counter[str]:
    draw = random.Random(seed)
    outcomes: Counter[str] = Counter()
    for _ in range(count):
        options: Any = {"model": NANO, "messages": HELLO, "tenant": draw.choice([None, "ann", f"user {seed}"])}
        kind = draw.random()
        try:
            if kind < 0.4:
                await client.chat.completions.create(**options)
            elif kind < 0.6:
                await (await client.chat.completions.create(**options, stream=True)).collect()
            elif kind < 0.8:
                async with await client.chat.completions.create(**options, stream=True) as stream:
                    await anext(stream)
            elif kind < 0.85:
                # Forgotten: never read, never closed.
                await client.chat.completions.create(**options, stream=True)
            else:
                async with asyncio.timeout(draw.random() * 0.02):
                    await client.chat.completions.create(**options, stream=True)
            outcomes["answered"] += 1
        except (AimlasyncError, TimeoutError) as error:
            outcomes[type(error).__name__] += 1
    return outcomes


async def answered(client: AsyncClient) -> str:
    """The answer of a server that is well again, once its circuit breaker lets calls through."""
    while True:
        try:
            return (await client.chat.completions.create(model=NANO, messages=HELLO)).text
        except OverloadedError:
            await asyncio.sleep(0.01)


async def visits(url: str, seed: int, count: int) -> Counter[str]:
    draw = random.Random(seed)
    outcomes: Counter[str] = Counter()
    async with browser() as session:
        for _ in range(count):
            patience = draw.random() * 0.03 if draw.random() < 0.2 else 10.0
            try:
                async with asyncio.timeout(patience), session.get(f"{url}/stream") as response:
                    if draw.random() < 0.3:
                        await response.content.readany()
                    else:
                        await response.read()
                    outcomes[str(response.status)] += 1
            except TimeoutError:
                outcomes["left"] += 1
    return outcomes


def open_now() -> tuple[int, int]:
    """Files and tasks that are there."""
    # sse-starlette has a task that looks out for the server's end, and ends some time after it.
    return files(), sum("_shutdown_watcher" not in repr(task) for task in asyncio.all_tasks())


async def settled() -> tuple[int, int]:
    """Files and tasks that are there once their number stays the same for a while."""
    gc.collect()
    last, same = open_now(), 0
    while same < 20:
        await asyncio.sleep(0.01)
        now = open_now()
        last, same = now, same + 1 if now == last else 0
    return last


async def test_nothing_is_left_of_calls_that_went_wrong_in_every_way() -> None:
    async def stream(request: Request) -> Response:
        call = client_of(request).chat.completions.create(model=NANO, messages=HELLO, stream=True, tenant="browsers")
        return event_stream(call)

    options: dict[str, Any] = {
        "limits": Limits(concurrency=8),
        "retry": Retry(base=0.002, throttle_base=0.002),
        "timeout": Timeout(total=0.3, first_token=0.1, idle=0.1),
    }
    latency = Latency.of(ttft=0.001, tokens_per_second=10_000, spread=0.5)

    async def traffic(each: int) -> None:
        async with Simulator(faults=faults(), latency=latency) as simulator:
            make = lifespan(api_key="k", base_url=simulator.base_url, **options)
            app = Starlette(routes=[Route("/stream", stream)], lifespan=make, exception_handlers=exception_handlers)
            async with (
                serving(app) as server,
                AsyncClient(api_key="k", base_url=simulator.base_url, **options) as client,
            ):
                direct = [calls(client, seed, 2 * each) for seed in range(16)]
                visitors = [visits(server.url, seed, each) for seed in range(8)]
                total = sum(await asyncio.gather(*direct, *visitors), Counter())
                assert total.total() == 16 * 2 * each + 8 * each
                # Which of the rare faults come up is chance, and a busy machine may send few of the calls.
                while each > 1 and len({attempt.fault for attempt in simulator.ledger}) <= 4:
                    await calls(client, len(simulator.ledger), 1)
                # A busy machine may answer none of them within their bounds; without bounds and faults it answers.
                simulator.faults = []
                assert await answered(client.with_options(timeout=Timeout(total=None, idle=None)))
                gc.collect()
                await until(lambda: client.statistics()[0].in_flight == 0)
                assert client.queued == 0
                for lane in client._pipeline.balancer.upstreams[0].lanes.values():
                    assert lane.limiter.queue._interactive.by_tenant == {}
                await until(lambda: simulator.admission.in_flight == 0)

    # What a loop keeps for good is made the first time.
    await traffic(1)
    before = await settled()
    await traffic(6)
    gc.collect()
    # Closed connections are gone some turns of the loop later.
    await until(lambda: all(now <= then for now, then in zip(open_now(), before, strict=True)))
