"""What every web framework needs to hand answers on to browsers: streams as server-sent events, errors as statuses.

Law: no framework and none of the client's insides: bytes and plain values.
The format is that of WHATWG HTML, "Server-sent events". A browser's EventSource asks again by itself whenever a stream
ends, and each time it would be a new call, to be paid. So the first message carries an id, which the browser sends back
as `Last-Event-ID`; who does is refused with 409, for there is nothing to resume: an EventSource gives up for good on
any status but 200, and other clients see an error and not, as a 204 would be to them, an empty success.
A browser is told what it can act on: when to come back, or what is wrong with its request, in the vendor's words.
Hosts, accounts and a vendor's other words are for the log `aimlasync.relay`.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, Literal, TypeVar

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
"""What of a stream is handed on: see `Relay`."""

KEEP_ALIVE = b": keep-alive\n"
"""A comment, which no browser shows to a page. No blank line follows: to some clients that would be an empty event."""

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""What an event stream is sent with: no cache keeps it, and nginx passes each message on as it comes."""

# A stated wait below this is no use to a browser.
_SHORTEST_WAIT = 1.0

_log = logging.getLogger("aimlasync.relay")


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """An error as an HTTP response: JSON in the shape of OpenAI's errors."""

    status: int
    headers: dict[str, str]
    body: bytes


class Relayed(msgspec.Struct, frozen=True, kw_only=True):
    """How a relay ended: what `on_end` is called with."""

    outcome: Literal["finished", "failed", "left", "drained"]
    """Whole; an error; the browser went away; cut because the server shuts down."""
    info: Info | None
    """Facts about the call; None when it ended without an answer or an error of its own."""
    usage: Usage | ResponseUsage | None
    """Tokens of a whole answer; None where nobody knows, which is so for one that was left."""
    error: AimlasyncError | None


def message(data: bytes, *, event: str | None = None, id: str | None = None) -> bytes:
    """Return one server-sent event; `data` is JSON, in which a line break is as good as a space."""
    head = b""
    if id is not None:
        head = b"id: %b\n" % id.encode()
    if event is not None:
        head += b"event: %b\n" % event.encode()
    if b"\n" in data or b"\r" in data:
        data = data.replace(b"\r", b" ").replace(b"\n", b" ")
    return b"%bdata: %b\n\n" % (head, data)


def failure(error: AimlasyncError) -> Failure:
    """Return what a browser is told of an error; the whole of it is logged.

    OverloadedError 503 and RateLimitError 429, with Retry-After; a deadline 504; 400, 413 and 422 as they are and an
    unknown model 400, with the vendor's words; all else 502 (503 where the vendor said 503), keys and credit included.
    """
    status, code, text = _told(error)
    needs_operator = isinstance(error, (*_ACCESS, BudgetExceededError))
    _log.log(logging.WARNING if needs_operator else logging.INFO, "%s -> %d: %s", error.request_id, status, error)
    wait = getattr(error, "retry_after", None)
    if isinstance(error, OverloadedError):
        wait = max(wait or 0.0, _SHORTEST_WAIT)
    return _failure(
        status,
        code,
        text,
        param=getattr(error, "param", None) if status < 500 else None,
        request_id=error.info.request_id or None if error.info is not None else None,
        retry_after=math.ceil(wait) if wait is not None and status in (429, 503) else None,
    )


# Our own standing with the vendor. It is no business of a browser, which would take a 401 or 403 for its own.
_ACCESS = (AuthenticationError, PermissionDeniedError, InsufficientCreditError)


