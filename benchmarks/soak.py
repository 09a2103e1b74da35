"""An hour's traffic in minutes: is memory flat, is anything leaked, does latency drift?

    python benchmarks/soak.py [--requests 200000] [--max-seconds 900] [--svg soak.svg]

Method: three processes. A simulator with every fault it knows. The app of chat_app.py, which is measured: one client,
which browsers use over HTTP, and `/direct` inside the process, where calls are cancelled, left in the middle of their
stream, or forgotten. And this one, which plays the browsers: they read to the end, leave in the middle, or leave before
the first token. Every two seconds the app says what it holds; the first fifth of the run is warm-up. The slope of
memory is a least-squares line through the rest. In the end, when nobody has been there for as long as connections are
kept, permits, line, tasks and files must be back where they were after the first visit.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import linear_regression, median
from typing import Any

import aiohttp
from chat_app import MESSAGES, MODEL, app_of, in_process, serve, simulating
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from aimlasync import AimlasyncError, AsyncClient, Limits, Retry, Timeout
from aimlasync.simulator import Fault, Latency
from aimlasync.starlette import client_of

LATENCY = Latency.of(ttft=0.004, tokens_per_second=8000, spread=0.3)
FAULTS = {
    "status:500": 0.01,
    "status:503": 0.001,
    "status:429": 0.001,
    "status:400": 0.01,
    "reset": 0.005,
    "stall": 0.0005,
    "slow_first_byte:0.05": 0.01,
    "cut_stream": 0.01,
    "reset_stream": 0.005,
    "stall_stream": 0.0005,
    "error_in_stream": 0.005,
    "malformed_json": 0.002,
    "html": 0.002,
    "truncated_body": 0.002,
    "close_idle": 0.005,
}
OPTIONS: dict[str, Any] = {
    "limits": Limits(concurrency=64),
    "retry": Retry(base=0.01, throttle_base=0.05),
    "timeout": Timeout(total=2.0, idle=0.5, first_token=0.5),
    "max_queue": 512,
    "max_wait": 2.0,
}
SAMPLE = 2.0
# What must be as in the beginning.
EMPTY = ("in_flight", "queued", "tasks", "fds")
WARM_UP = 0.2


def faults() -> list[Fault]:
    return [Fault.parse(f"{kind},probability={share}") for kind, share in FAULTS.items()]


async def one_direct(client: AsyncClient, draw: random.Random) -> str:
    """One call of a random kind; what became of it."""
    kind = draw.random()
    tenant = draw.choice([None, "ann", "bob", f"user {draw.randrange(10_000)}"])
    options: Any = {"model": MODEL, "messages": MESSAGES, "tenant": tenant}
    try:
        if kind < 0.5:
            await client.chat.completions.create(**options, priority=draw.choice(["interactive", "bulk"]))
        elif kind < 0.7:
            await (await client.chat.completions.create(**options, stream=True)).collect()
        elif kind < 0.8:
            events = await client.responses.create(model="openai/gpt-5-pro", input="Hello", stream=True, tenant=tenant)
            await events.collect()
        elif kind < 0.9:
            async with await client.chat.completions.create(**options, stream=True) as stream:
                for _ in range(draw.randrange(4)):
                    await anext(stream)
            return "left"
        elif kind < 0.92:
            # Forgotten: never read, never closed.
            await client.chat.completions.create(**options, stream=True)
            return "forgotten"
        else:
            async with asyncio.timeout(draw.random() * 0.02):
                await client.chat.completions.create(**options, stream=draw.random() < 0.5)
    except AimlasyncError as error:
        return type(error).__name__
    except TimeoutError:
        return "cancelled"
    return "answered"


async def direct(request: Request) -> Response:
    """Make `?calls=` calls, eight at once."""
    client = client_of(request)
    draw = random.Random(request.query_params["seed"])
    left = iter(range(int(request.query_params["calls"])))
    outcomes: Counter[str] = Counter()

    async def worker() -> None:
        for _ in left:
            outcomes[await one_direct(client, draw)] += 1

    await asyncio.gather(*(worker() for _ in range(8)))
    return JSONResponse(outcomes)


async def one_browser(session: aiohttp.ClientSession, url: str, draw: random.Random) -> str:
    """One visit; what became of it."""
    kind = draw.random()
    address = f"{url}/{'whole' if kind < 0.2 else 'chat'}?user={draw.randrange(1000)}"
    patience = draw.random() * 0.02 if kind > 0.9 else 10.0
    try:
        async with asyncio.timeout(patience), session.get(address) as response:
            if response.status != 200:
                await response.read()
                return f"HTTP {response.status}"
            if 0.7 < kind <= 0.9:
                await response.content.readany()
                return "left"
            body = await response.read()
            return "error event" if b"event: error" in body else "answered"
    except TimeoutError:
        return "left before"
    except aiohttp.ClientError as error:
        return type(error).__name__


class Run:
    """The traffic, and what was seen while it went on."""

    def __init__(self, url: str, requests: int, max_seconds: float) -> None:
        self.url = url
        self.requests = requests
        self.max_seconds = max_seconds
        self.done = 0
        self.direct: Counter[str] = Counter()
        self.browsers: Counter[str] = Counter()
        self.latencies: list[float] = []
        # (requests so far, seconds, median latency of a visit since the last, what the app holds)
        self.samples: list[tuple[int, float, float, dict[str, float]]] = []
        self.begun = time.monotonic()

    @property
    def goes_on(self) -> bool:
        return self.done < self.requests and time.monotonic() - self.begun < self.max_seconds

    async def browse(self, session: aiohttp.ClientSession, seed: int) -> None:
        draw = random.Random(seed)
        while self.goes_on:
            began = time.monotonic()
            outcome = await one_browser(session, self.url, draw)
            if outcome == "answered":
                self.latencies.append(time.monotonic() - began)
            self.browsers[outcome] += 1
            self.done += 1

    async def call(self, session: aiohttp.ClientSession, seed: int) -> None:
        draw = random.Random(seed)
        calls = min(200, max(1, self.requests // 20))
        while self.goes_on:
            async with session.get(f"{self.url}/direct?calls={calls}&seed={draw.random()}") as response:
                self.direct.update(await response.json())
            self.done += calls

    async def sample(self, session: aiohttp.ClientSession) -> None:
        async with session.get(f"{self.url}/state") as response:
            held = await response.json()
        latency = median(self.latencies) if self.latencies else 0.0
        self.latencies.clear()
        self.samples.append((self.done, time.monotonic() - self.begun, latency, held))

    async def watch(self, session: aiohttp.ClientSession) -> None:
        while True:
            await asyncio.sleep(SAMPLE)
            await self.sample(session)

    async def settle(self, session: aiohttp.ClientSession, most: dict[str, float]) -> dict[str, float]:
        """Return what the app holds once it holds no more than `most`, or when kept connections are gone."""
        for _ in range(70):
            await asyncio.sleep(0.5)
            async with session.get(f"{self.url}/state") as response:
                held: dict[str, float] = await response.json()
            if all(held[name] <= value for name, value in most.items()):
                break
        return held

    async def go(self, browsers: int) -> tuple[dict[str, float], dict[str, float]]:
        """Make the traffic; return what the app held when it had just begun, and in the end."""
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(connector=connector) as session:
            async with session.get(f"{self.url}/chat") as response:
                await response.read()
            before = await self.settle(session, {"in_flight": 0})
            watching = asyncio.create_task(self.watch(session))
            await asyncio.gather(
                *(self.browse(session, seed) for seed in range(browsers)),
                *(self.call(session, 1000 + seed) for seed in range(4)),
            )
            watching.cancel()
            after = await self.settle(session, {name: before[name] for name in EMPTY})
        return before, after


def _serve(pipe: Connection, base_url: str) -> None:
    asyncio.run(serve(app_of(base_url, Route("/direct", direct), **OPTIONS), pipe.send))


def report(run: Run, before: dict[str, float], after: dict[str, float], account: dict[str, int]) -> bool:
    """Print the table; return whether all is well."""
    steady = [sample for sample in run.samples if sample[0] >= WARM_UP * run.done]
    print(f"{'requests':>10}{'seconds':>9}{'RSS MB':>9}{'fds':>6}{'tasks':>7}{'in flight':>11}{'visit, median ms':>18}")
    for done, seconds, latency, held in run.samples[:: max(1, len(run.samples) // 20)]:
        print(
            f"{done:>10}{seconds:>9.0f}{held['rss_mb']:>9.1f}{held['fds']:>6.0f}{held['tasks']:>7.0f}"
            f"{held['in_flight']:>11.0f}{latency * 1000:>18.1f}"
        )
    made = sum(run.direct.values()) + sum(run.browsers.values())
    print(f"\n{made} of {run.requests} requests in {run.samples[-1][1] if run.samples else 0:.0f} s")
    print(f"made in the process: {dict(run.direct.most_common())}")
    print(f"over HTTP:           {dict(run.browsers.most_common())}")
    print(f"at the vendor:       {account}")
    print(f"held after one visit: {before}\nheld in the end:         {after}")
    leaked = {name: after[name] - before[name] for name in EMPTY if after[name] > before[name]}
    print(f"leaked: {leaked or 'nothing'}")
    well = not leaked and account["in_flight"] == 0
    if len(steady) > 2:
        slope, _ = linear_regression([sample[0] for sample in steady], [sample[3]["rss_mb"] for sample in steady])
        half = len(steady) // 2
        early, late = (median(sample[2] for sample in part) for part in (steady[:half], steady[half:]))
        print(f"memory after the warm-up: {slope * 100_000:+.2f} MB for 100,000 requests")
        costs = [
            (part[-1][3]["cpu_s"] - part[0][3]["cpu_s"]) / max(1, part[-1][3]["attempts"] - part[0][3]["attempts"])
            for part in (steady[: half + 1], steady[half:])
        ]
        print(f"latency of a visit: {early * 1000:.1f} ms in the first half, {late * 1000:.1f} ms in the second")
        print(f"CPU of the app: {costs[0] * 1000:.2f} ms an attempt in the first half, {costs[1] * 1000:.2f} ms then")
        # Latency is the machine's too, where others use it; what an attempt costs is the app's alone.
        drifts = late > 1.5 * early and costs[1] > 1.1 * costs[0]
        well = well and slope * 100_000 < 2.0 and not drifts
    return well


def draw(run: Run, path: Path) -> None:
    """Write the picture: memory, files and tasks, and latency, over the requests made; a panel for each."""
    width, height, left, gap = 760, 110, 84, 62
    panels: list[tuple[str, Callable[[tuple[int, float, float, dict[str, float]]], float]]] = [
        ("Memory of the app, MB", lambda sample: sample[3]["rss_mb"]),
        ("Open files", lambda sample: sample[3]["fds"]),
        ("Tasks", lambda sample: sample[3]["tasks"]),
        ("Median time of a visit, ms", lambda sample: sample[2] * 1000),
    ]
    parts = []
    for number, (title, value) in enumerate(panels):
        base = 40 + number * (height + gap) + height
        top = max(map(value, run.samples)) * 1.2 or 1.0
        parts.append(f'<text x="{left}" y="{base - height - 8}" font-weight="bold">{title}</text>')
        for level in (0.0, top / 2, top):
            y = base - level / top * height
            parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{level:,.0f}</text>')
            parts.append(f'<line x1="{left}" x2="{left + width}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        for share in range(6):
            x, at = left + share / 5 * width, share / 5 * run.samples[-1][0]
            parts.append(f'<text x="{x:.1f}" y="{base + 20}" text-anchor="middle">{at:,.0f}</text>')
        line = " ".join(
            f"{left + sample[0] / run.samples[-1][0] * width:.1f},{base - value(sample) / top * height:.1f}"
            for sample in run.samples
        )
        parts.append(f'<polyline points="{line}" fill="none" stroke="#06c" stroke-width="1.5"/>')
        parts.append(f'<line x1="{left}" x2="{left + width}" y1="{base}" y2="{base}" stroke="#666"/>')
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 40}" height="{40 + 4 * (height + gap)}" '
        f'font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="white"/>'
        f"{''.join(parts)}</svg>\n",
        encoding="utf-8",
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="memory, leaks and latency over a long run")
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--max-seconds", type=float, default=900.0)
    parser.add_argument("--browsers", type=int, default=16)
    parser.add_argument("--svg", type=Path)
    options = parser.parse_args()
    with (
        simulating(latency=LATENCY, faults=faults(), retry_after=0.05) as (base_url, account),
        in_process(_serve, base_url) as (_, url),
    ):
        run = Run(url, options.requests, options.max_seconds)
        before, after = asyncio.run(run.go(options.browsers))
        well = report(run, before, after, account())
    if options.svg is not None and run.samples:
        draw(run, options.svg)
    print("well" if well else "NOT WELL")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
