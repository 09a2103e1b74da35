"""How much of a quota is used, and how often it is passed: this client and AsyncOpenAI behind a semaphore.

    python benchmarks/limits.py [--rpm 600] [--tpm 60000] [--seconds 150] [--in-flight 64] [--svg limits.svg]

Method: one simulator for each client, which counts a strict sliding minute and answers 429 beyond it; its ledger is the
judge. Workers ask without a pause for the whole time. `used` is what was admitted after the first ten seconds, as a
share of the quota; `worst` is the fullest minute that was tried for, refused attempts included. The picture shows the
attempts per second that got in.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI, OpenAIError

from aimlasync import AimlasyncError, AsyncClient, Endpoint, Limits, Retry
from aimlasync.simulator import Latency, Ledger, Simulator, serve_in_thread

MODEL = "openai/gpt-5-nano-2025-08-07"
WORDS = "My card was charged twice for the same invoice and nobody answers. " * 3
LATENCY = Latency.of(ttft=0.4, tokens_per_second=400, spread=0.4)

Load = Callable[[Simulator, argparse.Namespace], Coroutine[Any, Any, None]]


async def workers(ask: Callable[[str], Awaitable[None]], options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + options.seconds

    async def worker(number: int) -> None:
        turn = 0
        while loop.time() < end:
            turn += 1
            await ask(WORDS * (1 + (number + turn) % 4))

    tasks = [asyncio.create_task(worker(number)) for number in range(options.in_flight)]
    await asyncio.wait(tasks, timeout=options.seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def ours(simulator: Simulator, options: argparse.Namespace, *, told: bool = True) -> None:
    limits = Limits(requests_per_minute=options.rpm, tokens_per_minute=options.tpm) if told else Limits()
    endpoint = Endpoint.aimlapi(api_key="bench", base_url=simulator.base_url, limits=limits)
    async with AsyncClient(endpoints=[endpoint], retry=Retry(attempts=8)) as client:

        async def ask(text: str) -> None:
            try:
                await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}])
            except AimlasyncError:
                await asyncio.sleep(0.1)

        await workers(ask, options)


async def ours_untold(simulator: Simulator, options: argparse.Namespace) -> None:
    await ours(simulator, options, told=False)


async def openai(simulator: Simulator, options: argparse.Namespace) -> None:
    # What a person would write who knows the rate: as many at once as the latency allows.
    semaphore = asyncio.Semaphore(max(1, options.rpm // 60))
    async with AsyncOpenAI(api_key="bench", base_url=simulator.base_url, max_retries=5) as client:

        async def ask(text: str) -> None:
            async with semaphore:
                try:
                    messages: Any = [{"role": "user", "content": text}]
                    await client.chat.completions.create(model=MODEL, messages=messages)
                except OpenAIError:
                    await asyncio.sleep(0.1)

        await workers(ask, options)


CLIENTS: dict[str, Load] = {
    "aimlasync, limits given": ours,
    "aimlasync, no numbers": ours_untold,
    "AsyncOpenAI + semaphore": openai,
}


def judge(name: str, ledger: Ledger, options: argparse.Namespace) -> list[float]:
    """Print one line of the table; return the attempts admitted in each second."""
    attempts = list(ledger)
    begun = attempts[0].time
    good = [attempt for attempt in attempts if attempt.status == 200]
    steady = [attempt for attempt in good if attempt.time - begun > 10]
    span = max(1.0, options.seconds - 10)
    requests = len(steady) / span * 60 / options.rpm
    tokens = sum(a.prompt_tokens + a.completion_tokens for a in steady) / span * 60 / options.tpm
    refused = sum(attempt.status == 429 for attempt in attempts)
    worst = worst_minute([attempt.time for attempt in attempts]) / options.rpm
    print(
        f"{name:<26}{requests:>10.1%}{tokens:>10.1%}{ledger.worst_window() / options.rpm:>12.1%}{worst:>12.1%}"
        f"{refused:>8}{refused / len(attempts):>9.2%}"
    )
    per_second = [0.0] * (int(options.seconds) + 1)
    for attempt in good:
        second = int(attempt.time - begun)
        if second < len(per_second):
            per_second[second] += 1
    return per_second


def worst_minute(times: list[float]) -> int:
    most = first = 0
    for last, time in enumerate(times):
        while times[first] <= time - 60:
            first += 1
        most = max(most, last - first + 1)
    return most


def draw(series: dict[str, list[float]], quota: float, path: Path) -> None:
    """Write the picture: attempts admitted per second, five-second averages, one panel for each client."""
    width, height, left, top = 860, 150, 60, 36
    rows = []
    for number, (name, values) in enumerate(series.items()):
        averaged = [sum(values[i : i + 5]) / 5 for i in range(0, len(values) - 4, 5)]
        most = max(*averaged, quota) * 1.1
        base = top + number * (height + 44) + height
        points = " ".join(
            f"{left + i * (width - left) / max(1, len(averaged) - 1):.1f},{base - value / most * height:.1f}"
            for i, value in enumerate(averaged)
        )
        line = base - quota / most * height
        rows.append(
            f'<text x="{left}" y="{base - height - 8}">{name}</text>'
            f'<line x1="{left}" x2="{width}" y1="{base}" y2="{base}" stroke="#888"/>'
            f'<line x1="{left}" x2="{width}" y1="{line:.1f}" y2="{line:.1f}" stroke="#c60" stroke-dasharray="5 4"/>'
            f'<text x="4" y="{line + 4:.1f}">{quota:.1f}/s</text>'
            f'<polyline points="{points}" fill="none" stroke="#06c" stroke-width="2"/>'
        )
    total = top + len(series) * (height + 44)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width + 20}" height="{total}" font-family="sans-serif" '
        f'font-size="13"><rect width="100%" height="100%" fill="white"/>{"".join(rows)}</svg>',
        encoding="utf-8",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="quota used, worst minute, refusals")
    parser.add_argument("--rpm", type=int, default=600)
    parser.add_argument("--tpm", type=int, default=10_000_000)
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--svg", type=Path)
    options = parser.parse_args()
    print(f"{options.rpm} requests and {options.tpm} tokens per minute, {options.seconds:.0f} s each")
    print(f"{'':<26}{'requests':>10}{'tokens':>10}{'worst in':>12}{'worst try':>12}{'429':>8}{'':>9}")
    series = {}
    for name, load in CLIENTS.items():
        kwargs: dict[str, Any] = {"requests_per_minute": options.rpm, "tokens_per_minute": options.tpm}
        with serve_in_thread(latency=LATENCY, **kwargs) as simulator:
            asyncio.run(load(simulator, options))
            series[name] = judge(name, simulator.ledger, options)
    if options.svg is not None:
        draw(series, options.rpm / 60, options.svg)


if __name__ == "__main__":
    main()
