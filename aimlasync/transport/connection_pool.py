"""The default transport: aiohttp's connections, our own exchange on them, and the pool of idle ones.

It may import `dialler`, `connection`, `base`, `headers`, and aiohttp. aiohttp makes a connection (DNS, happy eyeballs,
TLS; proxies are `aiohttp_session`'s), and idle ones are kept here. A call that finds an idle connection needs no
task, no context manager and no timer: one write, and one future to wait for the head.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from functools import partial

from yarl import URL

from aimlasync.errors import AimlasyncError, APIConnectionError, APITimeoutError, ClientClosedError
from aimlasync.headers import check_target, joined, sendable
from aimlasync.transport.aiohttp_session import FOREIGN, translated
from aimlasync.transport.base import RawReply
from aimlasync.transport.connection import Connection, Outbox
from aimlasync.transport.dialler import Dialler

_READ = 64 * 2**10
# Handshakes at once. A TLS handshake takes a millisecond of CPU, and servers take a burst of them for an attack.
_DIALS = 128
# Seconds: a connection that was used less long ago is passed over for one that has rested longer.
_REST = 0.01
# With fewer requests under way each is written at once, since there is nothing to write it with.
_QUIET = 3
# Prepared requests; a catalogue asked for with many filters would keep one of each.
_MAX_ROUTES = 256

# Names of callers' headers that are remembered as harmless.
_MAX_NAMES = 64


class LeanTransport:
    """The default transport: an own HTTP/1.1 exchange on aiohttp's connections.

    `keepalive` is how long an idle connection is kept, in seconds.
    """

    def __init__(self, *, keepalive: float = 30.0) -> None:
        self.keepalive = keepalive
        self.is_closed = False
        # All of one loop, from the first call on.
        self.buffer = memoryview(bytearray(_READ))
        self.connections: set[Connection] = set()
        self.draining: set[asyncio.Task[None]] = set()
        self.outbox = Outbox()
        self._routes: dict[tuple[str, str, int], _Route] = {}
        self._origins: dict[URL, Origin] = {}

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
        # Two endpoints may have one URL, and each its own headers.
        route = self._routes.get((method, url, id(headers)))
        if route is None or route.headers is not headers or self.is_closed:
            try:
                route = self._prepare(method, url, headers)
            except ValueError as error:
                # Mappings of any kind: their repr may show values.
                headers = own = {}
                raise error.with_traceback(None) from None
        origin = route.origin
        connection = (None if fresh else origin.take()) or await origin.connect(connect)
        if fresh and connection.is_reused:
            # Became free while this call stood in line.
            connection.give_back()
            connection = await origin.dial(connect)
        # The request is in no local of a frame that an error may pass: it holds the key.
        try:
            reply = connection.ask(route.head(own, body), body, bodiless=method == "HEAD")
        except ValueError as error:
            connection.give_back()
            headers = own = {}
            raise error.with_traceback(None) from None
        try:
            if not connection.is_sent:
                assert body is not None
                await connection.send_body(body, reply)
            while not reply.status and reply.failure is None:
                if reply.is_odd:
                    return await connection.odd_reply(reply)
                await reply.changed()
        except BaseException:
            reply.abort()
            raise
        if reply.status:
            return reply
        raise reply.failed()

    def _prepare(self, method: str, url: str, headers: Mapping[str, str]) -> _Route:
        if self.is_closed:
            raise ClientClosedError("this transport is closed; make a new one")
        target = URL(url, encoded=True)
        origin = self._origins.get(target.origin())
        if origin is None:
            origin = self._origins[target.origin()] = Origin(self, target)
        if len(self._routes) >= _MAX_ROUTES:
            self._routes.clear()
        route = self._routes[method, url, id(headers)] = _Route(method, target, headers, origin)
        return route

    async def close(self) -> None:
        """Close all connections; reads that wait fail."""
        self.is_closed = True
        for connection in list(self.connections):
            connection.drop()
        for origin in self._origins.values():
            await origin.close()
        # With the next turn of the loop, their sockets are closed.
        await asyncio.sleep(0)


class _Route:
    """What all requests with one method, URL and set of endpoint's headers have in common, as bytes."""

    __slots__ = ("_apart", "_method", "_names", "_prefix", "_shared", "_start", "headers", "origin")

    def __init__(self, method: str, url: URL, headers: Mapping[str, str], origin: Origin) -> None:
        check_target(method, url.raw_path_qs)
        self.headers = headers
        self.origin = origin
        self._method = method
        self._start = f"{method} {url.raw_path_qs} HTTP/1.1\r\n".encode()
        # Host stands among the endpoint's headers, so that one of a call replaces it like any other.
        host = {} if any(name.lower() == "host" for name in headers) else {"Host": url.host_port_subcomponent or ""}
        self._shared = sendable({**host, **headers})
        self._names = {name.lower() for name in self._shared}
        # Names that calls bring: checked, and not among the endpoint's.
        self._apart: set[str] = set()
        self._prefix = self._start + _lines(self._shared)

    def head(self, own: Mapping[str, str], body: bytes | None) -> bytes:
        """Return the request up to its body."""
        apart, text = self._apart, ""
        try:
            for name, value in own.items():
                # A name that was checked, and a value without a control character.
                if name not in apart or not (value.isascii() and value.isprintable()):
                    break
                text += f"{name}: {value}\r\n"
            else:
                if body is not None:
                    return self._prefix + f"{text}Content-Length: {len(body)}\r\n\r\n".encode()
        except AttributeError:
            # A value that is no str.
            pass
        return self._head(own, body)

    def _head(self, own: Mapping[str, str], body: bytes | None) -> bytes:
        own = sendable(own)
        if self._names.isdisjoint(map(str.lower, own)):
            lines = self._prefix + _lines(own)
            if len(self._apart) < _MAX_NAMES:
                self._apart.update(own)
        else:
            lines = self._start + _lines(joined(self._shared, own))
        if body is not None:
            return b"%bContent-Length: %d\r\n\r\n" % (lines, len(body))
        return lines + (
            b"\r\n" if self._method in ("GET", "HEAD", "DELETE", "OPTIONS") else b"Content-Length: 0\r\n\r\n"
        )


