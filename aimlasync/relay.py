"""Relays model streams to browsers as server-sent events, and errors as HTTP statuses, for any web framework.

It deals in bytes and plain values: it imports no framework and, of the package, only streams, structs and errors.
Implements the format of WHATWG HTML, "Server-sent events".

A browser's EventSource reconnects whenever a stream ends, and each time that would be a new call with new costs. So the
first message carries an id, which the browser sends back as `Last-Event-ID`, and a request with that header is refused
with 409, because there is nothing to resume. An EventSource never reconnects after a status other than 200, and other
clients see an error; a 204 would look to them like an empty success.

An error response says what a browser can act on: when to try again, or what is wrong with the request, in the vendor's
words. Hosts, accounts and other words of the vendor go to the log `aimlasync.relay` only.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, Literal, TypedDict, TypeVar

import msgspec

from aimlasync.chat.chunks import ChatCompletionChunk
from aimlasync.chat.types import ChatCompletion, Usage
from aimlasync.client.chat_stream import ChatStream
from aimlasync.client.response_stream import ResponseStream
from aimlasync.errors import (
    AimlasyncError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BudgetExceededError,
    InsufficientCreditError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    RateLimitError,
)
from aimlasync.info import Info
from aimlasync.responses.types import Response, ResponseUsage
from aimlasync.wire.base import Wire, encode

Streamed = ChatStream | ResponseStream
T = TypeVar("T")

Events = Literal["text", "raw"] | Callable[[Any], Any]
"""Which events of a stream are relayed, see `RelayOptions`."""

KEEP_ALIVE = b": keep-alive\n"
"""A comment, which a page never sees. No blank line follows it, because some clients take that for an empty event."""

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""The headers of an event stream: no cache stores it, and nginx does not buffer it."""

# Seconds; the shortest Retry-After of a response, whose unit is whole seconds.
_MIN_RETRY_AFTER = 1.0

_log = logging.getLogger("aimlasync.relay")


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """An error as an HTTP response: JSON in the shape of OpenAI's errors."""

    status: int
    headers: dict[str, str]
    body: bytes


class Relayed(msgspec.Struct, frozen=True, kw_only=True):
    """How a relay ended; `on_end` gets it."""

    outcome: Literal["finished", "failed", "left", "drained"]
    """The answer is complete; there was an error; the browser left; the server shut down before the end."""
    info: Info | None
    """The call's info; None when it ended without an answer or an error of its own."""
    usage: Usage | ResponseUsage | None
    """The tokens of a complete answer; None where they are unknown, as for an answer that was left."""
    error: AimlasyncError | None


class RelayOptions(TypedDict, total=False):
    """Options of `Relay`, and so of `event_stream` in `aimlasync.starlette` and `aimlasync.aiohttp_web`."""

    events: Events
    """Which events are sent; "text" by default.

    * "text": `{"text": ...}` with the text of each read, then `{"truncated", "refusal", "usage"}`, named `done`;
    * "raw": each event as the vendor sent it, its stated cost included; after a chat also `[DONE]`;
    * a function: its value for each typed event as JSON, None is left out; then `done` as above.
    """
    ping: float
    """Seconds between comments that keep the connection open, once the stream has its first event; 15 by default."""
    drain: float
    """Seconds that a stream has left when the server shuts down; 10 by default."""
    max_send: float | None
    """Seconds after which a browser that reads nothing counts as gone; 30 by default, None for no bound."""
    on_end: Callable[[Relayed], None] | None
    """Called once with how the relay ended."""


def message(data: bytes, *, event: str | None = None, id: str | None = None) -> bytes:
    """Return one server-sent event; `data` is JSON, in which each line break is replaced by a space."""
    head = b""
    if id is not None:
        head = b"id: %b\n" % id.encode()
    if event is not None:
        head += b"event: %b\n" % event.encode()
    if b"\n" in data or b"\r" in data:
        data = data.replace(b"\r", b" ").replace(b"\n", b" ")
    return b"%bdata: %b\n\n" % (head, data)


