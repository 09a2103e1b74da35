"""What each feature adds to the CPU time of one chat call.

    python benchmarks/features.py [--calls 1500] [--rounds 7] [--in-flight 32]

Method: user + system time of this process, the server in another one, one client for each feature, all of them in turn,
medians. The difference is to a client with a fixed concurrency and nothing else; `floor` is a bare asyncio protocol.
Every client retries and counts; "everything" is both rates, adaptive concurrency, a deadline, a budget and a bounded
queue. The rates given are far above what is asked, so that nothing ever waits.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from measure import MESSAGES, MODEL, Once, prime, spend
from peers import floor
from serving import native_server

from aimlasync import AsyncClient, Budget, Endpoint, Hedge, Limits, Price, Timeout

FIXED = Limits(concurrency=1024)
PRICE = {MODEL: Price(input=1e-9, output=1e-9)}


def variants(base: str) -> dict[str, Callable[[], AsyncClient]]:
    def client(**options: Any) -> AsyncClient:
        return AsyncClient(api_key="bench", base_url=base, **{"limits": FIXED, "timeout": Timeout(), **options})

    two = [Endpoint(base_url=base, api_key="bench", name=name, limits=FIXED) for name in ("one", "two")]
    rates = Limits(requests_per_minute=1e9, tokens_per_minute=1e12, concurrency=1024)
    return {
        "fixed concurrency": client,
        "adaptive concurrency": lambda: client(limits=Limits()),
        "requests and tokens per minute": lambda: client(limits=rates),
        "a deadline": lambda: client(timeout=60.0),
        "a budget": lambda: client(budget=Budget(1e6, prices=PRICE)),
        "hedging, never needed": lambda: client(hedge=Hedge(after=30.0)),
        "bounded queue and wait": lambda: client(max_queue=1000, max_wait=10.0),
        "two endpoints": lambda: AsyncClient(endpoints=two),
        "everything but hedging": lambda: AsyncClient(
            endpoints=[
                Endpoint(base_url=base, api_key="bench", limits=Limits(requests_per_minute=1e9, tokens_per_minute=1e12))
            ],
            timeout=60.0,
            budget=Budget(1e6, prices=PRICE),
            max_queue=1000,
            max_wait=10.0,
        ),
    }


async def call(client: AsyncClient) -> None:
    reply = await client.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert reply.choices[0].message.content


async def measure(base: str, calls: int, rounds: int, in_flight: int) -> None:
    async with AsyncExitStack() as stack:
        doing = await stack.enter_async_context(floor(base, in_flight, 1))
        variant: dict[str, Once] = {"floor": doing["call"]}
        for name, make in variants(base).items():
            variant[name] = partial(call, await stack.enter_async_context(make()))
        spent: dict[str, list[float]] = {name: [] for name in variant}
        for number in range(rounds + 1):
            for name, once in variant.items():
                taken = await spend(once, calls, in_flight)
                if taken.errors:
                    raise RuntimeError(f"{taken.errors} calls failed, the first with {taken.said}")
                if number:
                    # The first round warms connections, codecs and caches.
                    spent[name].append(taken.cpu / calls * 1e6)
    bare = statistics.median(spent["fixed concurrency"])
    least = statistics.median(spent["floor"])
    print(
        f"\n{'one chat call, 1 KB reply':<34}{'median us':>10}{'lowest':>9}{'adds':>8}{'of a call':>11}{'of floor':>10}"
    )
    for name, values in spent.items():
        middle = statistics.median(values)
        adds = "" if name == "floor" else f"{middle - bare:.1f}"
        share = "" if name == "floor" else f"{middle / bare - 1:+.0%}"
        print(f"{name:<34}{middle:>10.1f}{min(values):>9.1f}{adds:>8}{share:>11}{middle / least:>9.2f}x")


def run(base: str, *, calls: int = 1500, rounds: int = 7, in_flight: int = 32) -> None:
    prime()
    asyncio.run(measure(base, calls, rounds, in_flight))


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU time that each feature adds to a call")
    parser.add_argument("--calls", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--in-flight", type=int, default=32)
    options = parser.parse_args()
    with native_server() as server:
        run(server.base("whole"), calls=options.calls, rounds=options.rounds, in_flight=options.in_flight)


if __name__ == "__main__":
    main()
