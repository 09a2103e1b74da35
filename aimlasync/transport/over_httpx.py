"""A transport over somebody's httpx client: each attempt is one request of it, with its proxies, hooks and mounts.

It works with httpx and httpx2, imports neither, and raises no exception of theirs. It may import `errors`, `headers`
and `transport.base`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any

from aimlasync.errors import AimlasyncError, APIConnectionError, APITimeoutError
from aimlasync.headers import Fields, sendable
from aimlasync.transport.base import MAX_BODY, RawReply, gathered


class HttpxTransport:
    """Sends with `client`, an AsyncClient of httpx or httpx2, which the caller closes."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._closing: set[asyncio.Task[None]] = set()
        # A subclass may be defined anywhere.
        roots = (cls.__module__.partition(".")[0] for cls in type(client).__mro__)
        self._package: Any = sys.modules[next(root for root in roots if root in ("httpx", "httpx2"))]

    async def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        own: Mapping[str, str],
        body: bytes | None,
        *,
        connect: float | None,
        fresh: bool = False,
    ) -> RawReply:
        """Send a request; see `Transport.send`. Of its bounds, `connect` is the only one that this library knows."""
        sent = {**sendable(headers), **sendable(own)}
        timeout = self._package.Timeout(None, connect=connect)
        request = self._client.build_request(method, url, headers=sent, content=body, timeout=timeout)
        failure: AimlasyncError
        try:
            response = await self._client.send(request, stream=True, follow_redirects=False)
        except self._package.HTTPError as error:
            failure = self._translated(error)
        else:
            return _HttpxReply(response, (self._package.HTTPError, self._package.StreamError), self._closing)
        raise failure

    def _translated(self, error: Exception) -> AimlasyncError:
        package, kind = self._package, type(error).__name__
        if isinstance(error, package.ConnectTimeout):
            return APITimeoutError("no connection within the connect timeout", phase="connect", billed=False)
        if isinstance(error, package.PoolTimeout):
            return APITimeoutError("no place in the httpx client's pool", phase="connect", billed=False)
        if isinstance(error, package.TimeoutException):
            return APITimeoutError(f"no answer within a timeout of the httpx client ({kind})", phase="first_token")
        if isinstance(error, (package.ConnectError, package.ProxyError, package.UnsupportedProtocol)):
            return APIConnectionError(f"could not connect ({kind}: {error})", billed=False)
        return APIConnectionError(f"the connection broke before the answer ({kind})")

    async def close(self) -> None:
        """Do nothing: the caller closes the client."""


class _HttpxReply:
    """A response of httpx."""

    def __init__(self, response: Any, failures: tuple[type[Exception], ...], closing: set[asyncio.Task[None]]) -> None:
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = Fields.of(response.headers)
        self._response = response
        self._failures = failures
        self._pieces: AsyncIterator[bytes] = response.aiter_bytes()
        self._closing = closing
        self._reading: asyncio.Task[bytes | APIConnectionError] | None = None
        self._is_left = False

    async def read(self, max_bytes: int = MAX_BODY) -> bytes:
        """Return the whole body; see `RawReply.read`."""
        return await gathered(self, max_bytes)

    async def read_some(self) -> bytes:
        """Return what has arrived; see `RawReply.read_some`."""
        # A task of its own: httpx's iterator ends where it is cancelled.
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._next_piece())
        await asyncio.wait([self._reading])
        reading, self._reading = self._reading, None
        if isinstance(piece := reading.result(), APIConnectionError):
            raise piece
        return piece

    async def _next_piece(self) -> bytes | APIConnectionError:
        try:
            async for piece in self._pieces:
                if piece:
                    return piece
            return b""
        except self._failures as error:
            kind = type(error).__name__
        return APIConnectionError(f"the connection broke in the middle of the response ({kind})")

    def abort(self) -> None:
        """Drop the connection, soon: httpx closes in a coroutine."""
        if self._is_left:
            return
        self._is_left = True
        task = asyncio.get_running_loop().create_task(self._response.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def finish(self) -> None:
        """Leave the response: httpx keeps its connection where the body has ended."""
        self.abort()