def failure(error: AimlasyncError) -> Failure:
    """Return the response to a browser for an error, and log the error.

    OverloadedError is a 503 and RateLimitError a 429, both with Retry-After. BudgetExceededError is a 503 and
    APITimeoutError a 504. The vendor's 400, 413 and 422 stay, and an unknown model is a 400, all with the vendor's
    words. Everything else, errors of key and credit included, is a 502, or a 503 where the vendor said 503.
    """
    status, code, text = _status_code_text(error)
    needs_operator = isinstance(error, (*_ACCESS, BudgetExceededError))
    _log.log(logging.WARNING if needs_operator else logging.INFO, "%s -> %d: %s", error.request_id, status, error)
    wait = getattr(error, "retry_after", None)
    if isinstance(error, OverloadedError):
        wait = max(wait or 0.0, _MIN_RETRY_AFTER)
    return _failure(
        status,
        code,
        text,
        param=getattr(error, "param", None) if status < 500 else None,
        request_id=error.info.request_id or None if error.info is not None else None,
        retry_after=math.ceil(wait) if wait is not None and status in (429, 503) else None,
    )


# Errors of the service's own account with the vendor. A browser would take a 401 or 403 for its own.
_ACCESS = (AuthenticationError, PermissionDeniedError, InsufficientCreditError)


def _status_code_text(error: AimlasyncError) -> tuple[int, str, str]:
    match error:
        case OverloadedError():
            return 503, "overloaded", "too many requests at once; try again later"
        case BudgetExceededError():
            return 503, "budget_exceeded", "the service has spent what it may"
        case RateLimitError():
            return 429, "rate_limited", "the model's rate limit is reached; try again later"
        case APITimeoutError():
            return 504, "timeout", "the model did not answer in time"
        case NotFoundError():
            return 400, error.code or "not_found", error.message
        case APIStatusError(status=400 | 413 | 422):
            return error.status, error.code or "bad_request", error.message
        case APIStatusError(status=503):
            return 503, "unavailable", "the model is not available; try again later"
    if isinstance(error, _ACCESS):
        return 502, "no_access", "the service has no access to the model"
    return 502, "no_answer", "the model gave no usable answer"


def _failure(status: int, code: str, text: str, *, retry_after: int | None = None, **more: str | None) -> Failure:
    kind = "server_error" if status >= 500 else "invalid_request_error" if status != 429 else "rate_limit_error"
    body = {"error": {"message": text, "type": kind, "code": code, **more}}
    return Failure(
        status=status,
        headers={} if retry_after is None else {"Retry-After": str(retry_after)},
        body=encode(body),
    )


NOT_RESUMABLE = _failure(409, "not_resumable", "a stream that was cut cannot be resumed; ask again")
"""The answer to a request with `Last-Event-ID`."""

_SHUTTING_DOWN = _failure(503, "shutting_down", "the server shuts down; try again", retry_after=1)


