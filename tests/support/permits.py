"""Permits of a lane, for tests that send nothing: what the balancer does for an attempt of a call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aimlasync.config import Priority
from aimlasync.endpoints.lane import Lane, Permit


def permit_now(lane: Lane, tokens: float = 0.0) -> Permit | None:
    """Return a permit if none must be waited for, else None."""
    loop = asyncio.get_running_loop()
    now = loop.time()
    admission = lane.enter_nowait(tokens, now)
    return None if admission is None else Permit(lane, loop, now, lane.counted.in_flight - 1, admission)


async def permit_of(lane: Lane, tokens: float | Callable[[], float] = 0.0, priority: Priority = "bulk") -> Permit:
    """Wait in the queue for a permit."""
    admission = await lane.enter(tokens, priority)
    return Permit(lane, asyncio.get_running_loop(), admission.at, admission.beside, admission)
