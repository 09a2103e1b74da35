"""Makes one attempt: sends it, and ends it whichever way it goes.

A bound of a whole call is in `deadlines`; those of one attempt are here. It may import `call`, `failures` and what lies
below `client`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aimlasync.client.call import Attempt
from aimlasync.client.failures import begins_well, status_failure
from aimlasync.deadlines import Bounded, Deadlines
from aimlasync.errors import AimlasyncError, APITimeoutError, Phase
from aimlasync.info import Info
from aimlasync.transport import Transport
from aimlasync.transport.base import RawReply

T = TypeVar("T")

Receive = Callable[[Attempt], Awaitable[T]]
"""What makes a reply, or a stream, of an attempt whose response has begun."""


def sent(attempt: Attempt, transport: Transport, *, has_key: bool = False) -> Awaitable[RawReply]:
    """Send an attempt, and return what to await for its response."""
    call, target, info = attempt.call, attempt.target, attempt.info
    upstream = target.upstream
    endpoint = upstream.endpoint
    info.endpoint, info.vendor = endpoint.name, endpoint.provider.name
    if endpoint.key_source is not None and not has_key:
        return _sent_with_key(attempt, transport)
    response = transport.send(
        call.method,
        target.url,
        upstream.headers,
        call.headers,
        target.body,
        connect=call.timeout.connect,
        fresh=call.replaced,
    )
    if call.streams and (seconds := call.timeout.first_token) is not None:
        return within(seconds, response, what="event", phase="first_token", info=info)
    return response


async def _sent_with_key(attempt: Attempt, transport: Transport) -> RawReply:
    await attempt.target.upstream.renew_key()
    return await sent(attempt, transport, has_key=True)


def ended(attempt: Attempt, error: BaseException) -> None:
    """End an attempt with what was raised in it, which is then to be raised again."""
    if isinstance(error, AimlasyncError):
        attempt.fail(error)
        return
    # Left by its caller, or a bug: it says nothing about the server.
    attempt.abandon()
    if isinstance(error, asyncio.CancelledError):
        # The body may be half read, and the inner frames hold what there is of it, which may echo a key.
        error.__traceback__, error.__suppress_context__ = None, True


async def made(attempt: Attempt, receive: Receive[T], transport: Transport) -> T:
    """Make an attempt, and return what `receive` makes of it."""
    try:
        attempt.reply = await sent(attempt, transport)
        if begins_well(attempt, attempt.loop.time()):
            return await receive(attempt)
        raise await status_failure(attempt, attempt.response)
    except BaseException as error:
        ended(attempt, error)
        raise


async def within(seconds: float, work: Awaitable[T], *, what: str, phase: Phase, info: Info) -> T:
    """Wait for `what` no longer than that. Raises APITimeoutError with `phase`."""
    loop = asyncio.get_running_loop()
    bound, deadlines = Bounded(), Deadlines(loop)
    deadlines.start(bound, loop.time() + seconds)
    try:
        return await work
    except asyncio.CancelledError:
        if not deadlines.stop(bound):
            raise
    finally:
        deadlines.stop(bound)
        deadlines.rest()
    raise APITimeoutError(f"no {what} within {seconds} s", phase=phase, info=info)
