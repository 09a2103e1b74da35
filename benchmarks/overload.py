"""Three times the load that the key can carry: who is served is served as fast as ever, the rest is told at once.

    python benchmarks/overload.py [--seconds 12]

Method: three processes: a simulator whose answers take about 0.4 s, the app of chat_app.py with 8 permits, a line of 32
(6 of one user) and half a second to wait in it, and this one, which plays the browsers. They come at random, at a
stated rate, whether or not those before them were served (an open loop). 8 permits at 0.4 s carry about 20 a second,
so that it is the key and not the machine that is overloaded: `--permits 32` asks for more of it.
`served` is to the last byte of the stream; `503` is the time until the refusal was read. The promise that is checked:
served requests' p99 under the threefold load within 1.5 times the p99 at half load plus the wait that is allowed.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import aiohttp
from chat_app import MESSAGES, MODEL, app_of, in_process, serve, simulating
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from aimlasync import AimlasyncError, Limits, Retry
from aimlasync.simulator import Latency
from aimlasync.starlette import client_of

LATENCY = Latency.of(ttft=0.28, tokens_per_second=300, spread=0.0)
SECONDS_EACH = 0.4
MAX_WAIT = 0.5
USERS = 50


async def bulk(request: Request) -> Response:
    """Make bulk calls, 32 at once, for `?seconds=`; how many were answered."""
    client = client_of(request)
    loop = asyncio.get_running_loop()
    end = loop.time() + float(request.query_params["seconds"])
    answered = 0

    async def worker() -> None:
        nonlocal answered
        while loop.time() < end:
            try:
                await client.chat.completions.create(model=MODEL, messages=MESSAGES, priority="bulk")
                answered += 1
            except AimlasyncError:
                # Its place in the line is not worth fighting for.
                await asyncio.sleep(0.05)

    await asyncio.gather(*(worker() for _ in range(32)))
    return JSONResponse(answered)


def _serve(pipe: Connection, base_url: str, permits: int) -> None:
    app = app_of(
        base_url,
        Route("/bulk", bulk),
        limits=Limits(concurrency=permits),
        retry=Retry(attempts=1),
        max_queue=4 * permits,
        max_queue_per_tenant=6,
        max_wait=MAX_WAIT,
    )
    asyncio.run(serve(app, pipe.send))


class Visits:
    """What became of the visits of one kind."""

    def __init__(self) -> None:
        self.served: list[float] = []
        self.refused: list[float] = []
        self.other = 0


async def visit(session: aiohttp.ClientSession, url: str, user: str, visits: Visits) -> None:
    began = time.monotonic()
    async with session.get(f"{url}/chat?user={user}") as response:
        body = await response.read()
    took = time.monotonic() - began
    if response.status == 200 and b"event: done" in body:
        visits.served.append(took)
    elif response.status == 503 and "Retry-After" in response.headers:
        visits.refused.append(took)
    else:
        visits.other += 1


async def visit_at(
    rate: float, seconds: float, session: aiohttp.ClientSession, url: str, user: Callable[[random.Random], str]
) -> Visits:
    """Send visitors at random, `rate` a second."""
    draw, visits = random.Random(rate), Visits()
    loop = asyncio.get_running_loop()
    due = loop.time()
    end = due + seconds
    async with asyncio.TaskGroup() as group:
        while (due := due + draw.expovariate(rate)) < end:
            await asyncio.sleep(due - loop.time())
            group.create_task(visit(session, url, user(draw), visits))
    return visits


def share(values: list[float], part: float) -> float:
    return sorted(values)[int(part * (len(values) - 1))] if values else float("nan")


def show(name: str, visits: Visits, seconds: float) -> None:
    served, refused = visits.served, visits.refused
    total = len(served) + len(refused) + visits.other
    print(
        f"{name:<34}{total / seconds:>8.0f}{len(served) / seconds:>9.0f}{share(served, 0.5) * 1000:>8.0f}"
        f"{share(served, 0.99) * 1000:>8.0f}{len(refused) / seconds:>9.0f}{share(refused, 0.5) * 1000:>8.0f}"
        f"{share(refused, 0.99) * 1000:>8.0f}{visits.other:>7}",
        flush=True,
    )


def anybody(draw: random.Random) -> str:
    return f"user {draw.randrange(USERS)}"


async def state(session: aiohttp.ClientSession, url: str) -> dict[str, float]:
    async with session.get(f"{url}/state") as response:
        held: dict[str, float] = await response.json()
        return held


async def bulk_calls(session: aiohttp.ClientSession, url: str, seconds: float) -> int:
    async with session.get(f"{url}/bulk?seconds={seconds}") as response:
        answered: int = await response.json()
        return answered


async def go(url: str, capacity: float, seconds: float) -> bool:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await visit_at(capacity / 2, 2, session, url, anybody)
        half = await visit_at(capacity / 2, seconds, session, url, anybody)
        show("half the load", half, seconds)
        before = await state(session, url)
        threefold = await visit_at(capacity * 3, seconds, session, url, anybody)
        show("three times the load", threefold, seconds)
        await asyncio.sleep(1)
        after = await state(session, url)
        busy, others = await asyncio.gather(
            visit_at(capacity * 2.5, seconds, session, url, lambda _: "busy"),
            visit_at(capacity / 4, seconds, session, url, anybody),
        )
        show("one user with 2.5 times the load", busy, seconds)
        show("  the others beside him, a quarter", others, seconds)
        beside, answered = await asyncio.gather(
            visit_at(capacity / 2, seconds, session, url, anybody), bulk_calls(session, url, seconds)
        )
        show("half the load beside bulk calls", beside, seconds)
        print(f"{'  the bulk calls':<34}{'':>8}{answered / seconds:>9.0f}")
        await asyncio.sleep(1)
        end = await state(session, url)
    bound = 1.5 * share(half.served, 0.99) + MAX_WAIT
    worst = share(threefold.served, 0.99)
    grown, cpu = after["rss_mb"] - before["rss_mb"], after["cpu_s"] - before["cpu_s"]
    each = cpu / (len(threefold.served) + len(threefold.refused))
    at_once = sum(took < 0.1 for took in threefold.refused) / max(1, len(threefold.refused))
    left = {name: end[name] for name in ("in_flight", "queued")}
    print(f"\nserved p99 under overload {worst * 1000:.0f} ms, promised {bound * 1000:.0f} ms")
    print(f"refused within 0.1 s: {at_once:.1%}; memory grew by {grown:.1f} MB under overload; left: {left}")
    print(f"CPU of the app: {each * 1000:.1f} ms a visit under overload")
    return worst <= bound and not any(left.values()) and not (half.other or threefold.other)


def main() -> int:
    parser = argparse.ArgumentParser(description="what overload does to those who are served, and to those who are not")
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--permits", type=int, default=8)
    options = parser.parse_args()
    capacity = options.permits / SECONDS_EACH
    print(f"{options.permits} permits, {SECONDS_EACH} s each: {capacity:.0f} a second; {options.seconds:.0f} s a line")
    print(f"{'':<34}{'':>8}{'---- served ----':>25}{'------ 503 ------':>25}")
    print(f"{'':<34}{'asked/s':>8}{'/s':>9}{'p50 ms':>8}{'p99 ms':>8}{'/s':>9}{'p50 ms':>8}{'p99 ms':>8}{'other':>7}")
    with (
        simulating(latency=LATENCY) as (base_url, account),
        in_process(_serve, base_url, options.permits) as (_, url),
    ):
        well = asyncio.run(go(url, capacity, options.seconds))
        peak = account()["peak_in_flight"]
    print(f"most in flight at the vendor: {peak}")
    well = well and peak <= options.permits
    print("well" if well else "NOT WELL")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
