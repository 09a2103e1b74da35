"""CPU time of one chat call and of one streamed chunk, side by side with raw aiohttp + json and AsyncOpenAI.

    python benchmarks/cpu.py [--calls 2000] [--streams 20] [--rounds 7] [--in-flight 32] [--uvloop]

Method: user + system time of the whole client process (getrusage), the server in another process. Every client does a
round in turn, so that noise hits all of them alike; the table gives the median and the lowest of the rounds and the
ratio of medians. Connections are warm, answers are checked, glibc's allocator is primed for all (a large block freed
at start).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
from openai import AsyncOpenAI

from aimlasync import AsyncClient, Limits

MODEL = "gpt-5-nano"
MESSAGES: Any = [{"role": "user", "content": "Route to: support / billing / sales. Input: My card was charged twice."}]
EVENTS = 500

Once = Callable[[], Awaitable[None]]


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def spend(once: Once, times: int, in_flight: int) -> float:
    """Run `once` that many times with that many tasks; return CPU seconds."""
    left = iter(range(times))

    async def worker() -> None:
        for _ in left:
            await once()

    before = cpu()
    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return cpu() - before


async def clients(base: str, stack: AsyncExitStack) -> tuple[dict[str, Once], dict[str, Once]]:
    """Return what makes one whole call, and what reads one stream, by client."""
    limits = Limits(concurrency=1024)
    ours = await stack.enter_async_context(AsyncClient(api_key="bench", base_url=base, limits=limits))
    openai = await stack.enter_async_context(AsyncOpenAI(api_key="bench", base_url=base, max_retries=0))
    raw = await stack.enter_async_context(aiohttp.ClientSession(headers={"Authorization": "Bearer bench"}))
    url = f"{base}/chat/completions"
    body = {"model": MODEL, "messages": MESSAGES}

    async def ours_whole() -> None:
        reply = await ours.chat.completions.create(model=MODEL, messages=MESSAGES)
        assert reply.choices[0].message.content

    async def openai_whole() -> None:
        reply = await openai.chat.completions.create(model=MODEL, messages=MESSAGES)
        assert reply.choices[0].message.content

    async def raw_whole() -> None:
        async with raw.post(url, json=body) as response:
            reply = await response.json()
        assert reply["choices"][0]["message"]["content"]

    async def ours_stream() -> None:
        stream = await ours.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
        seen = 0
        async for chunk in stream:
            seen += len(chunk.choices)
        assert seen == EVENTS

    async def openai_stream() -> None:
        seen = 0
        async for chunk in await openai.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True):
            seen += len(chunk.choices)
        assert seen == EVENTS

    async def raw_stream() -> None:
        seen = 0
        async with raw.post(url, json={**body, "stream": True}) as response:
            async for line in response.content:
                if line.startswith(b"data: ") and line[6:12] != b"[DONE]":
                    seen += len(json.loads(line[6:])["choices"])
        assert seen == EVENTS

    whole: dict[str, Once] = {"raw aiohttp + json": raw_whole, "AsyncOpenAI": openai_whole, "aimlasync": ours_whole}
    streamed: dict[str, Once] = {
        "raw aiohttp + json": raw_stream,
        "AsyncOpenAI": openai_stream,
        "aimlasync": ours_stream,
    }
    return whole, streamed


def table(title: str, unit: str, rounds: dict[str, list[float]]) -> None:
    ours = statistics.median(rounds["aimlasync"])
    print(f"\n{title}\n{'client':<22}{'median ' + unit:>16}{'lowest':>10}{'x aimlasync':>14}")
    for name, values in rounds.items():
        middle = statistics.median(values)
        print(f"{name:<22}{middle * 1e6:>16.1f}{min(values) * 1e6:>10.1f}{middle / ours:>14.2f}")


async def measure(options: argparse.Namespace, base: str) -> None:
    async with AsyncExitStack() as stack:
        whole, streamed = await clients(base, stack)
        spent: dict[str, list[float]] = {name: [] for name in whole}
        spent_stream: dict[str, list[float]] = {name: [] for name in whole}
        for number in range(options.rounds + 1):
            for name in whole:
                calls = options.calls // 5 if name == "AsyncOpenAI" else options.calls
                per_call = await spend(whole[name], calls, options.in_flight) / calls
                per_chunk = await spend(streamed[name], options.streams, min(4, options.in_flight)) / options.streams
                if number:
                    # The first round warms connections, codecs and caches.
                    spent[name].append(per_call)
                    spent_stream[name].append(per_chunk / EVENTS)
    loop = type(asyncio.get_running_loop()).__module__
    print(f"Python {sys.version.split()[0]}, {loop}, {options.in_flight} in flight, {options.rounds} rounds")
    table("One chat call, 1 KB reply", "us CPU", spent)
    table(f"One streamed chunk, 16 to a write, {EVENTS} a stream", "us CPU", spent_stream)


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU time of a call and of a streamed chunk")
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--streams", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--uvloop", action="store_true")
    options = parser.parse_args()
    bytes(8 << 20)
    command = [sys.executable, str(Path(__file__).with_name("server.py")), "0", str(EVENTS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            base = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
            if options.uvloop:
                import uvloop

                uvloop.run(measure(options, base))
            else:
                asyncio.run(measure(options, base))
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
