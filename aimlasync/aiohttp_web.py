"""For aiohttp.web: one client per app, streams relayed to browsers, errors as statuses.

    app = web.Application(middlewares=[errors])
    setup(app, max_queue=200, max_wait=5.0)

    async def chat(request: web.Request) -> web.StreamResponse:
        call = client_of(request).chat.completions.create(model=..., messages=..., stream=True)
        return await event_stream(request, call)

Law: glue; what is sent is decided in `relay`. aiohttp tells a handler that its browser left only if the server was told
to (`handler_cancellation=True`); so that it holds for all, one task looks at the connections of all open relays.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from aimlasync import AimlasyncError, AsyncClient
from aimlasync.headers import Hidden
from aimlasync.relay import HEADERS, NOT_RESUMABLE, Events, Failure, Relay, Relayed, Streamed, failure

CLIENT: web.AppKey[AsyncClient] = web.AppKey("aimlasync", AsyncClient)
"""Where the app keeps its client."""

# Seconds between two looks at the connections.
_LOOK = 0.03


class _Open:
    """The relays of an app that are under way, and the task that looks after them while there are any."""

    def __init__(self) -> None:
        # Relay -> its request, the task that sends it, and the seconds that a shutdown leaves it.
        self.relays: dict[Relay, tuple[web.Request, asyncio.Task[None], float]] = {}
        self._looking: asyncio.Task[None] | None = None

    def add(self, relay: Relay, request: web.Request, sending: asyncio.Task[None], drain: float) -> None:
        self.relays[relay] = request, sending, drain
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="aimlasync relays")

    async def _look(self) -> None:
        while self.relays:
            for request, sending, _ in self.relays.values():
                if request.transport is None or request.transport.is_closing():
                    sending.cancel()
            await asyncio.sleep(_LOOK)
        self._looking = None

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)


_OPEN: web.AppKey[_Open] = web.AppKey("aimlasync relays", _Open)


def setup(app: web.Application, make: Callable[..., AsyncClient] = AsyncClient, **options: Any) -> None:
    """Give an app, and those mounted in it, a client, `make(**options)`, from its start until it ends."""
    options = Hidden(options)

    async def run(app: web.Application) -> AsyncIterator[None]:
        async with make(**options) as app[CLIENT]:
            yield
        await app[_OPEN].close()

    async def drain(app: web.Application) -> None:
        for relay, (_, _, seconds) in app[_OPEN].relays.items():
            relay.drain(seconds)

    app[_OPEN] = _Open()
    app.cleanup_ctx.append(run)
    app.on_shutdown.append(drain)


def client_of(request: web.Request) -> AsyncClient:
    """Return the client of the app that a request came to. Raises RuntimeError when it has none."""
    try:
        return request.config_dict[CLIENT]
    except KeyError:
        raise RuntimeError("this app has no client: call aimlasync.aiohttp_web.setup(app)") from None


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer requests whose call failed; the statuses are those of `relay.failure`."""
    try:
        return await handler(request)
    except AimlasyncError as error:
        return _plain(failure(error))


async def event_stream(
    request: web.Request,
    call: Streamed | Awaitable[Streamed],
    *,
    events: Events = "text",
    ping: float = 15.0,
    drain: float = 10.0,
    max_send: float | None = 30.0,
    on_end: Callable[[Relayed], None] | None = None,
) -> web.StreamResponse:
    """Relay a streamed call as server-sent events and return the response; options as in `starlette.event_stream`.

    Give it the call itself, not awaited: a browser that leaves before the first token then cancels it too.
    """
    relay = Relay(call, events=events, on_end=on_end)
    if "Last-Event-ID" in request.headers:
        await relay.close()
        return _plain(NOT_RESUMABLE)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **HEADERS})
    # Over a connection that may be used again Chromium may read on for five seconds after its page has left.
    response.force_close()
    starting = asyncio.Lock()

    async def send(data: bytes) -> None:
        async with starting:
            if not response.prepared:
                await response.prepare(request)
        async with asyncio.timeout(max_send):
            await response.write(data)

    async def send_all() -> None:
        async with aclosing(relay.messages()) as messages:
            async for message in messages:
                await send(message)

    under_way = request.config_dict[_OPEN]
    sending = asyncio.create_task(send_all(), name="aimlasync relay")
    under_way.add(relay, request, sending, drain)
    try:
        while not (await asyncio.wait([sending], timeout=ping or None))[0]:
            if relay.is_open:
                comment, relay.began = relay.comment(), True
                await send(comment)
        await sending
    except (ConnectionError, TimeoutError):
        # The browser left, or takes nothing.
        pass
    except asyncio.CancelledError:
        if not sending.cancelled():
            raise
    finally:
        del under_way.relays[relay]
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        # What sent may have been cancelled before it began.
        await relay.close()
    return response if relay.failure is None else _plain(relay.failure)


def _plain(failed: Failure) -> web.Response:
    return web.Response(body=failed.body, status=failed.status, headers=failed.headers, content_type="application/json")
