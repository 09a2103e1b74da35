"""Calls per second against how many are in flight, by client.

    python benchmarks/throughput.py

By the clock, with server and client on one machine: where both share few cores, these figures compare, and say little
of what a client does with a core of its own; for that, see CPU per call (`calls`).
"""

from __future__ import annotations

import statistics

from arena import FLOOR, LOOPS, OURS, Arena, Contest, main
from plots import lines

NAMES = ["wrk", FLOOR, OURS, "raw aiohttp + json", "pyreqwest", "baseten", "AsyncOpenAI", "AsyncOpenAI, aiohttp"]
IN_FLIGHT = (1, 4, 16, 64, 256, 1024)


def run(held: Arena) -> None:
    steps = IN_FLIGHT[::2] if held.quick else IN_FLIGHT
    names = NAMES[:4] if held.quick else NAMES
    rates: dict[str, dict[str, list[tuple[float, float]]]] = {loop: {} for loop in LOOPS}
    failed: list[str] = []
    for in_flight in steps:
        taken = held.hold(Contest("call", "whole", names, in_flight, seconds=0.3, rounds=1 if held.quick else 2))
        for (name, loop), row in taken.items():
            rates[loop].setdefault(name, []).append((float(in_flight), statistics.median(row.rate)))
            if row.errors:
                failed.append(f"{name} on {loop}, {in_flight}: {row.errors} calls FAILED, the first with {row.said}")
    for loop, series in rates.items():
        if not series:
            continue
        print(f"\nCalls a second by calls in flight, {loop}\n{'':<24}", *(f"{step:>9}" for step in steps))
        for name, line in series.items():
            by_step = dict(line)
            print(f"{name:<24}", *(f"{by_step[step]:>9,.0f}" if step in by_step else f"{'':>9}" for step in steps))
        lines(held.svg(f"throughput-{loop}"), f"Calls a second, 1 KB reply, {loop}", "calls in flight", series)
    for said in failed:
        print(f"  {said}")


if __name__ == "__main__":
    main(run, __doc__)
