"""Requests that another client wrote, sent through this one's pipeline, and answers handed back as the server's bytes.

It may import `pipeline`, `receive` and what lies below. What comes in and goes out is bytes. Whether an answer is
whole, what it cost and how a stream ended is judged by the same code that serves our own callers, which reads along and
changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import msgspec

from aimlasync.client import receive, receive_response
from aimlasync.client.attempts import within
from aimlasync.client.call import Attempt, Settings
from aimlasync.client.kept_answers import Recording
from aimlasync.client.pipeline import Pipeline
from aimlasync.client.plain_calls import plain_call
from aimlasync.client.request_head import address
from aimlasync.client.stream import Stream
from aimlasync.client.whole_as_events import as_events
from aimlasync.config import CallOptions, priority_of
from aimlasync.endpoints.paths import path_below, refused
from aimlasync.endpoints.providers import Api
from aimlasync.errors import AimlasyncError, APIStatusError, StreamError
from aimlasync.headers import FRAMING, Fields
from aimlasync.info import Info
from aimlasync.wire.base import Reply, encode, plain

# Paths, below an endpoint's base URL, that ask a model; Azure names the deployment before.
_PIPELINE = re.compile(r"(?P<path>(?:deployments/[^/]+/)?(?P<api>chat/completions|responses))/?\Z")
_APIS: Mapping[str, Api] = {"chat/completions": "chat", "responses": "responses"}
_HOP_BY_HOP = FRAMING | {"content-encoding", "set-cookie"}
IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "DELETE"))
"""Methods whose requests may be sent again whatever became of the first one (RFC 9110, 9.2.2)."""


def asks_model(method: str, path: str) -> re.Match[str] | None:
    """Return what a request below the base URL asks a model with (`api`, `path`), None for one that asks none."""
    return _PIPELINE.match(path) if method == "POST" else None


def end_to_end(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a response that may be sent on with its bytes (RFC 9110, 7.6.1).

    Those of the connection, of an encoding that is undone here, and cookies of the server's host are left out.
    """
    return {name: value for name, value in headers.items() if name.lower() not in _HOP_BY_HOP}


class Forwarded:
    """An answer as the server sent it: iterate it for its bytes as they arrive, then or earlier `close()` it.

    The iteration raises what a `Stream`'s does: TruncatedStreamError, StreamError, APITimeoutError, and
    APIResponseValidationError, each after all the bytes that had arrived.
    """

    def __init__(self, status: int, headers: Mapping[str, str], info: Info) -> None:
        self.status = status
        self.headers = headers
        self.info = info
        self.answer: Any = None
        """The reply, or the stream, that the bytes are; None for a path that asks no model."""
        self.body: bytes | None = None
        """The whole answer, where it is here already; None for one that is still to be read."""

    @property
    def end_to_end_headers(self) -> dict[str, str]:
        """The headers that may be sent on with the bytes: see `end_to_end`."""
        return end_to_end(self.headers)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await self._next():
            yield piece
            # The traceback of an error that follows shows no part of the answer.
            piece = b""

    async def _next(self) -> bytes:
        """Return what comes next, b"" at the end."""
        raise NotImplementedError

    async def close(self) -> None:
        """Give back the connection and the permit at once; harmless after the end, and more than once."""


class _Whole(Forwarded):
    """An answer that is here to its last byte."""

    def __init__(self, info: Info, body: bytes, content_type: str | None = None) -> None:
        headers = info.headers if content_type is None else _typed(info.headers, content_type)
        super().__init__(info.status or 200, headers, info)
        self.body = self._rest = body

    async def _next(self) -> bytes:
        body, self._rest = self._rest, b""
        return body


class _Streamed(Forwarded):
    """A stream, watched by the `Stream` that reads it."""

    def __init__(self, stream: Stream[Any, Any], seen: _Seen) -> None:
        super().__init__(seen.status, _typed(seen.headers, "text/event-stream"), stream.info)
        self._stream = stream
        self._seen = seen

    async def _next(self) -> bytes:
        while not (piece := self._seen.take()):
            if not await self._stream.read_on():
                break
        if isinstance(self._stream._failure, StreamError):
            # The event that says so is in it, and may echo a key.
            return self._stream._attempt.secrets.cut_from(piece)
        return piece

    async def close(self) -> None:
        await self._stream.close()


class _Lines(Forwarded):
    """A stream of a JSON value a line, as the events that its reader asked for."""

    def __init__(self, stream: Stream[Any, Any], status: int, headers: Mapping[str, str]) -> None:
        super().__init__(status, _typed(headers, "text/event-stream"), stream.info)
        self._stream = stream
        self._is_over = False

    async def _next(self) -> bytes:
        pieces = [] if self._is_over else await self._stream.read_some()
        if pieces or self._is_over:
            return b"".join([b"data: %b\n\n" % piece.raw for piece in pieces])
        self._is_over = True
        return b"data: [DONE]\n\n"

    async def close(self) -> None:
        await self._stream.close()


def _typed(headers: Mapping[str, str], content_type: str) -> Mapping[str, str]:
    """Return the headers with that content type; themselves where they have it."""
    if headers.get("content-type", "").partition(";")[0].strip().lower() == content_type:
        return headers
    others = {name: value for name, value in headers.items() if name.lower() != "content-type"}
    return Fields.of({**others, "Content-Type": content_type})


