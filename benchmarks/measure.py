"""What every benchmark shares: the question that is asked, CPU time, and many calls at a time."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

MODEL = "gpt-5-nano"
MESSAGES: Any = [{"role": "user", "content": "Route to: support / billing / sales. Input: My card was charged twice."}]

Once = Callable[[], Awaitable[object]]


def prime() -> None:
    """Free one large block, so that glibc takes asyncio's 256 KiB reads from the heap (python/cpython#85451).

    Whether that happens by itself depends on what a process allocated before, and doubles the cost of a call.
    """
    bytes(8 << 20)


def cpu() -> float:
    """User and system time of this process, all its threads included, in seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def memory() -> float:
    """What this process has in memory now, in MiB."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


@dataclass
class Spent:
    """What some calls took: seconds, and how many failed, with what the first of them said."""

    cpu: float
    wall: float
    errors: int = 0
    said: str = ""


async def spend(once: Once, times: int, in_flight: int) -> Spent:
    """Run `once` that many times with that many tasks."""
    left = iter(range(times))
    spent = Spent(0.0, 0.0)

    async def worker() -> None:
        for _ in left:
            try:
                await once()
            except Exception as error:  # noqa: BLE001  # whatever a client raises is a call that failed
                spent.errors += 1
                spent.said = spent.said or repr(error)[:200]

    before, began = cpu(), time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(min(in_flight, times))))
    spent.cpu, spent.wall = cpu() - before, time.perf_counter() - began
    return spent
