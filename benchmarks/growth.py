"""What becomes of the cost of a call, and of a row, as there are more of them.

    python benchmarks/growth.py [--seconds 60]

Calls in flight, 1 to 10,000, each client in a process of its own, which is the only one with connections then; the
first calls, which make them, are not counted. Once more with `gc.freeze()` and a threshold of 50,000 after them.
Endpoints, 1 to 8, all at one server: clients take turns in one process. Rows of a bulk job, 10,000 to a million, as
long as the next step is likely to take no more than `--seconds`; the last step is left out with `--quick`. A cost that
stays what it was is 1.00x in the column of growth.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from arena import FLOOR, LOOPS, OURS, Arena, arena, parser
from bulk_peers import child
from measure import MESSAGES, MODEL, Once, prime, spend
from peers import floor

FROZEN = "aimlasync, gc.freeze()"
IN_FLIGHT = (1, 10, 100, 256, 1_000, 5_000, 10_000)
ENDPOINTS = (1, 2, 4, 8)
ROWS = (10_000, 100_000, 1_000_000)


def run(held: Arena, seconds: float = 60.0) -> None:
    for loop in (loop for loop in LOOPS if loop in held.options.loops):
        of_calls(held, loop)
    of_endpoints(held)
    of_rows(held, seconds)


def of_calls(held: Arena, loop: str) -> None:
    steps = IN_FLIGHT[::3] if held.quick else IN_FLIGHT
    print(f"\nCPU of a call by calls in flight, {loop}, us\n{'':<24}", *(f"{step:>9,}" for step in steps), flush=True)
    medians: dict[str, list[float]] = {FLOOR: [], OURS: [], FROZEN: []}
    failed: list[str] = []
    for step in steps:
        spent: dict[str, list[float]] = {name: [] for name in medians}
        for _ in range(1 if held.quick else 3):
            for name, values in spent.items():
                client = held.fresh(OURS if name == FROZEN else name, loop)
                assert client is not None
                try:
                    client.ask("open", base=held.server.base("whole"), most=max(1024, step), pieces=1)
                    times = max(2_000, 2 * step)
                    client.ask("spend", what="call", times=max(500, step), in_flight=step)
                    if name == FROZEN:
                        client.ask("freeze")
                    taken = client.ask("spend", what="call", times=times, in_flight=step)
                    values.append(taken["cpu"] / times * 1e6)
                    if taken["errors"]:
                        failed.append(f"{name}, {step:,}: {taken['errors']} FAILED, the first with {taken['said']}")
                finally:
                    client.close()
        for name, values in spent.items():
            medians[name].append(statistics.median(values))
    for name, values in medians.items():
        print(f"{name:<24}", *(f"{value:>9.1f}" for value in values))
    of = [ours / bare for ours, bare in zip(medians[OURS], medians[FLOOR], strict=True)]
    print(f"{'of floor':<24}", *(f"{value:>8.2f}x" for value in of))
    for said in failed:
        print(f"  {said}")


def of_endpoints(held: Arena) -> None:
    prime()
    asyncio.run(_of_endpoints(held.server.base("whole"), 3 if held.quick else 9))


async def _of_endpoints(base: str, rounds: int) -> None:
    from aimlasync import AsyncClient, Endpoint, Limits

    async with AsyncExitStack() as stack:
        doing = await stack.enter_async_context(floor(base, 1024, 1))
        variants: dict[str, Once] = {FLOOR: doing["call"]}
        for count in ENDPOINTS:
            endpoints = [
                Endpoint(base_url=base, api_key="bench", name=f"e{number}", limits=Limits(concurrency=1024))
                for number in range(count)
            ]
            client = await stack.enter_async_context(AsyncClient(endpoints=endpoints))
            variants[f"{count} endpoint{'s' if count > 1 else ''}"] = partial(ask, client)
        spent: dict[str, list[float]] = {name: [] for name in variants}
        for number in range(rounds + 1):
            for name, once in variants.items():
                taken = await spend(once, 1_500, 32)
                if taken.errors:
                    raise RuntimeError(f"{taken.errors} calls failed, the first with {taken.said}")
                if number:
                    spent[name].append(taken.cpu / 1_500 * 1e6)
    medians = {name: statistics.median(values) for name, values in spent.items()}
    print(f"\nCPU of a call by endpoints, 32 in flight\n{'':<24}{'us':>9}{'of floor':>10}{'of one':>9}")
    for name, value in medians.items():
        growth = "" if name == FLOOR else f"{value / medians['1 endpoint']:.2f}x"
        print(f"{name:<24}{value:>9.1f}{value / medians[FLOOR]:>9.2f}x{growth:>9}")


async def ask(client: Any) -> None:
    reply = await client.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert reply.choices[0].message.content


def of_rows(held: Arena, seconds: float) -> None:
    print("\nCPU and memory of a bulk job by rows, 32 in flight, asyncio")
    print(f"{'':<24}{'us a row':>9}{'of floor':>10}{'of first':>10}{'MB above':>10}", flush=True)
    first, took, before = 0.0, 0.0, 0
    for rows in ROWS[:-1] if held.quick else ROWS:
        if before and took * rows / before > seconds:
            print(f"{rows:<24,} left out: it would take about {took * rows / before:.0f} s")
            break
        bare = child(held, FLOOR, min(rows, ROWS[0]))
        began = time.monotonic()
        ours = child(held, OURS, rows)
        took, before = time.monotonic() - began, rows
        if bare is None or ours is None:
            break
        first = first or ours["cpu"]
        print(
            f"{f'{rows:,} rows':<24}{ours['cpu'] * 1e6:>9.1f}{ours['cpu'] / bare['cpu']:>9.2f}x"
            f"{ours['cpu'] / first:>9.2f}x{ours['above']:>10.1f}",
            flush=True,
        )


if __name__ == "__main__":
    words = parser(__doc__)
    words.add_argument("--seconds", type=float, default=60.0)
    options = words.parse_args()
    with arena(options) as held:
        run(held, options.seconds)
