"""The transport over aiohttp's ClientSession, which supports proxies; the client uses it where a proxy is configured.

It may import `base`, `aiohttp_errors`, `resolver`, `headers`, `errors` and aiohttp.
"""

from __future__ import annotations

import asyncio
import io
import weakref
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from functools import partial
from typing import Any, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from aimlasync.errors import AimlasyncError, APIConnectionError, ClientClosedError
from aimlasync.headers import Fields, Headers, check_target, joined, sendable
from aimlasync.transport.aiohttp_errors import FOREIGN, HEAD_BOUNDS, WHILE_READING, broken, translated
from aimlasync.transport.base import (
    AT_ONCE,
    DRAIN_BYTES,
    DRAIN_SECONDS,
    MAX_BODY,
    RawReply,
    gathered,
    too_large,
)
from aimlasync.transport.resolver import KNOWN, Resolver
from aimlasync.transport.tcp_keepalive import keep_alive

# aiohttp warns about larger raw bodies; a file object is written in pieces.
_PLAIN_BODY = 2**20
_MAX_SHARED = 256


class _Handler(ResponseHandler):
    """aiohttp's side of a connection, which notes whether the server has said anything since `is_silent` was set."""

    is_silent = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        keep_alive(transport)

    def data_received(self, data: bytes) -> None:
        if data:
            self.is_silent = False
        super().data_received(data)


class _Sending:
    """What the connector notes of one `send`: whether it had to dial, how often it was asked, and what it gave."""

    __slots__ = ("connects", "dialled", "handler")

    def __init__(self) -> None:
        self.connects = 0
        self.dialled = False
        self.handler: _Handler | None = None

    @property
    def is_answered(self) -> bool:
        """Whether any byte came in answer."""
        return self.handler is not None and not self.handler.is_silent


_sending: ContextVar[_Sending | None] = ContextVar("_sending", default=None)


class _Connector(aiohttp.TCPConnector):
    """A connector that tells a new connection from a kept one, and gives each request one connection."""

    def __init__(self, **options: Any) -> None:
        super().__init__(resolver=Resolver(), **options)
        self._resolver_owner = True
        self._factory = cast("partial[ResponseHandler]", partial(_Handler, loop=self._loop))

    async def connect(self, *args: Any, **kwargs: Any) -> Any:
        noted = _sending.get()
        if noted is not None:
            noted.connects += 1
            if noted.connects > 1:
                # aiohttp sends some requests again by itself when a kept connection dies, and tells nobody.
                raise aiohttp.ServerDisconnectedError
        connection = await super().connect(*args, **kwargs)
        if noted is not None and isinstance(connection.protocol, _Handler):
            noted.handler = connection.protocol
            noted.handler.is_silent = True
        return connection

    async def _create_connection(self, *args: Any, **kwargs: Any) -> Any:
        noted = _sending.get()
        if noted is not None:
            noted.dialled = True
        return await super()._create_connection(*args, **kwargs)