class _Direct(Forwarded):
    """An answer that nobody reads along with, and its attempt, which ends with it.

    `idle` bounds the wait for its next bytes, in seconds.
    """

    def __init__(self, attempt: Attempt, idle: float | None) -> None:
        super().__init__(attempt.response.status, attempt.response.headers, attempt.info)
        self._attempt = attempt
        self._idle = idle
        # Whether a task waits for the next bytes.
        self._is_read = False

    async def _next(self) -> bytes:
        if self._is_read:
            raise RuntimeError("another task is reading this answer: let one read it, and hand on what it reads")
        self._is_read = True
        error: AimlasyncError
        try:
            reading: Awaitable[bytes] = self._attempt.response.read_some()
            if self._idle is not None:
                reading = within(self._idle, reading, what="further byte", phase="idle", info=self.info)
            piece = await reading
        except AimlasyncError as failed:
            error = failed
        except BaseException as left:  # noqa: BLE001  # raised again
            self._attempt.abandon()
            # The inner frames hold what there is of the body.
            raise left.with_traceback(None) from None
        else:
            if not piece:
                self._attempt.succeed(None)
            return piece
        finally:
            self._is_read = False
        self._attempt.fail(error)
        raise error.with_traceback(None)

    async def close(self) -> None:
        self._attempt.abandon()

    def __del__(self) -> None:
        # A reader that leaves without closing must not keep the permit for ever.
        if self._attempt.is_held and not self._attempt.loop.is_closed():
            self._attempt.loop.call_soon_threadsafe(self._attempt.abandon)


class _Seen(Recording):
    """A response that keeps what is read of it until it is taken."""

    def take(self) -> bytes:
        """Return the oldest piece that was not taken, b"" when there is none."""
        return self.pieces.pop(0) if self.pieces else b""


async def forward(
    pipeline: Pipeline,
    settings: Settings,
    method: str,
    path: str,
    body: bytes | None,
    query: str,
    options: CallOptions,
) -> Forwarded:
    """What `AsyncClient.forward` does."""
    path = path_below(path)
    if query:
        options = {**options, "extra_query": query}
    found = asks_model(method, path)
    if found is None:
        return await _direct(pipeline, settings, method, path, body, options)
    return await _through(pipeline, settings, found, body or b"", options)


async def _through(
    pipeline: Pipeline, settings: Settings, found: re.Match[str], body: bytes, options: CallOptions
) -> Forwarded:
    api = _APIS[found["api"]]
    try:
        request = plain(body)
    except msgspec.DecodeError:
        request = None
    if not isinstance(request, dict):
        raise refused("the body is no JSON object")
    receive_as = _RECEIVE[api, bool(request.get("stream"))]
    below = None if found["path"] in _APIS else found["path"]
    return await forwarded(pipeline, api, request, receive_as, options, settings, written=body, path=below)


async def forwarded(
    pipeline: Pipeline,
    api: Api,
    request: Mapping[str, Any],
    receive_as: Callable[[Attempt], Awaitable[Any]],
    options: CallOptions,
    settings: Settings,
    *,
    written: bytes | None = None,
    path: str | None = None,
) -> Forwarded:
    """Call as `Pipeline.call` does, and return the server's bytes of the answer."""
    seen: _Seen | None = None

    async def watched(attempt: Attempt) -> Any:
        nonlocal seen
        attempt.reply = seen = _Seen(attempt)
        return await receive_as(attempt)

    answer = await pipeline.call(api, request, watched, options, settings, written=written, path=path)
    body = _body_of(api, answer, seen)
    body.answer = answer
    return body


def _body_of(api: Api, answer: Any, seen: _Seen | None) -> Forwarded:
    if isinstance(answer, Reply):
        # Without bytes of its own it is the sum of a stream that was not asked for.
        return _Whole(answer.info, answer.raw or encode(answer.to_dict()), "application/json")
    assert seen is not None
    if answer.whole_body:
        # Whoever asked for a stream reads nothing else, and would take a whole answer for an empty one.
        return _Whole(answer.info, as_events(api, plain(answer.whole_body)), "text/event-stream")
    if answer.is_lines:
        return _Lines(answer, seen.status, seen.headers)
    return _Streamed(answer, seen)


async def _direct(
    pipeline: Pipeline, settings: Settings, method: str, path: str, body: bytes | None, options: CallOptions
) -> Forwarded:
    """Ask the first endpoint something that is no model's answer; what it refuses for good is an answer too."""
    loop, transport = pipeline.enter()
    upstream = pipeline.balancer.upstreams[0]
    call = plain_call(
        pipeline, method, upstream, upstream.endpoint.url(path), body, settings, options.get("extra_headers")
    )
    timeout = options.get("timeout")
    if timeout is not None:
        call.timeout = settings.timeout.but(timeout)
    address(call.targets, None, settings, options.get("extra_query"))
    call.only_refused = method not in IDEMPOTENT
    call.priority, call.tenant = priority_of(options.get("priority")), options.get("tenant")

    async def opened(attempt: Attempt) -> _Direct:
        return _Direct(attempt, call.timeout.idle)

    try:
        return await pipeline.run(call, opened, loop, transport)
    except APIStatusError as error:
        return _Whole(call.info, error.raw)


_RECEIVE: Mapping[tuple[Api, bool], Callable[[Attempt], Awaitable[Any]]] = {
    ("chat", False): receive.completion,
    ("chat", True): receive.chat_stream,
    ("responses", False): receive_response.response,
    ("responses", True): receive_response.response_stream,
}
