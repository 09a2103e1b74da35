"""Bounds of one attempt: for the first event of a stream, and for a whole answer.

It may import `transport.base`, `errors` and `info`. The deadline of a whole call is in `deadlines`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from aimlasync.errors import APITimeoutError
from aimlasync.info import Info
from aimlasync.transport.base import RawReply

T = TypeVar("T")


async def within(first_token: float, sent: Coroutine[Any, Any, RawReply]) -> RawReply:
    """Wait for a response no longer than for the first event that is in it."""
    try:
        async with asyncio.timeout(first_token):
            return await sent
    except TimeoutError:
        pass
    raise APITimeoutError(f"no event within {first_token} s", phase="first_token")


async def bounded(seconds: float, attempt: Coroutine[Any, Any, T], info: Info) -> T:
    """Wait for a whole attempt no longer than that."""
    try:
        async with asyncio.timeout(seconds):
            return await attempt
    except TimeoutError:
        pass
    raise APITimeoutError(f"no whole answer within {seconds} s", phase="attempt", info=info)