class AiohttpTransport:
    """aiohttp's ClientSession, with everything switched off that this library does itself."""

    def __init__(self, *, proxy: str | None = None, keepalive: float = 30.0) -> None:
        # A block this large is mapped and unmapped at once, which lifts glibc's mmap threshold: without it, asyncio's
        # 256 KiB reads cost two system calls and a page fault each (python/cpython#85451). Harmless elsewhere.
        bytes(8 << 20)
        # Made with the first call, since it belongs to a loop.
        self._session: aiohttp.ClientSession | None = None
        # For requests that must not go over a kept connection; made with the first of them.
        self._fresh: aiohttp.ClientSession | None = None
        self._is_closed = False
        # aiohttp's log records show a proxy with its user and password; of headers they show a hash.
        self._proxy: URL | None = None
        self._proxy_headers: Headers | None = None
        if proxy is not None:
            self._proxy, self._proxy_headers = _split_proxy(proxy)
        self._keepalive = keepalive
        self._urls: dict[tuple[str, str], URL] = {}
        # Endpoints' headers that were checked, by identity.
        self._shared: dict[int, tuple[Mapping[str, str], Headers]] = {}
        self._timeouts: dict[float | None, aiohttp.ClientTimeout] = {}
        self._draining: set[asyncio.Task[None]] = set()
        # Replies that somebody may still read, and requests that wait for one: closing a session does not end them.
        self._open: weakref.WeakSet[PayloadReply] = weakref.WeakSet()
        self._waiting: set[asyncio.Timeout] = set()

    def _begun(self, fresh: bool) -> aiohttp.ClientSession:
        if self._is_closed:
            raise ClientClosedError("this client is closed, or the transport it was given; make a new one")
        if fresh:
            if self._fresh is None:
                self._fresh = _session(force_close=True)
            return self._fresh
        if self._session is None:
            self._session = _session(keepalive_timeout=self._keepalive)
        return self._session

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
        """Send a request; see `Transport.send`. Raises ValueError for a header or URL that cannot be sent safely."""
        session = self._begun(fresh)
        try:
            shared = self._shared.get(id(headers))
            if shared is None or shared[0] is not headers:
                if len(self._shared) >= _MAX_SHARED:
                    self._shared.clear()
                shared = self._shared[id(headers)] = (headers, sendable(headers))
            sent = joined(shared[1], sendable(own))
            target = self._urls.get((method, url))
            if target is None:
                target = URL(url, encoded=True)
                check_target(method, target.raw_path_qs)
                self._urls[method, url] = target
        except ValueError as error:
            # Mappings of any kind: their repr may show values.
            headers = own = {}
            shared = None
            raise error.with_traceback(None) from None
        if self._proxy_headers and target.scheme == "http":
            # There is no CONNECT that would carry it.
            sent.update(self._proxy_headers)
        timeout = self._timeouts.get(connect)
        if timeout is None:
            # Of all that it takes to have a connection: the name's look-up and a proxy's CONNECT as well.
            timeout = self._timeouts[connect] = aiohttp.ClientTimeout(total=None, connect=connect)
        noted = _Sending()
        token = _sending.set(noted)
        clock = asyncio.get_running_loop().time
        sent_at = clock()
        failure: AimlasyncError
        bound = asyncio.timeout(None)
        self._waiting.add(bound)
        try:
            async with bound:
                response = await session.request(
                    method,
                    target,
                    headers=sent,
                    data=body if body is None or len(body) <= _PLAIN_BODY else io.BytesIO(body),
                    allow_redirects=False,
                    timeout=timeout,
                    proxy=self._proxy,
                    proxy_headers=self._proxy_headers,
                )
        except FOREIGN as error:
            # A TimeoutError here is the connect bound: the caller's own deadline arrives as a cancellation.
            fresh = noted.dialled or noted.is_answered or clock() - sent_at > AT_ONCE
            if bound.expired():
                said = f"the connection to {target.host}:{target.port} was closed"
                failure = APIConnectionError(said, billed=False if noted.handler is None else None)
            else:
                failure = translated(error, target, fresh=fresh, proxy=self._proxy)
        except BaseException as error:  # noqa: BLE001  # raised again
            # Frames of aiohttp hold the headers.
            raise error.with_traceback(None) from None
        else:
            reply = PayloadReply(
                response.status, response.raw_headers, response.content, response.close, self._draining
            )
            self._open.add(reply)
            return reply
        finally:
            self._waiting.discard(bound)
            _sending.reset(token)
        raise failure

    async def close(self) -> None:
        """Close all connections; reads that wait fail."""
        self._is_closed = True
        for reply in list(self._open):
            reply.abort()
        for bound in [each for each in self._waiting if not each.expired()]:
            bound.reschedule(0)
        for session in (self._session, self._fresh):
            if session is not None:
                await session.close()


def _session(**options: Any) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        **HEAD_BOUNDS,
        # Our permits are the only queue; a limit here would be a second, silent one.
        connector=_Connector(limit=0, ttl_dns_cache=KNOWN, **options),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        trust_env=False,
    )


class PayloadReply:
    """A response whose body comes from aiohttp's parser; `close` drops its connection."""

    __slots__ = ("__weakref__", "_close", "_content", "_draining", "headers", "status")

    def __init__(
        self,
        status: int,
        headers: Iterable[tuple[bytes, bytes]],
        content: aiohttp.StreamReader,
        close: Callable[[], object],
        draining: set[asyncio.Task[None]],
    ) -> None:
        self.status = status
        self.headers: Mapping[str, str] = Fields.read(headers)
        self._content = content
        self._close = close
        self._draining = draining

    async def read(self, max_bytes: int = MAX_BODY) -> bytes:
        """Return the whole body; see `RawReply.read`."""
        content = self._content
        if content.is_eof() and content.exception() is None:
            # Small bodies are usually here already.
            body = content.read_nowait()
            if len(body) <= max_bytes:
                return body
            raise too_large(max_bytes)
        return await gathered(self, max_bytes)

    async def read_some(self) -> bytes:
        """Return what has arrived; see `RawReply.read_some`."""
        failure: AimlasyncError
        try:
            return await self._content.readany()
        except WHILE_READING as error:
            failure = broken(error)
        raise failure

    def abort(self) -> None:
        """Drop the connection."""
        self._close()

    def finish(self) -> None:
        """Give the connection back; see `RawReply.finish`."""
        if self._content.is_eof() or self._content.exception() is not None:
            # With the end of the body it went back by itself, and with an error it was closed.
            return
        task = asyncio.get_running_loop().create_task(self._drain())
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

    async def _drain(self) -> None:
        left = DRAIN_BYTES
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while left > 0:
                    piece = await self._content.readany()
                    if not piece:
                        return
                    left -= len(piece)
        except WHILE_READING:
            pass
        finally:
            # Harmless where the body ended: the connection is back in the pool already.
            self._close()


def _split_proxy(proxy: str) -> tuple[URL, Headers | None]:
    """Return a proxy's URL without user and password, and the header that says them."""
    url = URL(proxy)
    if url.user is None and url.password is None:
        return url, None
    pair = f"{url.user or ''}:{url.password or ''}"
    return url.with_user(None), Headers({"Proxy-Authorization": f"Basic {b64encode(pair.encode()).decode()}"})
