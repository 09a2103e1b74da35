"""The one seam: how bytes get to a server and back.

Law: this is the only file that knows HTTP, and the only one that imports aiohttp.
Foreign exceptions end here: aiohttp's carry the request's headers, and with them the key, so each becomes an error of
ours that is raised outside the `except` block and chains to nothing.
A transport knows nothing of endpoints, retries, limits or JSON; simulators, recorders and faster lanes are other
transports.
"""

from __future__ import annotations

import asyncio
import io
import os
import weakref
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Protocol

import aiohttp
from yarl import URL

from aimlasync.errors import AimlasyncError, APIConnectionError, APIResponseValidationError, APITimeoutError

MAX_BODY = 64 * 2**20
"""Largest body that is read, in bytes, after decompression."""

# aiohttp warns about larger raw bodies; a file object is written in pieces.
_PLAIN_BODY = 2**20

# After a stream's end: how much is read, and for how long, to give the connection back instead of closing it.
_DRAIN_BYTES = 64 * 2**10
_DRAIN_SECONDS = 1.0


class StaleConnectionError(APIConnectionError):
    """A reused connection died before the first byte of a response: the server had closed it, and saw no request."""


class RawReply(Protocol):
    """One response, its body still to be read."""

    status: int
    headers: Mapping[str, str]

    async def read(self, max_bytes: int = MAX_BODY) -> bytes:
        """Return the whole body.

        Raises APIResponseValidationError beyond `max_bytes`, APIConnectionError if it breaks.
        """

    async def read_some(self) -> bytes:
        """Return what has arrived, b"" at a clean end. Raises APIConnectionError if the body breaks."""

    def abort(self) -> None:
        """Drop the connection; a pending read fails. Harmless after the end."""

    def finish(self) -> None:
        """Give the connection back once the rest of the body, which nobody wants, has been read in the background."""


class Transport(Protocol):
    """Sends one attempt."""

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, *, connect: float | None
    ) -> RawReply:
        """Send a request and return its response once the headers are in.

        `connect` bounds making a connection, in seconds. Raises APITimeoutError (connect), StaleConnectionError,
        APIConnectionError. Redirects are never followed: they would carry the prompt to another host.
        """

    async def close(self) -> None:
        """Close all connections."""


# Set for the time of one `send`: the connector notes in it that it had to dial.
_dialled: ContextVar[list[bool] | None] = ContextVar("_dialled", default=None)


class _Connector(aiohttp.TCPConnector):
    """A connector that tells a new connection from a reused one; only the latter may be stale."""

    async def _create_connection(self, *args: Any, **kwargs: Any) -> Any:
        noted = _dialled.get()
        if noted is not None:
            noted[0] = True
        return await super()._create_connection(*args, **kwargs)


class AiohttpTransport:
    """aiohttp's ClientSession, with everything switched off that this library does itself."""

    def __init__(self, *, proxy: str | None = None, keepalive: float = 30.0) -> None:
        # A block this large is mapped and unmapped at once, which lifts glibc's mmap threshold: without it, asyncio's
        # 256 KiB reads cost two system calls and a page fault each (python/cpython#85451). Harmless elsewhere.
        bytes(8 << 20)
        self._session = aiohttp.ClientSession(
            # Our permits are the only queue; a limit here would be a second, silent one.
            connector=_Connector(limit=0, ttl_dns_cache=300, keepalive_timeout=keepalive),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            trust_env=False,
        )
        self._proxy = proxy
        self._urls: dict[str, URL] = {}
        self._timeouts: dict[float | None, aiohttp.ClientTimeout] = {}
        self._draining: set[asyncio.Task[None]] = set()
        # Replies that somebody may still be reading: closing a session does not wake them.
        self._open: weakref.WeakSet[_AiohttpReply] = weakref.WeakSet()

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, *, connect: float | None
    ) -> RawReply:
        """Send a request; see `Transport.send`."""
        target = self._urls.get(url)
        if target is None:
            target = self._urls[url] = URL(url, encoded=True)
        timeout = self._timeouts.get(connect)
        if timeout is None:
            timeout = self._timeouts[connect] = aiohttp.ClientTimeout(total=None, sock_connect=connect)
        dialled = [False]
        token = _dialled.set(dialled)
        failure: AimlasyncError
        try:
            response = await self._session.request(
                method,
                target,
                headers=headers,
                data=body if body is None or len(body) <= _PLAIN_BODY else io.BytesIO(body),
                allow_redirects=False,
                timeout=timeout,
                proxy=self._proxy,
            )
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            # A TimeoutError here is the connect bound: the caller's own deadline arrives as a cancellation.
            failure = _translated(error, target, fresh=dialled[0])
        else:
            reply = _AiohttpReply(response, self._draining)
            self._open.add(reply)
            return reply
        finally:
            _dialled.reset(token)
        raise failure

    async def close(self) -> None:
        """Close all connections; reads that wait fail."""
        for reply in list(self._open):
            reply.abort()
        await self._session.close()


