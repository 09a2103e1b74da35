"""How much of a quota is used, and how often it is passed: this client, AsyncOpenAI + semaphore, async-batch-llm.

    python benchmarks/limits.py [--rpm 600] [--tpm 60000] [--seconds 150] [--in-flight 64] [--svg limits.svg]

Method: one simulator for each client, which counts a strict sliding minute and answers 429 beyond it, without saying
for how long, as the AI/ML API does; its ledger is the judge. Workers ask without a pause for the whole time.
`used` is what was admitted after the first ten seconds, as a share of the quota; `worst minute` is the fullest sliding
one that got in; `tried` is the same with the refused attempts, which have no tokens. The picture shows what got in,
in the unit whose quota binds, over five seconds each.
async-batch-llm is told the same limits, as its README does; once more with the two settings that suit a strict server
best: a bucket of one second in the place of its full minute, and a cooldown of five seconds in the place of its five
minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from async_batch_llm import CharacterTokenEstimator, ProcessorConfig, llm, process_stream
from async_batch_llm.core import RateLimitConfig
from openai import AsyncOpenAI, OpenAIError

from aimlasync import AimlasyncError, AsyncClient, Endpoint, Limits, Retry
from aimlasync.simulator import Latency, Ledger, Simulator, serve_in_thread

MODEL = "openai/gpt-5-nano-2025-08-07"
WORDS = "My card was charged twice for the same invoice and nobody answers. " * 3
LATENCY = Latency.of(ttft=0.4, tokens_per_second=400, spread=0.4)
WARM_UP = 10.0
STEP = 5

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


async def ours(simulator: Simulator, options: argparse.Namespace, *, told: bool) -> None:
    limits = Limits(requests_per_minute=options.rpm, tokens_per_minute=options.tpm) if told else Limits()
    endpoint = Endpoint.aimlapi(api_key="bench", base_url=simulator.base_url, limits=limits)
    async with AsyncClient(endpoints=[endpoint], retry=Retry(attempts=8)) as client:

        async def ask(text: str) -> None:
            try:
                await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}])
            except AimlasyncError:
                await asyncio.sleep(0.1)

        await workers(ask, options)


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


async def async_batch_llm(simulator: Simulator, options: argparse.Namespace, **settings: Any) -> None:
    strategy = llm(f"openai-compatible:{MODEL}", base_url=simulator.base_url, api_key="bench")
    config = ProcessorConfig(
        concurrency=options.in_flight,
        max_queue_size=2 * options.in_flight,
        max_requests_per_minute=options.rpm,
        max_tokens_per_minute=options.tpm,
        token_estimator=CharacterTokenEstimator(),
        **settings,
    )
    try:
        async with asyncio.timeout(options.seconds):
            async for _ in process_stream(strategy, prompts(), config=config):
                pass
    except TimeoutError:
        return


def prompts() -> Iterator[str]:
    return (WORDS * (1 + turn % 4) for turn in itertools.count())


CLIENTS: dict[str, Load] = {
    "aimlasync, limits given": partial(ours, told=True),
    "aimlasync, no numbers": partial(ours, told=False),
    "AsyncOpenAI + semaphore": openai,
    "async-batch-llm": async_batch_llm,
    "async-batch-llm, tuned": partial(
        async_batch_llm, quota_burst_seconds=1.0, rate_limit=RateLimitConfig(cooldown_seconds=5.0)
    ),
}


def judge(name: str, ledger: Ledger, options: argparse.Namespace) -> tuple[list[float], list[float]]:
    """Print one line of the table; return the requests and the tokens admitted in each step."""
    attempts = list(ledger)
    begun = attempts[0].time
    steps = int(options.seconds) // STEP
    admitted = [(a.time - begun, 1.0, float(a.prompt_tokens + a.completion_tokens)) for a in attempts if a.admitted]
    steady = [sizes for when, *sizes in admitted if WARM_UP < when <= options.seconds]
    minutes = (options.seconds - WARM_UP) / 60
    requests, tokens = (sum(sizes[kind] for sizes in steady) / minutes for kind in (0, 1))
    refused = sum(attempt.status == 429 for attempt in attempts)
    tried = worst_minute([attempt.time for attempt in attempts])
    print(
        f"{name:<26}{requests / options.rpm:>11.1%}{tokens / options.tpm:>11.1%}"
        f"{ledger.worst_window() / options.rpm:>11.1%}{ledger.worst_window(of='tokens') / options.tpm:>11.1%}"
        f"{tried / options.rpm:>11.1%}{refused:>8}{refused / len(attempts):>9.2%}",
        flush=True,
    )
    series = [0.0] * steps, [0.0] * steps
    for when, *sizes in admitted:
        if when < steps * STEP:
            for kind in (0, 1):
                series[kind][int(when) // STEP] += sizes[kind]
    return series


def worst_minute(times: list[float]) -> int:
    most = first = 0
    for last, time in enumerate(times):
        while times[first] <= time - 60:
            first += 1
        most = max(most, last - first + 1)
    return most


def draw(series: dict[str, list[float]], quota: float, unit: str, path: Path) -> None:
    """Write the picture: what was admitted per minute in every step, one panel for each client, one scale for all.

    It ends at twice the quota: the opening burst of a client without a pace is many times that, and is told in words.
    """
    width, height, left, top, gap, right = 760, 110, 84, 64, 62, 24
    rates = {name: [value * 60 / STEP for value in values] for name, values in series.items()}
    most = 2 * quota
    seconds = max(len(values) for values in rates.values()) * STEP
    parts = [
        f'<text x="{left}" y="24" font-size="15" font-weight="bold">Admitted {unit} per minute</text>',
        f'<line x1="{left + width - 190}" x2="{left + width - 160}" y1="19" y2="19" {QUOTA}/>',
        f'<text x="{left + width - 152}" y="24">quota: {quota:,.0f} a minute</text>',
    ]
    for number, (name, values) in enumerate(rates.items()):
        base = top + number * (height + gap) + height
        parts.append(f'<text x="{left}" y="{base - height - 8}" font-weight="bold">{name}</text>')
        for level in (0.0, quota, most):
            y = base - level / most * height
            parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{level:,.0f}</text>')
            parts.append(f'<line x1="{left}" x2="{left + width}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        for second in range(0, seconds + 1, 10):
            x = left + second / seconds * width
            marked = second % 30 == 0
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{base}" y2="{base + (6 if marked else 3)}" {AXIS}/>')
            if marked:
                parts.append(f'<text x="{x:.1f}" y="{base + 20}" text-anchor="middle">{second} s</text>')
        corners = []
        for step, rate in enumerate(values):
            y = base - min(rate, most) / most * height
            corners += [
                f"{left + step * STEP / seconds * width:.1f},{y:.1f}",
                f"{left + (step + 1) * STEP / seconds * width:.1f},{y:.1f}",
            ]
        if max(values) > most:
            over = f"{max(values):,.0f} a minute at the most"
            parts.append(f'<text x="{left + width}" y="{base - height - 8}" text-anchor="end" {NOTE}>{over}</text>')
        level = base - quota / most * height
        bottom = f"{left + len(values) * STEP / seconds * width:.1f},{base} {left},{base}"
        parts += [
            f'<polygon points="{" ".join(corners)} {bottom}" fill="#06c" fill-opacity="0.15"/>',
            f'<polyline points="{" ".join(corners)}" fill="none" stroke="#06c" stroke-width="1.5"/>',
            f'<line x1="{left}" x2="{left + width}" y1="{level:.1f}" y2="{level:.1f}" {QUOTA}/>',
            f'<line x1="{left}" x2="{left + width}" y1="{base}" y2="{base}" {AXIS}/>',
            f'<line x1="{left}" x2="{left}" y1="{base}" y2="{base - height}" {AXIS}/>',
        ]
    total = top + len(rates) * (height + gap)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + right}" height="{total}" '
        f'font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="white"/>'
        f"{''.join(parts)}</svg>\n",
        encoding="utf-8",
    )


AXIS = 'stroke="#666"'
NOTE = 'fill="#666"'
QUOTA = 'stroke="#c60" stroke-width="1.5" stroke-dasharray="5 4"'


def main() -> None:
    parser = argparse.ArgumentParser(description="quota used, worst minute, refusals")
    parser.add_argument("--rpm", type=int, default=600)
    parser.add_argument("--tpm", type=int, default=10_000_000)
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--svg", type=Path)
    options = parser.parse_args()
    if options.seconds < WARM_UP + STEP:
        parser.error(f"--seconds must be at least {WARM_UP + STEP:.0f}")
    # Cooldowns are what the table shows; they need no lines of their own.
    logging.disable(logging.WARNING)
    print(f"{options.rpm} requests and {options.tpm} tokens per minute, {options.seconds:.0f} s each")
    print(f"{'':<26}{'---- used ----':>22}{'worst minute':>22}{'tried':>11}{'429':>8}")
    print(f"{'':<26}{'requests':>11}{'tokens':>11}{'requests':>11}{'tokens':>11}{'requests':>11}")
    requests, tokens = {}, {}
    for name, load in CLIENTS.items():
        kwargs: dict[str, Any] = {"requests_per_minute": options.rpm, "tokens_per_minute": options.tpm}
        with serve_in_thread(latency=LATENCY, **kwargs) as simulator:
            asyncio.run(load(simulator, options))
            requests[name], tokens[name] = judge(name, simulator.ledger, options)
    if options.svg is not None:
        used = [
            sum(map(sum, series.values())) / quota for series, quota in ((requests, options.rpm), (tokens, options.tpm))
        ]
        if used[0] >= used[1]:
            draw(requests, options.rpm, "requests", options.svg)
        else:
            draw(tokens, options.tpm, "tokens", options.svg)


if __name__ == "__main__":
    main()
