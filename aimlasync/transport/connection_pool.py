"""The default transport: aiohttp's connections, our own exchange on them, and the pool of idle ones.

aiohttp makes a connection (DNS, happy eyeballs, TLS; proxies are `aiohttp_session`'s), and idle ones are kept here. A
call that finds an idle connection needs no task, no context manager and no timer: one write, and one future to wait for
the head. It may import `route`, `dialler`, `connection`, `base`, `deadlines` and aiohttp.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Mapping
from functools import partial

from yarl import URL

from aimlasync.deadlines import Bounded, Deadlines
from aimlasync.errors import AimlasyncError, APIConnectionError, ClientClosedError
from aimlasync.event_loop import clock_of
from aimlasync.transport.aiohttp_errors import FOREIGN, translated
from aimlasync.transport.base import NoRoomError, RawReply
from aimlasync.transport.connection import Connection, Outbox, unread
from aimlasync.transport.dialler import Dialler
from aimlasync.transport.heads import Heads
from aimlasync.transport.reply import Reply
from aimlasync.transport.route import Route
from aimlasync.transport.wakeups import Wakeups

_READ = 64 * 2**10
# Handshakes at once. A TLS handshake takes a millisecond of CPU, and servers take a burst of them for an attack: beyond
# their backlog, 100 for servers made with asyncio, a connection is asked for again only after a second.
_DIALS = 96
# Seconds: a connection that was used less long ago is passed over for one that has rested longer.
_REST = 0.01
# With fewer requests under way each is written at once, since there is nothing to write it with.
_QUIET = 3
# Prepared requests; a catalogue asked for with many filters would keep one of each.
_MAX_ROUTES = 256


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
        self.wakeups = Wakeups()
        self._routes: dict[tuple[str, str, int], Route] = {}
        self._origins: dict[URL, Origin] = {}

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        own: Mapping[str, str],
        body: bytes | None,
        *,
        connect: float | None,
        fresh: bool = False,
    ) -> Awaitable[RawReply]:
        """Send a request, when awaited; see `Transport.send`.

        Raises ValueError at once for a header or URL that cannot be sent safely, and ClientClosedError.
        """
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
        reply = Reply(method == "HEAD", origin.heads, origin=origin, connect=connect, fresh=fresh, sends=body)
        # The request is in no local of a frame that an error may pass: it holds the key.
        try:
            reply.head = route.head(own, body)
        except ValueError as error:
            headers = own = {}
            raise error.with_traceback(None) from None
        return reply

    def _prepare(self, method: str, url: str, headers: Mapping[str, str]) -> Route:
        if self.is_closed:
            raise ClientClosedError("this client is closed, or the transport it was given; make a new one")
        target = URL(url, encoded=True)
        origin = self._origins.get(target.origin())
        if origin is None:
            origin = self._origins[target.origin()] = Origin(self, target)
        if len(self._routes) >= _MAX_ROUTES:
            self._routes.clear()
        route = self._routes[method, url, id(headers)] = Route(method, target, headers, origin)
        return route

    def abandon(self) -> None:
        """Close idle connections, and each other one when it is given back: nobody is left who could send."""
        self.is_closed = True
        for origin in self._origins.values():
            origin.drop_idle()

    async def close(self) -> None:
        """Close all connections; reads that wait fail."""
        self.is_closed = True
        for connection in list(self.connections):
            connection.drop()
        for origin in self._origins.values():
            await origin.close()
        # With the next turn of the loop, their sockets are closed.
        await asyncio.sleep(0)


class Origin:
    """The connections to one server: the idle ones, and the queue of those who need one."""

    __slots__ = (
        "_clock",
        "_deadlines",
        "_dialler",
        "_dialling",
        "_idle",
        "_keepalive",
        "_queue",
        "_timer",
        "_transport",
        "buffer",
        "connections",
        "draining",
        "has_no_room",
        "heads",
        "loop",
        "outbox",
        "url",
        "wakeups",
        "where",
    )

    def __init__(self, transport: LeanTransport, url: URL) -> None:
        self.url = url
        self.where = f"{url.host}:{url.port}"
        self.buffer = transport.buffer
        self.connections = transport.connections
        self.draining = transport.draining
        self.outbox = transport.outbox
        self.wakeups = transport.wakeups
        self.heads = Heads()
        self._transport = transport
        self._keepalive = transport.keepalive
        # The last used is the first taken: it is the warmest, and what is not needed grows old and is closed. But one
        # that was used just now may still bring what its server sends late and unasked, so the oldest goes before it.
        self._idle: deque[Connection] = deque()
        self.loop = asyncio.get_running_loop()
        self._clock = clock_of(self.loop)
        self._dialler = Dialler(url, partial(Connection, self, self.loop))
        self._dialling = 0
        self.has_no_room = False
        """Whether the last dial found no file left: who is in the queue waits for a connection that is in use."""
        self._queue: deque[Reply] = deque()
        # Connect timeouts. In a burst, a timer of the loop for each would be a tenth of what a connection costs.
        self._deadlines = Deadlines(self.loop)
        self._timer: asyncio.TimerHandle | None = None

    def is_quiet(self) -> bool:
        """Whether hardly any other request is under way."""
        return len(self.connections) - len(self._idle) < _QUIET

    def take(self) -> Connection | None:
        """Return an idle connection."""
        idle = self._idle
        if not idle:
            return None
        now = self._clock()
        while idle:
            connection = idle.pop() if now - idle[-1].since >= _REST else idle.popleft()
            if now - connection.since <= self._keepalive and not connection.transport.is_closing():
                if connection.unread is None:
                    connection.unread = unread(connection.transport)
                # Nobody asked for what has come and was not read yet, unless it is the end.
                if not connection.unread.poll(0):
                    connection.is_reused = True
                    connection.since = now
                    return connection
            connection.drop()
        return None

    def give(self, connection: Connection) -> None:
        """Take a connection back, for the next in the queue or for later."""
        if self._queue and connection.transport.is_closing():
            connection.drop()
            return
        connection.since = self._clock()
        while self._queue and (reply := self._next()) is not None:
            if reply.fresh:
                # This one was used before.
                self._dialling += 1
                reply.may_dial = True
                reply.wake()
                continue
            connection.is_reused = True
            connection.ask(reply)
            return
        if self._transport.is_closed:
            connection.drop()
            return
        # However many there are: as many were open at once, and a dial costs more than all else of a call. What is not
        # needed again is closed when it has been idle for long.
        self._idle.append(connection)
        if self._timer is None:
            self._timer = connection.loop.call_later(self._keepalive, self._expire)

    def failed(self, connection: Connection) -> bool:
        """Note that the machine at the other end does not work; return whether another one of this server may."""
        return self._dialler.failed(connection.transport)

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

    def drop_idle(self) -> None:
        """Close the idle connections."""
        self._deadlines.rest()
        if self._timer is not None:
            self._timer.cancel()
        while self._idle:
            self._idle.popleft().drop()

    def ask(self, reply: Reply) -> None:
        """Begin an exchange: on an idle connection, else on the next one that is made or becomes free.

        The reply must be dialled for when it says that it `may_dial`, and must `leave` when it is given up. A wait in
        the queue ends after its `connect` seconds.
        """
        connection = None if reply.fresh else self.take()
        if connection is not None:
            connection.ask(reply)
        elif self._dialling < _DIALS:
            self._dialling += 1
            reply.may_dial = True
        else:
            self._queue.append(reply)
            if reply.connect is not None:
                reply.when = self.loop.time() + reply.connect
                self._deadlines.open(reply)

    def _next(self) -> Reply | None:
        """Return the next in the queue that has not left."""
        while self._queue:
            reply = self._queue.popleft()
            if reply.failure is None:
                self._deadlines.cancel(reply)
                return reply
        return None

    def leave(self, reply: Reply) -> None:
        """End an exchange that nobody waits for any more, wherever it stands."""
        if reply.may_dial:
            reply.may_dial = False
            self._dialled()
        elif reply.connection is None:
            self._deadlines.cancel(reply)
            # The queue still holds it.
            reply.head, reply.sends = b"", None
        reply.abort()

    def _dialled(self) -> None:
        """One handshake less: the next in the queue may begin."""
        reply = self._next()
        if reply is None:
            self._dialling -= 1
        else:
            reply.may_dial = True
            reply.wake()

    async def dial_for(self, reply: Reply) -> None:
        """Send a request that may dial over a connection of its own, made within its `connect` seconds."""
        try:
            connection = await self.dial(reply.connect)
        except NoRoomError:
            reply.may_dial = False
            self.has_no_room = self._dialling > 1 or self._is_in_use()
            if not self.has_no_room:
                self._dialled()
                raise
            # It waits for one of these, or of those that are being made, however long: nobody else makes room.
            self._dialling -= 1
            self._queue.appendleft(reply)
            return
        except BaseException:
            reply.may_dial = False
            self._dialled()
            raise
        reply.may_dial = False
        self._dialled()
        connection.ask(reply)

    def _is_in_use(self) -> bool:
        """Whether a connection to this server is in use, which is given back or closed some time."""
        return any(each.is_of(self) and each.reply is not None for each in self.connections)

    def closed(self) -> None:
        """Note that a connection is closed: who waits for its file may dial."""
        if self._queue and self._dialling < _DIALS and not self._transport.is_closed:
            # As behind a dial of its own.
            self._dialling += 1
            self._dialled()

    async def dial(self, timeout: float | None) -> Connection:
        """Make a connection, within `timeout` seconds."""
        failure: AimlasyncError
        # Around all of it: aiohttp's own bounds leave the look-up of the name out.
        bounded = Bounded()
        self._deadlines.start(bounded, float("inf") if timeout is None else self.loop.time() + timeout)
        try:
            connection: Connection = await self._dialler.dial(timeout)
        except FOREIGN as error:
            failure = translated(error, self.url, fresh=True)
        except asyncio.CancelledError:
            # The caller's own deadline arrives as a cancellation too.
            if not self._deadlines.stop(bounded):
                raise
            failure = translated(TimeoutError(), self.url, fresh=True)
        else:
            self.has_no_room = False
            if connection.is_open and not self._transport.is_closed:
                # Not sooner: uvloop tells nobody that it closed a connection whose dial was given up.
                self.connections.add(connection)
                return connection
            connection.drop()
            # A server that speaks before it is asked.
            failure = APIConnectionError(f"{self.where} closed the connection before it answered")
        finally:
            self._deadlines.stop(bounded)
        raise self._closed() if self._transport.is_closed else failure

    async def close(self) -> None:
        """Let nobody wait any longer, and dial no more."""
        self.drop_idle()
        if self.loop.is_closed():
            # Who waited on a loop that has ended cannot be told.
            return
        while (reply := self._next()) is not None:
            reply.fail(self._closed())
        # A connector that is closed ends a look-up as if its caller had been cancelled, and goes on with a handshake.
        self._deadlines.ring_all()
        self._deadlines.rest()
        await self._dialler.end()

    def _closed(self) -> APIConnectionError:
        return APIConnectionError(f"the connection to {self.where} was closed", billed=False)