class _AiohttpReply:
    __slots__ = ("__weakref__", "_draining", "_response", "headers", "status")

    def __init__(self, response: aiohttp.ClientResponse, draining: set[asyncio.Task[None]]) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._draining = draining

    async def read(self, max_bytes: int = MAX_BODY) -> bytes:
        content = self._response.content
        if content.is_eof() and content.exception() is None:
            # Small bodies are usually here already.
            body = content.read_nowait()
            if len(body) <= max_bytes:
                return body
            raise _too_large(max_bytes)
        pieces = []
        size = 0
        while piece := await self.read_some():
            pieces.append(piece)
            size += len(piece)
            if size > max_bytes:
                self.abort()
                raise _too_large(max_bytes)
        return b"".join(pieces)

    async def read_some(self) -> bytes:
        failure: AimlasyncError
        try:
            return await self._response.content.readany()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            failure = APIConnectionError(f"the connection broke in the middle of the response ({_kind(error)})")
        raise failure

    def abort(self) -> None:
        self._response.close()

    def finish(self) -> None:
        if self._response.content.at_eof() or self._response.closed:
            self._response.release()
            return
        task = asyncio.get_running_loop().create_task(self._drain())
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

    async def _drain(self) -> None:
        left = _DRAIN_BYTES
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                while left > 0:
                    piece = await self._response.content.readany()
                    if not piece:
                        return
                    left -= len(piece)
        except (TimeoutError, aiohttp.ClientError, OSError):
            pass
        finally:
            # Closes the connection unless the body ended, in which case it is back in the pool already.
            self._response.close()


def _too_large(max_bytes: int) -> APIResponseValidationError:
    return APIResponseValidationError(f"the response is larger than {max_bytes} bytes and was not read further")


def _kind(error: BaseException) -> str:
    return type(error).__name__


def _translated(error: BaseException, url: URL, *, fresh: bool) -> AimlasyncError:
    """Say what went wrong without the request in it."""
    where = f"{url.host}:{url.port}"
    if isinstance(error, (aiohttp.ServerTimeoutError, asyncio.TimeoutError)):
        return APITimeoutError(f"no connection to {where} within the connect timeout", phase="connect")
    if isinstance(error, (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError)):
        failure = APIConnectionError(f"the TLS certificate of {where} was not accepted ({_kind(error)})")
        failure.retryable = False
        return failure
    if isinstance(error, aiohttp.ClientConnectorError):
        code = error.os_error.errno
        reason = os.strerror(code) if code and code > 0 else error.os_error.strerror or _kind(error.os_error)
        return APIConnectionError(f"could not connect to {where}: {reason}")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return APIConnectionError(f"the proxy refused to connect to {where}: HTTP {error.status}")
    if isinstance(error, (aiohttp.ServerDisconnectedError, ConnectionError, aiohttp.ClientOSError)):
        if not fresh:
            return StaleConnectionError(f"a kept connection to {where} had been closed by the server")
        return APIConnectionError(f"{where} closed the connection before it answered")
    if isinstance(error, aiohttp.ClientResponseError):
        return APIConnectionError(f"{where} sent something that is not HTTP ({_kind(error)})")
    if isinstance(error, aiohttp.ClientPayloadError):
        return APIConnectionError(f"{where} broke the connection in the middle of the response")
    return APIConnectionError(f"the request to {where} failed ({_kind(error)})")
