"""aiohttp.web: one client per app, streams relayed to browsers, errors as HTTP statuses.

    app = web.Application(middlewares=[errors])
    setup(app, max_queue=200, max_wait=5.0)

    async def chat(request: web.Request) -> web.StreamResponse:
        call = client_of(request).chat.completions.create(model=..., messages=..., stream=True)
        return await event_stream(request, call)

`relay` decides what is sent. aiohttp cancels the handler of a browser that left only on servers that were started with
`handler_cancellation=True`; so that every server ends such calls, one task polls the connections of all open relays.
This module may import `relay` and the package's public names.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Unpack

from aiohttp import web
from aiohttp.typedefs import Handler

from aimlasync import AimlasyncError, AsyncClient
from aimlasync.headers import Hidden
from aimlasync.relay import HEADERS, NOT_RESUMABLE, Failure, Relay, RelayOptions, Streamed, failure

CLIENT: web.AppKey[AsyncClient] = web.AppKey("aimlasync", AsyncClient)
"""The key under which the app keeps its client."""

# Seconds between two polls of the connections.
_POLL_INTERVAL = 0.03


class _OpenRelays:
    """The open relays of an app, and the task that polls their connections as long as there are any."""

    def __init__(self) -> None:
        # Relay -> its request, and the task that sends its messages.
        self.relays: dict[Relay, tuple[web.Request, asyncio.Task[None]]] = {}
        self._polling: asyncio.Task[None] | None = None

    def add(self, relay: Relay, request: web.Request, sending: asyncio.Task[None]) -> None:
        self.relays[relay] = request, sending
        if self._polling is None:
            self._polling = asyncio.create_task(self._poll(), name="aimlasync relays")

    async def _poll(self) -> None:
        while self.relays:
            for request, sending in self.relays.values():
                if request.transport is None or request.transport.is_closing():
                    sending.cancel()
            await asyncio.sleep(_POLL_INTERVAL)
        self._polling = None

    async def close(self) -> None:
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.gather(self._polling, return_exceptions=True)


_OPEN_RELAYS: web.AppKey[_OpenRelays] = web.AppKey("aimlasync relays", _OpenRelays)


def setup(app: web.Application, make: Callable[..., AsyncClient] = AsyncClient, **options: Any) -> None:
    """Give an app, and the apps mounted in it, a client, `make(**options)`, which lives as long as the app runs."""
    options = Hidden(options)

    async def run(app: web.Application) -> AsyncIterator[None]:
        async with make(**options) as app[CLIENT]:
            yield
        await app[_OPEN_RELAYS].close()

    async def drain(app: web.Application) -> None:
        for relay in app[_OPEN_RELAYS].relays:
            relay.drain()

    app[_OPEN_RELAYS] = _OpenRelays()
    app.cleanup_ctx.append(run)
    app.on_shutdown.append(drain)


def client_of(request: web.Request) -> AsyncClient:
    """Return the client of the app that a request came to. Raises RuntimeError when the app has none."""
    try:
        return request.config_dict[CLIENT]
    except KeyError:
        raise RuntimeError("this app has no client: call aimlasync.aiohttp_web.setup(app)") from None


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer a request whose call failed with the status of `relay.failure`."""
    try:
        return await handler(request)
    except AimlasyncError as error:
        return _plain(failure(error))


async def event_stream(
    request: web.Request,
    call: Streamed | Awaitable[Streamed],
    **options: Unpack[RelayOptions],
) -> web.StreamResponse:
    """Relay a streamed call as server-sent events and return the response.

    Give it the call itself, not awaited: then a browser that leaves cancels the call also before the first token.
    `agents.stream(...)`, or an awaitable of it, relays a run: its messages are those of `agents.web_events`.
    `options` (`events`, `ping`, `drain`, `max_send`, `on_end`) are those of `relay.RelayOptions`. A call that fails
    before its first message is answered with a status and JSON; an error after it is the last message.
    """
    relay = Relay(call, **options)
    if "Last-Event-ID" in request.headers:
        await relay.close()
        return _plain(NOT_RESUMABLE)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **HEADERS})
    # On a connection that may be reused, Chromium may read on for five seconds after its page has left.
    response.force_close()
    starting = asyncio.Lock()

    async def send(data: bytes) -> None:
        async with starting:
            if not response.prepared:
                await response.prepare(request)
        async with asyncio.timeout(relay.max_send):
            await response.write(data)

    async def send_all() -> None:
        async with aclosing(relay.messages()) as messages:
            async for message in messages:
                await send(message)

    open_relays = request.config_dict[_OPEN_RELAYS]
    sending = asyncio.create_task(send_all(), name="aimlasync relay")
    open_relays.add(relay, request, sending)
    try:
        while not (await asyncio.wait([sending], timeout=relay.ping or None))[0]:
            if relay.is_open:
                comment, relay.began = relay.comment(), True
                await send(comment)
        await sending
    except (ConnectionError, TimeoutError):
        # The browser left, or reads nothing.
        pass
    except asyncio.CancelledError:
        if not sending.cancelled():
            raise
    finally:
        del open_relays.relays[relay]
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        # The sending task may have been cancelled before it began, and then has not closed the relay.
        await relay.close()
    return response if relay.failure is None else _plain(relay.failure)


def _plain(failed: Failure) -> web.Response:
    return web.Response(body=failed.body, status=failed.status, headers=failed.headers, content_type="application/json")
