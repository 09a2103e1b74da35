"""Requests that another client wrote, sent through this one's pipeline, and answers handed back as the server's bytes.

It may import `pipeline`, `receive` and what lies below. What comes in and goes out is bytes. Whether an answer is
whole, what it cost and how a stream ended is judged by the same code that serves our own callers, which reads along and
changes nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import msgspec

from aimlasync.client import receive
from aimlasync.client.call import Attempt, Settings
from aimlasync.client.pipeline import Pipeline
from aimlasync.client.stream import Stream
from aimlasync.config import CallOptions
from aimlasync.endpoints.paths import path_below, query_of, refused
from aimlasync.endpoints.providers import Api
from aimlasync.errors import AimlasyncError, APITimeoutError, StreamError
from aimlasync.info import Info
from aimlasync.transport.base import MAX_BODY, MAX_ERROR_BODY, RawReply, beginning
from aimlasync.wire.base import Reply, encode, plain

# Paths, below an endpoint's base URL, that the pipeline serves.
_PIPELINE: Mapping[str, Api] = {"chat/completions": "chat", "responses": "responses"}


class Forwarded:
    """An answer as the server sent it: iterate it for its bytes as they arrive, then or earlier `close()` it.

    The iteration raises what a `Stream`'s does: TruncatedStreamError, StreamError, APITimeoutError, and
    APIResponseValidationError, each after all the bytes that had arrived.
    """

    def __init__(self, status: int, headers: Mapping[str, str], info: Info) -> None:
        self.status = status
        self.headers = headers
        self.info = info

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await self._next():
            yield piece

    async def _next(self) -> bytes:
        """Return what comes next, b"" at the end."""
        raise NotImplementedError

    async def close(self) -> None:
        """Give back the connection and the permit at once; harmless after the end, and more than once."""


class _Whole(Forwarded):
    """An answer that is here to its last byte."""

    def __init__(self, info: Info, body: bytes, content_type: str | None = None) -> None:
        headers = info.headers
        if content_type is not None:
            headers = {n: v for n, v in headers.items() if n.lower() != "content-type"} | {"content-type": content_type}
        super().__init__(info.status or 200, headers, info)
        self._body = body

    async def _next(self) -> bytes:
        body, self._body = self._body, b""
        return body


class _Streamed(Forwarded):
    """A stream, watched by the `Stream` that reads it."""

    def __init__(self, stream: Stream[Any, Any], seen: _Seen) -> None:
        super().__init__(seen.status, seen.headers, stream.info)
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


class _Direct(Forwarded):
    """An answer that nobody reads along with; `idle` bounds the wait for its next bytes, in seconds."""

    def __init__(self, reply: RawReply, info: Info, idle: float | None) -> None:
        super().__init__(reply.status, reply.headers, info)
        self._reply = reply
        self._idle = idle

    async def _next(self) -> bytes:
        try:
            async with asyncio.timeout(self._idle):
                return await self._reply.read_some()
        except TimeoutError:
            pass
        except BaseException:
            self._reply.abort()
            raise
        self._reply.abort()
        raise APITimeoutError(f"no further byte within {self._idle} s", phase="idle", info=self.info)

    async def close(self) -> None:
        self._reply.abort()


class _Seen:
    """A response that keeps a copy of what is read of it."""

    def __init__(self, reply: RawReply) -> None:
        self.status = reply.status
        self.headers = reply.headers
        self._reply = reply
        self._pieces: deque[bytes] = deque()
        self.whole: bytes | None = None
        """The body, where it was read at once."""

    def take(self) -> bytes:
        """Return the oldest piece that was not taken, b"" when there is none."""
        return self._pieces.popleft() if self._pieces else b""

    async def read(self, max_bytes: int = MAX_BODY) -> bytes:
        self.whole = await self._reply.read(max_bytes)
        return self.whole

    async def read_some(self) -> bytes:
        data = await self._reply.read_some()
        if data:
            self._pieces.append(data)
        return data

    def abort(self) -> None:
        self._reply.abort()

    def finish(self) -> None:
        self._reply.finish()


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
    path, query = path_below(path), query_of(query)
    api = _PIPELINE.get(path) if method == "POST" else None
    if api is None:
        return await _direct(pipeline, settings, method, f"{path}?{query}" if query else path, body, options)
    if query:
        raise refused(f"a query is not sent to {path}; what it says belongs into the body")
    return await _through(pipeline, settings, api, body or b"", options)


async def _through(pipeline: Pipeline, settings: Settings, api: Api, body: bytes, options: CallOptions) -> Forwarded:
    try:
        request = plain(body)
    except msgspec.DecodeError:
        request = None
    if not isinstance(request, dict):
        raise refused("the body is no JSON object")
    receive_as = _RECEIVE[api, bool(request.get("stream"))]
    seen: _Seen | None = None

    async def watched(attempt: Attempt) -> Any:
        nonlocal seen
        attempt.reply = seen = _Seen(attempt.response)
        return await receive_as(attempt)

    answer = await pipeline.call(api, request, watched, options, settings, written=body)
    if isinstance(answer, Reply):
        # Without bytes of its own it is the sum of a stream that was not asked for.
        return _Whole(answer.info, answer.raw or encode(answer.to_dict()), None if answer.raw else "application/json")
    assert seen is not None
    if seen.whole is not None:
        # Whoever asked for a stream reads nothing else, and would take a whole answer for an empty one.
        return _Whole(answer.info, _as_events(api, plain(seen.whole)), "text/event-stream")
    return _Streamed(answer, seen)


async def _direct(
    pipeline: Pipeline, settings: Settings, method: str, path: str, body: bytes | None, options: CallOptions
) -> Forwarded:
    _, transport = pipeline.enter()
    upstream = pipeline.balancer.upstreams[0]
    url, timeout = upstream.endpoint.url(path), options.get("timeout")
    call = pipeline.plain_call(method, upstream, url, body, settings, options.get("extra_headers"))
    if timeout is not None:
        call.timeout = settings.timeout.but(timeout)
    info = call.info
    info.endpoint, info.attempts = upstream.endpoint.name, 1
    secrets = upstream.secrets.with_headers(call.headers)
    try:
        async with asyncio.timeout(call.timeout.total):
            reply = await pipeline.send(transport, call, call.targets[0])
            info.saw_headers(reply.status, reply.headers)
            if reply.status < 400:
                return _Direct(reply, info, call.timeout.idle)
            # Servers are known to echo the key they were given.
            body = secrets.cut_from(await beginning(reply, MAX_ERROR_BODY))
            secrets.without(info)
            return _Whole(info, body)
    except TimeoutError:
        pass
    except AimlasyncError as error:
        secrets.redact(error)
        raise
    raise APITimeoutError(f"no answer within {call.timeout.total} s", phase="total", info=info)


def _as_events(api: Api, reply: dict[str, Any]) -> bytes:
    """A whole answer as the events that carry no less."""
    if api == "responses":
        events = [
            {"type": kind, "sequence_number": number, "response": reply}
            for number, kind in enumerate(("response.created", "response.completed"))
        ]
        return b"".join(b"event: %b\ndata: %b\n\n" % (str(e["type"]).encode(), encode(e)) for e in events)
    choices = []
    for choice in reply["choices"]:
        delta = dict(choice.get("message") or {})
        if delta.get("tool_calls"):
            delta["tool_calls"] = [{"index": index, **call} for index, call in enumerate(delta["tool_calls"])]
        choices.append({"index": 0, **choice, "delta": delta})
        choices[-1].pop("message", None)
    chunk = {**reply, "object": "chat.completion.chunk", "choices": choices}
    return b"data: %b\n\ndata: [DONE]\n\n" % encode(chunk)


_RECEIVE: Mapping[tuple[Api, bool], Callable[[Attempt], Awaitable[Any]]] = {
    ("chat", False): receive.completion,
    ("chat", True): receive.chat_stream,
    ("responses", False): receive.response,
    ("responses", True): receive.response_stream,
}
