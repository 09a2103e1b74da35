"""Starlette and FastAPI: one client per app, streams relayed to browsers, errors as HTTP statuses.

    app = FastAPI(lifespan=lifespan(max_queue=200, max_wait=5.0), exception_handlers=exception_handlers)

    @app.post("/chat")
    async def chat(question: Question, client: Annotated[AsyncClient, Depends(client)]) -> Response:
        return event_stream(client.chat.completions.create(model=..., messages=..., stream=True))

`relay` decides what is sent, and sse-starlette sends it. The `EventSourceResponse` runs from the start of the request,
so that it notices a browser that leaves while the call still waits to be sent. The start of the response is held back
until the first message, so that a call that fails before it is answered with a status. This module may import `relay`
and the package's public names.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Unpack

import anyio

from aimlasync import AimlasyncError, AsyncClient
from aimlasync.headers import Hidden
from aimlasync.logs import log_of
from aimlasync.relay import HEADERS, NOT_RESUMABLE, Failure, Relay, RelayOptions, Streamed, failure

try:
    from sse_starlette import EventSourceResponse, ServerSentEvent
    from sse_starlette.sse import SendTimeoutError
    from starlette.datastructures import Headers
    from starlette.requests import HTTPConnection, Request
    from starlette.responses import Response
    from starlette.types import Message, Receive, Scope, Send
except ImportError as missing:
    raise ImportError(f"aimlasync.starlette needs {missing.name}: pip install 'aimlasync[starlette]'") from None

# Seconds that sse-starlette waits longer than the relay when a server shuts down, because it sends no last message.
_GRACE = 1.0

_log = log_of("aimlasync.relay")

Lifespan = Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any] | None]]


def lifespan(
    make: Callable[..., AsyncClient] = AsyncClient, *, inner: Lifespan | None = None, **options: Any
) -> Callable[[Any], AbstractAsyncContextManager[dict[str, Any]]]:
    """Return a lifespan that makes the app's client, `make(**options)`, and closes it when the app ends.

    `inner` is another lifespan that runs within this one; the app's state is that of both. A lifespan of your own may
    make the client instead: `client_of` looks for "aimlasync" in its state.
    """

    options = Hidden(options)

    @asynccontextmanager
    async def run(app: Any) -> AsyncIterator[dict[str, Any]]:
        async with make(**options) as made:
            if inner is None:
                yield {"aimlasync": made}
            else:
                async with inner(app) as state:
                    yield {**(state or {}), "aimlasync": made}

    return run


def client_of(connection: HTTPConnection) -> AsyncClient:
    """Return the client of the app that a request or websocket came to. Raises RuntimeError when the app has none."""
    found = getattr(connection.state, "aimlasync", None)
    if not isinstance(found, AsyncClient):
        raise RuntimeError("this app has no client: make it with lifespan=aimlasync.starlette.lifespan()")
    return found


async def client(connection: HTTPConnection) -> AsyncClient:
    """Return the app's client, for FastAPI's `Depends(client)`."""
    return client_of(connection)


async def error_response(request: Request, error: Exception) -> Response:
    """Return the response to a request whose call failed, with the status of `relay.failure`."""
    assert isinstance(error, AimlasyncError)
    return _plain(failure(error))


exception_handlers: dict[Any, Any] = {AimlasyncError: error_response}
"""For `Starlette(exception_handlers=...)` or `FastAPI(exception_handlers=...)`: errors of calls that do not stream."""


def event_stream(
    call: Streamed | Awaitable[Streamed],
    *,
    headers: Mapping[str, str] | None = None,
    **options: Unpack[RelayOptions],
) -> Response:
    """Return a response that relays a streamed call as server-sent events.

    Give it the call itself, not awaited: `event_stream(client.responses.create(..., stream=True))`. Then a browser that
    leaves cancels the call also before the first token. `agents.stream(...)`, or an awaitable of it, relays a run: its
    messages are those of `agents.web_events`. `options` (`events`, `ping`, `drain`, `max_send`, `on_end`) are
    those of `relay.RelayOptions`; `headers` are added to the response. A call that fails before its first message is
    answered with a status and JSON, as by `error_response`; an error after it is the last message.
    """
    return _EventStream(Relay(call, **options), headers)


class _EventStream(EventSourceResponse):
    def __init__(self, relay: Relay, headers: Mapping[str, str] | None) -> None:
        self._relay = relay
        self._closing = anyio.Event()
        super().__init__(
            relay.messages(),
            headers={**HEADERS, **(headers or {})},
            ping=relay.ping,
            ping_message_factory=lambda: _Comment(relay),
            send_timeout=relay.max_send,
            data_sender_callable=self._await_shutdown,
            shutdown_event=self._closing,
            shutdown_grace_period=relay.drain_seconds + _GRACE,
        )
        # On a connection that may be reused, Chromium may read on for five seconds after its page has left.
        self.headers["Connection"] = "close"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "last-event-id" in Headers(scope=scope):
            await self._relay.close()
            await _plain(NOT_RESUMABLE)(scope, receive, send)
            return
        start: Message | None = None

        async def send_late(message: Message) -> None:
            """Send a message, after the start of the response, which is held back until there is something to send.

            A comment starts the response only when the relay's stream is open.
            """
            nonlocal start
            if message["type"] == "http.response.start" and scope["method"] != "HEAD":
                start = message
                return
            if start is not None:
                is_end = not message.get("more_body", False)
                if is_end and self._relay.failure is not None:
                    await _plain(self._relay.failure)(scope, receive, send)
                    return
                if not self._relay.began and not self._relay.is_open and not is_end:
                    return
                self._relay.began = True
                begin, start = start, None
                await send(begin)
            await send(message)

        try:
            await super().__call__(scope, receive, send_late)
        except SendTimeoutError:
            _log.info("a browser has taken nothing for %s s and is taken to have left", self.send_timeout)
        finally:
            await self._relay.close()

    async def _await_shutdown(self) -> None:
        await self._closing.wait()
        self._relay.drain()


class _Comment(ServerSentEvent):
    def __init__(self, relay: Relay) -> None:
        super().__init__()
        self._relay = relay

    def encode(self) -> bytes:
        return self._relay.comment()


def _plain(failed: Failure) -> Response:
    return Response(failed.body, failed.status, failed.headers, media_type="application/json")