def _told(error: AimlasyncError) -> tuple[int, str, str]:
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
    """One stream on its way to one browser.

    `call` is a stream, or what is awaited for one. `events` says what is handed on:

    * "text": `{"text": ...}` for the text of each read, then, named `done`, `{"truncated", "refusal", "usage"}`;
    * "raw": each event as the vendor sent it, its stated cost included; `[DONE]` after a chat;
    * a function: what it makes of each typed event, as JSON, None left out; then `done` as above.

    An error is the last message, named `error`, with a body as in `Failure`; before the first message it is `failure`.
    """

    def __init__(
        self,
        call: Streamed | Awaitable[Streamed],
        *,
        events: Events = "text",
        on_end: Callable[[Relayed], None] | None = None,
    ) -> None:
        if events not in ("text", "raw") and not callable(events):
            raise ValueError(f'events= is "text", "raw" or a function, not {events!r}')
        self._call = call
        self._events = events
        self._on_end = on_end
        self.failure: Failure | None = None
        """Set when the call failed before the response began: to be sent in its place."""
        self.began = False
        """Whether the response has begun: with the first message, or with a comment that was sent before it."""
        self._stream: Streamed | None = call if isinstance(call, ChatStream | ResponseStream) else None
        self._outcome: Literal["finished", "failed", "left", "drained"] = "left"
        self._error: AimlasyncError | None = None
        self._usage: Usage | ResponseUsage | None = None
        # Sent once, since browsers remember it.
        self._id: str | None = None
        # The read under way, and the loop time at which a server that shuts down waits for it no longer.
        self._bound: asyncio.Timeout | None = None
        self._until: float | None = None
        self._ended = False

    @property
    def is_open(self) -> bool:
        """Whether the stream's first event is here: from now on comments may be sent."""
        return self._stream is not None

    async def messages(self) -> AsyncGenerator[bytes, None]:
        """Iterate the messages, those together that came together, to be sent as they are.

        Closing it, or cancelling it, cancels the call.
        """
        try:
            stream = await self._open()
            self._id, self._stream = stream.info.request_id, stream
            read: Callable[[], Awaitable[Sequence[Any]]] = stream.read_some
            while pieces := await self._bounded(read()):
                if data := self._encode(stream, pieces):
                    self.began = True
                    yield data
            # Read to its end already: this takes it together.
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
            # Ours, and no call's: those are AimlasyncErrors.
            self._outcome, failed = "drained", _SHUTTING_DOWN
        finally:
            await self.close()
        if self.began:
            yield self._message(failed.body, "error")
        else:
            self.failure = failed

    def comment(self) -> bytes:
        """Return what keeps the connection open meanwhile; none is to be sent before `is_open`."""
        if self.began or not self.is_open or self._events == "raw":
            return KEEP_ALIVE
        # It begins the response, and so it brings the id: a browser takes it from an event without data too. Clients of
        # the vendor's own events, who may not, do not ask again by themselves.
        id, self._id = self._id, None
        return b"id: %b\n\n%b" % ((id or "").encode(), KEEP_ALIVE)

    def drain(self, seconds: float) -> None:
        """The server shuts down: what is not there in so many seconds is cut, with a last message that says so."""
        self._until = asyncio.get_running_loop().time() + seconds
        if self._bound is not None:
            self._bound.reschedule(self._until)

    async def close(self) -> None:
        """End the call if it has not ended; harmless more than once, and without `messages` having been iterated."""
        if self._ended:
            return
        self._ended = True
        stream = self._stream
        if stream is not None:
            await stream.close()
        elif inspect.iscoroutine(self._call):
            # Never awaited, if nobody iterated; else it has ended, and this does nothing.
            self._call.close()
        if self._on_end is not None:
            info = stream.info if stream is not None else self._error.info if self._error is not None else None
            self._on_end(Relayed(outcome=self._outcome, info=info, usage=self._usage, error=self._error))

    async def _open(self) -> Streamed:
        """Wait for the stream, and with it for its first event."""
        if self._stream is not None:
            return self._stream
        stream: Any = self._call
        if inspect.isawaitable(stream):
            stream = await self._bounded(stream)
        if not isinstance(stream, ChatStream | ResponseStream):
            raise TypeError(f"a stream is relayed, not a {type(stream).__name__}: create(..., stream=True)")
        return stream

    async def _bounded(self, wanted: Awaitable[T]) -> T:
        """Wait for it, until a shutdown says how long."""
        async with asyncio.timeout_at(self._until) as self._bound:
            try:
                return await wanted
            finally:
                self._bound = None

    def _encode(self, stream: Streamed, pieces: Sequence[Any]) -> bytes:
        """Return what is handed on of pieces that came together."""
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
    """What the vendor sent; but a whole answer, from a server that does not stream, as the one chunk that it became."""
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