class Relay:
    """The relay of one stream to one browser.

    `call` is a stream, or an awaitable of one; `RelayOptions` explains the options. An error after the first message is
    the last message, named `error`, with a body as in `Failure`; an error before it is `failure`.
    Raises ValueError for `events` that is none of its kinds.
    """

    def __init__(
        self,
        call: Streamed | Awaitable[Streamed],
        *,
        events: Events = "text",
        ping: float = 15.0,
        drain: float = 10.0,
        max_send: float | None = 30.0,
        on_end: Callable[[Relayed], None] | None = None,
    ) -> None:
        if events not in ("text", "raw") and not callable(events):
            raise ValueError(f'events= is "text", "raw" or a function, not {events!r}')
        self._call = call
        self._events = events
        self._on_end = on_end
        self.ping = ping
        self.drain_seconds = drain
        self.max_send = max_send
        self.failure: Failure | None = None
        """The response to send when the call failed before the event stream began."""
        self.began = False
        """Whether the event stream has begun, with the first message or with a comment before it."""
        self._stream: Streamed | None = call if isinstance(call, ChatStream | ResponseStream) else None
        self._outcome: Literal["finished", "failed", "left", "drained"] = "left"
        self._error: AimlasyncError | None = None
        self._usage: Usage | ResponseUsage | None = None
        # The id for the next message; sent once, because a browser remembers it.
        self._id: str | None = None
        # The timeout of the read in progress, and the loop time of the shutdown, to which it is set.
        self._timeout: asyncio.Timeout | None = None
        self._shutdown_at: float | None = None
        self._ended = False

    @property
    def is_open(self) -> bool:
        """Whether the stream has its first event, after which comments may be sent."""
        return self._stream is not None

    async def messages(self) -> AsyncGenerator[bytes, None]:
        """Iterate the messages as bytes to send; events that arrived in one read are in one piece.

        Closing or cancelling the iteration cancels the call.
        """
        try:
            stream = await self._open()
            self._id, self._stream = stream.info.request_id, stream
            read: Callable[[], Awaitable[Sequence[Any]]] = stream.read_some
            while pieces := await self._until_shutdown(read()):
                if data := self._encode(stream, pieces):
                    self.began = True
                    yield data
                # The traceback of an error that follows shows no part of the answer.
                pieces, data = (), b""
            # The stream is read to its end, so this only assembles the answer.
            whole = await stream.collect()
            self._usage, self._outcome = whole.usage, "finished"
            self.began = True
            if self._events != "raw":
                yield self._message(_summary(whole), "done")
            elif isinstance(whole, ChatCompletion):
                yield self._message(b"[DONE]")
            return
        except AimlasyncError as error:
            self._error, self._outcome = error, "failed"
            failed = failure(error)
        except TimeoutError:
            # The timeout of the shutdown; a call's timeouts are AimlasyncErrors.
            self._outcome, failed = "drained", _SHUTTING_DOWN
        finally:
            await self.close()
        if self.began:
            yield self._message(failed.body, "error")
        else:
            self.failure = failed

    def comment(self) -> bytes:
        """Return the next comment, which keeps the connection open; it may be sent once `is_open`."""
        if self.began or not self.is_open or self._events == "raw":
            return KEEP_ALIVE
        # This comment begins the event stream, so it carries the id: a browser takes the id of an event without data
        # as well. Clients of raw events may not, but they do not reconnect by themselves.
        id, self._id = self._id, None
        return b"id: %b\n\n%b" % ((id or "").encode(), KEEP_ALIVE)

    def drain(self, seconds: float | None = None) -> None:
        """Give the stream `seconds` until it is cut with a last message that says so; None is the option `drain`."""
        self._shutdown_at = asyncio.get_running_loop().time() + (self.drain_seconds if seconds is None else seconds)
        if self._timeout is not None:
            self._timeout.reschedule(self._shutdown_at)

    async def close(self) -> None:
        """End the call if it has not ended. It may be called more than once, and without `messages` being iterated."""
        if self._ended:
            return
        self._ended = True
        stream = self._stream
        if stream is not None:
            await stream.close()
        elif inspect.iscoroutine(self._call):
            # A coroutine that was never awaited, when nobody iterated; otherwise it has ended and this does nothing.
            self._call.close()
        if self._on_end is not None:
            info = stream.info if stream is not None else self._error.info if self._error is not None else None
            self._on_end(Relayed(outcome=self._outcome, info=info, usage=self._usage, error=self._error))

    async def _open(self) -> Streamed:
        """Wait for the stream, which has its first event then."""
        if self._stream is not None:
            return self._stream
        stream: Any = self._call
        if inspect.isawaitable(stream):
            stream = await self._until_shutdown(stream)
        if not isinstance(stream, ChatStream | ResponseStream):
            raise TypeError(f"a stream is relayed, not a {type(stream).__name__}: create(..., stream=True)")
        return stream

    async def _until_shutdown(self, wanted: Awaitable[T]) -> T:
        """Await `wanted`. Raises TimeoutError when a shutdown ends the wait."""
        async with asyncio.timeout_at(self._shutdown_at) as self._timeout:
            try:
                return await wanted
            finally:
                self._timeout = None

    def _encode(self, stream: Streamed, pieces: Sequence[Any]) -> bytes:
        """Return the messages for the events of one read."""
        if self._events == "text":
            text_of: Callable[[Any], str | None] = stream.text_of
            text = "".join(filter(None, map(text_of, pieces)))
            return self._message(encode({"text": text})) if text else b""
        if self._events == "raw":
            return b"".join([self._message(_raw(piece), getattr(piece, "type", None)) for piece in pieces])
        assert callable(self._events)
        values = [value for value in map(self._events, pieces) if value is not None]
        return b"".join([self._message(encode(value)) for value in values])

    def _message(self, data: bytes, event: str | None = None) -> bytes:
        id, self._id = self._id, None
        return message(data, event=event or None, id=id)


def _raw(piece: Any) -> bytes:
    """Return an event as the vendor sent it; an answer of a server that does not stream becomes one chunk."""
    if isinstance(piece, ChatCompletionChunk) and piece.object != "chat.completion.chunk":
        return encode({**Wire.to_dict(piece), "object": "chat.completion.chunk"})
    return piece.raw or encode(piece.to_dict())


def _summary(whole: ChatCompletion | Response) -> bytes:
    if isinstance(whole, ChatCompletion):
        refusal = whole.choices[0].message.refusal if whole.choices else None
    else:
        refusal = whole.refusal
    usage = None if whole.usage is None else whole.usage.to_dict()
    return encode({"truncated": whole.truncated, "refusal": refusal, "usage": usage})
