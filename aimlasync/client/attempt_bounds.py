"""Bounds of one attempt: for the first event of a stream, and for a whole answer.

It may import `errors` and `info`. The deadline of a whole call is in `deadlines`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from aimlasync.errors import APITimeoutError, Phase
from aimlasync.info import Info

T = TypeVar("T")


async def within(seconds: float, work: Awaitable[T], *, what: str, phase: Phase, info: Info) -> T:
    """Wait for `what` no longer than that. Raises APITimeoutError with `phase`."""
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        pass
    raise APITimeoutError(f"no {what} within {seconds} s", phase=phase, info=info)