def _lines(headers: Mapping[str, str]) -> bytes:
    return "".join([f"{name}: {value}\r\n" for name, value in headers.items()]).encode()


class Origin:
    """The connections to one server: the idle ones, and the line of those who need one."""

    __slots__ = (
        "_dialler",
        "_dialling",
        "_idle",
        "_keepalive",
        "_line",
        "_timer",
        "_transport",
        "buffer",
        "connections",
        "draining",
        "outbox",
        "url",
        "where",
    )

    def __init__(self, transport: LeanTransport, url: URL) -> None:
        self.url = url
        self.where = f"{url.host}:{url.port}"
        self.buffer = transport.buffer
        self.connections = transport.connections
        self.draining = transport.draining
        self.outbox = transport.outbox
        self._transport = transport
        self._keepalive = transport.keepalive
        # The last used is the first taken: it is the warmest, and what is not needed grows old and is closed. But one
        # that was used just now may still bring what its server sends late and unasked, so the oldest goes before it.
        self._idle: deque[Connection] = deque()
        self._dialler = Dialler(url, partial(Connection, self, asyncio.get_running_loop()))
        self._dialling = 0
        # Each gets a connection that became free, None for a place to dial itself, or the reason why there is neither.
        self._line: deque[asyncio.Future[Connection | AimlasyncError | None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def is_quiet(self) -> bool:
        """Whether hardly any other request is under way."""
        return len(self.connections) - len(self._idle) < _QUIET

    def take(self) -> Connection | None:
        """Return an idle connection."""
        idle = self._idle
        if not idle:
            return None
        now = idle[-1].loop.time()
        oldest = now - self._keepalive
        while idle:
            connection = idle.pop() if now - idle[-1].since >= _REST else idle.popleft()
            is_open = connection.since >= oldest and not connection.transport.is_closing()
            if is_open and not connection.unread.poll(0):
                connection.is_reused = True
                connection.since = now
                return connection
            connection.drop()
        return None

    def give(self, connection: Connection) -> None:
        """Take a connection back, for the next in line or for later."""
        while self._line:
            waiter = self._line.popleft()
            if not waiter.done():
                connection.is_reused = True
                waiter.set_result(connection)
                return
        if self._transport.is_closed:
            connection.drop()
            return
        # However many there are: as many were open at once, and a dial costs more than all else of a call. What is not
        # needed again is closed when it has been idle for long.
        self._idle.append(connection)
        if self._timer is None:
            self._timer = connection.loop.call_later(self._keepalive, self._expire)

    def _expire(self) -> None:
        """Close what was not needed for long; one timer for all, which looks again when the oldest is due."""
        self._timer = None
        idle = self._idle
        while idle:
            loop = idle[0].loop
            if idle[0].since >= loop.time() - self._keepalive + 0.001 and not idle[0].transport.is_closing():
                self._timer = loop.call_at(idle[0].since + self._keepalive, self._expire)
                return
            idle.popleft().drop()

    async def connect(self, timeout: float | None) -> Connection:
        """Dial, or wait in line for a place to; a connection that becomes free meanwhile serves as well."""
        loop = asyncio.get_running_loop()
        if self._dialling >= _DIALS:
            found = await self._wait(loop, timeout)
            if found is not None:
                return found
        else:
            self._dialling += 1
        try:
            return await self.dial(timeout)
        finally:
            self._dialled()

    async def _wait(self, loop: asyncio.AbstractEventLoop, timeout: float | None) -> Connection | None:
        waiter: asyncio.Future[Connection | AimlasyncError | None] = loop.create_future()
        self._line.append(waiter)
        bound = None if timeout is None else loop.call_later(timeout, self._is_late, waiter)
        try:
            found = await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled():
                # Served in the turn of the loop in which it was cancelled.
                served = waiter.result()
                if served is None:
                    self._dialled()
                elif isinstance(served, Connection):
                    served.give_back()
            raise
        finally:
            if bound is not None:
                bound.cancel()
        if isinstance(found, AimlasyncError):
            raise found
        return found

    def _is_late(self, waiter: asyncio.Future[Connection | AimlasyncError | None]) -> None:
        # Made only now: thousands may wait in line at once.
        what = f"no connection to {self.where} within the connect timeout"
        _answer(waiter, APITimeoutError(what, phase="connect", billed=False))

    def _dialled(self) -> None:
        """One handshake less: the next in line may begin."""
        while self._line:
            if _answer(self._line.popleft(), None):
                return
        self._dialling -= 1

    async def dial(self, timeout: float | None) -> Connection:
        """Make a connection, within `timeout` seconds."""
        failure: AimlasyncError
        try:
            # Around all of it: aiohttp's own bounds leave the look-up of the name out.
            async with asyncio.timeout(timeout):
                connection: Connection = await self._dialler.dial()
        except FOREIGN as error:
            # A TimeoutError here is the connect bound: the caller's own deadline arrives as a cancellation.
            failure = translated(error, self.url, fresh=True)
        else:
            if not self._transport.is_closed and not connection.transport.is_closing():
                return connection
            # Closed meanwhile, or a server that speaks before it is asked.
            connection.drop()
            failure = APIConnectionError(f"{self.where} closed the connection before it answered")
        raise failure

    async def close(self) -> None:
        """Let nobody wait any longer, and dial no more."""
        if self._timer is not None:
            self._timer.cancel()
        while self._line:
            _answer(self._line.popleft(), APIConnectionError(f"the connection to {self.where} was closed"))
        await self._dialler.close()


def _answer(waiter: asyncio.Future[Connection | AimlasyncError | None], found: AimlasyncError | None) -> bool:
    """Let one in line go on, unless it left."""
    if waiter.done():
        return False
    waiter.set_result(found)
    return True
