"""Answers with their status, headers and bytes: `with_raw_response` and `with_streaming_response`, as AsyncOpenAI has.

Each calls the method of that name, so a call goes the way of all calls. It may import `passthrough`, `resources` and
what they import.
"""

from __future__ import annotations

import codecs
import copy
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import msgspec

from aimlasync.client.passthrough import Forwarded, forwarded
from aimlasync.client.pipeline import Pipeline
from aimlasync.client.stream import Opened, Stream
from aimlasync.http_response import HttpResponse
from aimlasync.info import Info


class _Answered:
    """What both kinds of response tell of their call."""

    info: Info

    @property
    def http_response(self) -> HttpResponse:
        """Status and headers, and the body where it is here."""
        return HttpResponse(self.info.status, self.info.headers)

    @property
    def headers(self) -> Any:
        """The response's headers; names in any case."""
        return self.http_response.headers

    @property
    def status_code(self) -> int:
        """The HTTP status."""
        return self.http_response.status_code

    @property
    def request_id(self) -> str | None:
        """The server's `x-request-id`, None without one."""
        found: str | None = self.headers.get("x-request-id")
        return found

    @property
    def retries_taken(self) -> int:
        """How many attempts failed before."""
        return max(0, self.info.attempts - 1)

    @property
    def elapsed(self) -> timedelta:
        """How long the call has taken, as far as it is known."""
        timing = self.info.timing
        return timedelta(seconds=timing.total or timing.first_byte or 0.0)


class RawResponse(_Answered):
    """The response to a call; `parse()` is the answer."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer
        self.info = answer.info

    def parse(self) -> Any:
        """Return what the method returns without `with_raw_response`: a reply, or a stream to iterate."""
        return self._answer

    @property
    def http_response(self) -> HttpResponse:
        """Status, headers and body."""
        content = None if isinstance(self._answer, Stream) else self.content
        return HttpResponse(self.info.status, self.info.headers, content)

    @property
    def content(self) -> bytes:
        """The body's bytes. Raises TypeError for a stream."""
        if isinstance(self._answer, Stream):
            raise TypeError("the answer is a stream: iterate parse(), or use with_streaming_response")
        raw: bytes = self._answer.raw or self._answer.to_json().encode()
        return raw

    @property
    def text(self) -> str:
        """The body as text. Raises TypeError for a stream."""
        return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        """Return the decoded body. Raises TypeError for a stream."""
        return msgspec.json.decode(self.content)

    def __repr__(self) -> str:
        return f"<RawResponse {self.info.status} {type(self._answer).__name__}>"


class StreamedResponse(_Answered):
    """A response whose body is read as it comes; `parse()` is the answer. Read it one way, once."""

    def __init__(self, body: Forwarded) -> None:
        self._body = body
        self._read: bytes | None = None
        self.info = body.info

    async def parse(self) -> Any:
        """Return what the method returns without `with_streaming_response`: a reply, or a stream to iterate."""
        return self._body.answer

    async def iter_bytes(self, chunk_size: int | None = None) -> AsyncIterator[bytes]:
        """Iterate the body's bytes: as they arrive, or in pieces of `chunk_size`."""
        held = b""
        async for piece in self._body:
            if chunk_size is None:
                yield piece
                continue
            held += piece
            while len(held) >= chunk_size:
                yield held[:chunk_size]
                held = held[chunk_size:]
        if held:
            yield held

    async def iter_text(self, chunk_size: int | None = None) -> AsyncIterator[str]:
        """Iterate the body as text."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        async for piece in self.iter_bytes(chunk_size):
            if text := decoder.decode(piece):
                yield text

    async def iter_lines(self) -> AsyncIterator[str]:
        """Iterate the body's lines, without their ends."""
        held = b""
        async for piece in self._body:
            *lines, held = (held + piece).split(b"\n")
            for line in lines:
                yield line.removesuffix(b"\r").decode("utf-8", "replace")
        if held:
            yield held.decode("utf-8", "replace")

    async def read(self) -> bytes:
        """Return the whole body."""
        if self._read is None:
            self._read = b"".join([piece async for piece in self._body])
        return self._read

    async def text(self) -> str:
        """Return the whole body as text."""
        return (await self.read()).decode("utf-8", "replace")

    async def json(self) -> Any:
        """Return the decoded body."""
        return msgspec.json.decode(await self.read())

    async def close(self) -> None:
        """Give back the connection and the permit at once; harmless after the end."""
        await self._body.close()


class RawResources:
    """A resource of the client, whose methods return `RawResponse`."""

    def __init__(self, resource: Any) -> None:
        self._resource = resource

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._resource, name)
        if not callable(found):
            return RawResources(found)

        async def ask(*args: Any, **options: Any) -> RawResponse:
            return RawResponse(await found(*args, **options))

        return ask


class StreamedResources:
    """A resource of the client, whose `create` returns a `StreamedResponse`, for `async with`."""

    def __init__(self, resource: Any) -> None:
        self._resource = resource

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._resource, name)
        if not callable(found):
            return StreamedResources(found)
        if name != "create":
            raise AttributeError(f"with_streaming_response has create alone, and no {name}")
        # The same resource, over a pipeline that hands out the bytes.
        bytes_of = copy.copy(self._resource)
        bytes_of._pipeline = _Bytes(bytes_of._pipeline)

        def ask(*args: Any, **options: Any) -> Opened[StreamedResponse]:
            return Opened(lambda: bytes_of.create(*args, **options), StreamedResponse)

        return ask


class _Bytes:
    """A pipeline whose calls return `Forwarded`."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    async def call(self, api: Any, body: Any, receive: Any, options: Any, settings: Any) -> Forwarded:
        return await forwarded(self._pipeline, api, body, receive, options, settings)
