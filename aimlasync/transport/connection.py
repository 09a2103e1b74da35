"""One connection: one request, its response, then the next request.

The response is read by `http11`. What that does not understand goes to aiohttp's parser on the same connection, its
bytes replayed, so that this accepts what aiohttp accepts and nothing more. A connection is given back with the last
byte of its response, not when that byte is read by the caller: `Reply` holds what the caller has not read. It may
import `reply`, `http11`, `base`, `aiohttp_session`, and aiohttp.
"""

from __future__ import annotations

import asyncio
import functools
import select
from typing import Protocol, cast

from aiohttp.client_proto import ResponseHandler
from yarl import URL

from aimlasync.errors import AimlasyncError
from aimlasync.transport.aiohttp_errors import FOREIGN, HEAD_BOUNDS, translated
from aimlasync.transport.aiohttp_session import PayloadReply
from aimlasync.transport.base import AT_ONCE, DRAIN_BYTES, DRAIN_SECONDS
from aimlasync.transport.heads import Heads
from aimlasync.transport.http11 import MalformedResponseError, OddResponseError
from aimlasync.transport.reply import Reply
from aimlasync.transport.tcp_keepalive import keep_alive

# Unread bytes of a response at which its connection stops reading.
_HIGH_WATER = 256 * 2**10
# A body is written in pieces of this size, and no faster than the connection takes them.
_PIECE = 256 * 2**10

# Of a machine that has no server behind it, where another one of its name may have: Bad Gateway, Service Unavailable,
# Gateway Timeout.
_NO_SERVER = frozenset((502, 503, 504))


class Owner(Protocol):
    """The pool of connections to one server: where they come from, and return to."""

    url: URL
    where: str
    buffer: memoryview
    """What all connections of a loop read into, each copying out before the next one reads."""
    connections: set[Connection]
    """All that are open."""
    draining: set[asyncio.Task[None]]
    outbox: Outbox
    heads: Heads

    def give(self, connection: Connection) -> None:
        """Take a connection that is ready for the next exchange."""

    def failed(self, connection: Connection) -> bool:
        """Note that the machine at the other end does not work; return whether another one of this server may."""

    def closed(self) -> None:
        """Note that a connection is closed."""

    def is_quiet(self) -> bool:
        """Whether hardly any other request is under way."""


class Outbox:
    """Requests of one turn of the loop, written together at its end.

    A server that sleeps is woken by a write; one that is woken once for many requests costs both sides less.
    """

    __slots__ = ("_written", "replies")

    def __init__(self) -> None:
        # Two lists, as pairs would be one more object of each of the thousands of requests that there may be.
        self.replies: list[Reply] = []
        """Those whose requests wait to be written."""
        self._written: list[bytes] = []

    def put(self, reply: Reply, data: bytes, loop: asyncio.AbstractEventLoop) -> None:
        """Write `data` when the callbacks of this turn are through, unless the exchange is over by then."""
        if not self.replies:
            loop.call_soon(self._flush)
        self.replies.append(reply)
        self._written.append(data)

    def _flush(self) -> None:
        replies, written = self.replies, self._written
        self.replies, self._written = [], []
        for reply, data in zip(replies, written, strict=True):
            connection = reply.connection
            if connection is not None:
                connection.transport.write(data)


