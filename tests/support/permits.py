"""Permits of a lane, for tests that send nothing: what the balancer does for an attempt of a call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aimlasync.admission.endpoint_limiter import Admission
from aimlasync.config import Priority
from aimlasync.endpoints.lane import Lane, Permit


def permit_now(lane: Lane, tokens: float = 0.0) -> Permit | None:
    """Return a permit if none must be waited for, else None."""
    now = asyncio.get_running_loop().time()
    admission = lane.limiter.enter_nowait(tokens, now)
    return None if admission is None else _permit(lane, now, lane.counted.in_flight - 1, admission)


async def permit_of(lane: Lane, tokens: float | Callable[[], float] = 0.0, priority: Priority = "bulk") -> Permit:
    """Wait in the queue for a permit."""
    if not lane.standstill.is_watching:
        lane.standstill.watch()
    admission = await lane.limiter.enter(tokens, priority)
    # Time and count are the admission's: what is learned compares them with what it was told.
    return _permit(lane, admission.at, admission.beside, admission)


def _permit(lane: Lane, at: float, beside: int, admission: Admission) -> Permit:
    lane.counters.attempts += 1
    lane.used_at = at
    return Permit(lane, asyncio.get_running_loop(), at, beside, admission)
