"""What each feature adds to the CPU time of one chat call.

    python benchmarks/features.py [--calls 1500] [--rounds 7] [--in-flight 32]

Method: that of `cpu.py`: user + system time of the client process, the server in another process, one client for each
feature, all of them in turn, medians. The difference is to a client with a fixed concurrency and nothing else. The
rates given are far above what is asked, so that nothing ever waits.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

from cpu import MESSAGES, MODEL, Once, spend

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
    }


async def call(client: AsyncClient) -> None:
    reply = await client.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert reply.choices[0].message.content


async def measure(options: argparse.Namespace, base: str) -> None:
    async with AsyncExitStack() as stack:
        calls: dict[str, Once] = {}
        for name, make in variants(base).items():
            calls[name] = partial(call, await stack.enter_async_context(make()))
        spent: dict[str, list[float]] = {name: [] for name in calls}
        for number in range(options.rounds + 1):
            for name, once in calls.items():
                seconds = await spend(once, options.calls, options.in_flight) / options.calls
                if number:
                    # The first round warms connections, codecs and caches.
                    spent[name].append(seconds * 1e6)
    bare = statistics.median(spent["fixed concurrency"])
    print(f"{'one chat call, 1 KB reply':<34}{'median us':>10}{'lowest':>9}{'adds':>8}")
    for name, values in spent.items():
        middle = statistics.median(values)
        print(f"{name:<34}{middle:>10.1f}{min(values):>9.1f}{middle - bare:>8.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU time that each feature adds to a call")
    parser.add_argument("--calls", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--in-flight", type=int, default=32)
    options = parser.parse_args()
    bytes(8 << 20)
    command = [sys.executable, str(Path(__file__).with_name("server.py")), "0", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            asyncio.run(measure(options, f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"))
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