# A buffer of our own, since asyncio's reads for a plain Protocol allocate 256 KiB each, which glibc may map and unmap
# every time (python/cpython#85451).
class Connection(asyncio.BufferedProtocol):
    """A connection that `dialler` makes, and the exchange on it."""

    __slots__ = (
        "_buffer",
        "_drain_left",
        "_drain_timer",
        "_framed",
        "_handler",
        "_owner",
        "_writing_paused",
        "is_open",
        "is_paused",
        "is_reused",
        "is_sent",
        "loop",
        "reply",
        "since",
        "transport",
        "unread",
    )

    transport: asyncio.Transport

    def __init__(self, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        self._owner = owner
        self._buffer = owner.buffer
        self.loop = loop
        self.unread: Unread | None = None
        """Made by `unread` when it is used again: most connections of a burst never are."""
        # The exchange under way.
        self.reply: Reply | None = None
        self.is_sent = True
        self.is_open = False
        self.is_reused = False
        # When it became idle, or was taken since.
        self.since = 0.0
        # Whether it reads no more for now: too much is unread.
        self.is_paused = False
        self._writing_paused = False
        # While the rest of a response is read that nobody wants.
        self._drain_left = 0
        self._drain_timer: asyncio.TimerHandle | None = None
        # Of a response that aiohttp reads: what reads it, and whether its end is beyond doubt.
        self._handler: ResponseHandler | None = None
        self._framed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open; called by the loop."""
        self.transport = cast(asyncio.Transport, transport)
        self.is_open = True
        keep_alive(transport)

    def is_of(self, owner: Owner) -> bool:
        """Whether it goes to this server."""
        return self._owner is owner

    # The request

    def ask(self, reply: Reply) -> None:
        """Begin an exchange; a body too large for one write is left to `Reply.send_large`."""
        owner = self._owner
        self.reply, reply.connection = reply, self
        head, body = reply.head, reply.sends
        reply.head = b""
        outbox = owner.outbox
        if body is not None:
            if len(body) > _PIECE:
                self.is_sent = False
                reply.is_large = True
                self.transport.write(head)
                reply.wake()
                return
            head += body
        if outbox.replies or not owner.is_quiet():
            outbox.put(reply, head, self.loop)
        else:
            self.transport.write(head)

    async def send_body(self, body: bytes, reply: Reply) -> None:
        """Write a large body as fast as it is taken, and no further once there is an answer."""
        view = memoryview(body)
        for start in range(0, len(body), _PIECE):
            while self._writing_paused and reply.is_awaited():
                await reply.changed()
            if not reply.is_awaited():
                # The rest is not wanted; the connection cannot be used again.
                return
            self.transport.write(view[start : start + _PIECE])
        self.is_sent = True

    def pause_writing(self) -> None:
        """The transport holds as much as it should; called by the loop."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """It takes more; called by the loop."""
        self._writing_paused = False
        if self.reply is not None:
            self.reply.wake()

    # The response

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where to read to; called by the loop."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take in what was read; called by the loop."""
        reply = self.reply
        if reply is None:
            # Idle: whatever this is, nobody asked for it.
            self.drop()
            return
        try:
            reply.feed(self._buffer[:nbytes].tobytes())
        except OddResponseError as odd:
            self._hand_over(odd, reply)
            return
        except MalformedResponseError:
            self.drop("sent something that is not HTTP")
            return
        if reply.is_ended:
            self._end(reply)
        elif not reply.status:
            return
        elif self._drain_timer is not None:
            reply.take()
            self._drain_left -= nbytes
            if self._drain_left < 0:
                self.drop()
        else:
            reply.unread += nbytes
            if reply.unread > _HIGH_WATER and not self.is_paused:
                self.is_paused = True
                self.transport.pause_reading()
        reply.wake()

    def taken(self) -> None:
        """What was unread has been taken."""
        if self.is_paused:
            self.is_paused = False
            self.transport.resume_reading()

    def drain(self, reply: Reply) -> None:
        """Read the rest of the response, within bounds, for the sake of the connection."""
        reply.take()
        self._drain_left = DRAIN_BYTES
        self._drain_timer = self.loop.call_later(DRAIN_SECONDS, self.drop)
        self.taken()

    def _end(self, reply: Reply) -> None:
        self._leave(reply)
        if self.is_paused:
            self.taken()
        owner = self._owner
        if reply.is_reusable and self.is_sent and not (reply.status in _NO_SERVER and owner.failed(self)):
            owner.give(self)
        else:
            self.drop()

    def _leave(self, reply: Reply) -> None:
        self.reply = reply.connection = None
        if self._drain_timer is not None:
            self._drain_timer.cancel()
            self._drain_timer = None

    # Its end

    def eof_received(self) -> None:
        """The server sends no more; called by the loop, which closes the connection then."""

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed; called by the loop."""
        self.drop("closed the connection" if exc is None else f"broke the connection ({type(exc).__name__})")

    def drop(self, why: str | None = None) -> None:
        """Close it at once; whoever waits for it fails. Harmless more than once."""
        reply = self.reply
        if reply is not None:
            self._leave(reply)
            where = self._owner.where
            if why is None:
                reply.failure = f"the connection to {where} was closed"
            elif reply.status:
                reply.failure = f"the connection broke in the middle of the response: {where} {why}"
            elif reply.has_begun:
                reply.failure = f"{where} {why} in the middle of its answer"
            else:
                reply.failure = f"{where} {why} before it answered"
                reply.is_stale = self.is_reused and self.loop.time() - self.since <= AT_ONCE
                if not self.is_reused:
                    self._owner.failed(self)
            if not self.loop.is_closed():
                reply.wake()
        if self.is_open:
            self.is_open = False
            self._owner.connections.discard(self)
            if self.loop.is_closed():
                # Nothing can be closed on a loop that has ended: the garbage collector closes the socket.
                return
            # Once: in early releases of Python 3.11 (seen in 3.11.2) a TLS transport closed twice has no abort.
            self.transport.abort()
            self._owner.closed()

    # What only aiohttp understands

    def _hand_over(self, odd: OddResponseError, reply: Reply) -> None:
        self._handler = handler = ResponseHandler(self.loop)
        handler.connection_made(self.transport)
        self._framed = odd.is_framed
        reply.is_odd = True
        handler.set_response_params(read_until_eof=True, **HEAD_BOUNDS)
        self.transport.set_protocol(handler)
        self.taken()
        if self._writing_paused:
            self._writing_paused = False
            handler.pause_writing()
        handler.data_received(odd.replay)
        reply.wake()

    async def odd_reply(self, reply: Reply) -> PayloadReply:
        """Return the response as aiohttp reads it. Raises what aiohttp's errors mean."""
        handler = self._handler
        failure: AimlasyncError
        try:
            if handler is None:
                raise ConnectionError
            while True:
                message, content = await handler.read()
                if not 100 <= message.code < 200 or message.code == 101:
                    break
        except FOREIGN as error:
            failure = translated(error, self._owner.url, fresh=True)
        else:
            reply.content = content
            # From within the parser, which must have ended before the connection changes hands.
            content.on_eof(functools.partial(self._take_back_soon, reply))
            return PayloadReply(message.code, message.raw_headers, content, reply.abort, self._owner.draining)
        self.drop()
        raise failure

    def _take_back_soon(self, reply: Reply) -> None:
        self.loop.call_soon(self._take_back, reply)

    def _take_back(self, reply: Reply) -> None:
        """aiohttp has read the response to its end."""
        if self.reply is not reply:
            return
        self._leave(reply)
        handler, self._handler = self._handler, None
        if handler is None or handler.should_close or handler.writing_paused or not (self._framed and self.is_sent):
            self.drop()
        else:
            self.transport.set_protocol(self)
            self._owner.give(self)


class Unread(Protocol):
    """A `select.poll` of one socket."""

    def poll(self, timeout: int, /) -> object:
        """Return something true if there is anything to be read; 0 waits for nothing."""


def unread(transport: asyncio.Transport) -> Unread:
    """Return what tells without the loop whether a connection can be read from.

    It is no function: the method of an object would be one more for the collector to look at, of each connection.
    """
    sock = transport.get_extra_info("socket")
    if sock is None or not hasattr(select, "poll"):
        return _Unknown()
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return poll


class _Unknown:
    __slots__ = ()

    def poll(self, _: int, /) -> bool:
        return False
