"""One exchange: the request until it is written, and the response, as `RawReply` promises.

`Reply.wake` only signals: the waiter then reads status, pieces and failure itself. No exception travels through a
future, so none is logged as never retrieved, and none carries frames of another task. It may import `http11`, `base`,
`aiohttp_session`, and aiohttp; `connection_pool` makes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import aiohttp

from aimlasync.errors import APIConnectionError, APITimeoutError
from aimlasync.transport.aiohttp_session import PayloadReply
from aimlasync.transport.base import MAX_BODY, RawReply, StaleConnectionError, gathered
from aimlasync.transport.http11 import ResponseReader

if TYPE_CHECKING:
    from aimlasync.transport.connection import Connection
    from aimlasync.transport.connection_pool import Origin


# It reads itself and awaits itself: the collector looks at each object of the thousands of calls that may wait, and a
# reader and a coroutine with the locals of `send` would be two more of each, where a small generator is one.
class Reply(ResponseReader, eq=False, gc=True, kw_only=True):
    """One exchange: await it to send its request, once; its head is in then, and it is as `RawReply` promises."""

    origin: Origin
    connection: Connection | None = None
    """None before there is one, and once it has gone its way."""
    connect: float | None = None
    """Seconds that it may take to make a connection."""
    unread: int = 0
    failure: str | APIConnectionError | None = None
    """Why there will be no more of it."""
    is_stale: bool = False
    is_odd: bool = False
    """Whether aiohttp reads it, or what is left of it."""
    content: aiohttp.StreamReader | None = None
    fresh: bool = False
    """Whether it wants a connection that was not used before."""
    # The request: its head until there is a connection, and its body, which its call holds as well.
    head: bytes = b""
    sends: bytes | None = None
    is_large: bool = False
    """Whether the body is yet to be written, being too large for one write."""
    may_dial: bool = False
    """Whether whoever asked may make a connection for it now."""
    when: float = float("inf")
    """When it is too late for a connection."""
    _rest: PayloadReply | None = None
    _waiter: asyncio.Future[None] | None = None

    def __await__(self) -> Generator[Any, None, RawReply]:
        """Send the request, and return what its body is read from; who leaves before gives back what it holds."""
        if not self.head:
            raise RuntimeError("a request is sent once; make another one")
        try:
            self.origin.ask(self)
            while not self.status:
                if self.failure is not None:
                    raise self.failed()
                if self.may_dial:
                    yield from self.origin.dial_for(self).__await__()
                elif self.is_large:
                    yield from self.send_large().__await__()
                elif self.is_odd:
                    return (yield from self.odd().__await__())
                else:
                    yield from self.changed()
        except BaseException:
            self.origin.leave(self)
            raise
        return self

    def is_awaited(self) -> bool:
        """Whether nothing is known of it yet."""
        return not self.status and self.failure is None and not self.is_odd

    def changed(self) -> asyncio.Future[None]:
        """Return what `wake` ends: await it to wait until something has happened."""
        if self._waiter is not None and not self._waiter.done():
            raise RuntimeError("another task is waiting for this response")
        waiter: asyncio.Future[None]
        # What `create_future` of every loop makes, without its call.
        self._waiter = waiter = asyncio.Future(loop=self.origin.loop)
        return waiter

    def wake(self) -> None:
        """Signal the waiter that something has changed."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def fail(self, failure: str | APIConnectionError) -> None:
        """There will be no more of it."""
        self.failure = failure
        self.wake()

    def ring(self) -> None:
        """There was no connection in time; called by `Deadlines`."""
        what = f"no connection to {self.origin.where} within the connect timeout"
        self.fail(APITimeoutError(what, phase="connect", billed=False))

    async def send_large(self) -> None:
        """Write a body that is too large for one write."""
        self.is_large = False
        if self.sends is not None and self.connection is not None:
            await self.connection.send_body(self.sends, self)

    async def odd(self) -> PayloadReply:
        """Return the response as aiohttp reads it."""
        if self.connection is None:
            raise self.failed()
        return await self.connection.odd_reply(self)

    def failed(self) -> APIConnectionError:
        """The error that the failure is."""
        if isinstance(self.failure, APIConnectionError):
            return self.failure
        kind = StaleConnectionError if self.is_stale else APIConnectionError
        return kind(self.failure or "the connection was closed")

    async def read(self, max_bytes: int = MAX_BODY) -> bytes:
        """Return the whole body; see `RawReply.read`."""
        if self.is_ended and self.more is None and len(self.body) <= max_bytes:
            # Small bodies are usually here already.
            body, self.body = self.body, b""
            return body
        return await gathered(self, max_bytes)

    async def read_some(self) -> bytes:
        """Return what has arrived; see `RawReply.read_some`."""
        while not self.body:
            if self.is_ended:
                return b""
            if self.failure is not None:
                raise self.failed()
            if self.is_odd:
                if self._rest is None:
                    assert self.connection is not None
                    self._rest = await self.connection.odd_reply(self)
                return await self._rest.read_some()
            await self.changed()
        data = self.take()
        self.unread = 0
        if self.connection is not None and self.connection.is_paused:
            self.connection.taken()
        return data

    def abort(self) -> None:
        """Drop the connection, if it is still this response's; a pending read fails."""
        if self.connection is not None:
            self.connection.drop()
        elif self.failure is None and not self.is_ended:
            # It has none yet, and wants none any more.
            self.failure = "the connection was closed"
        if self.content is not None and not self.content.is_eof() and self.content.exception() is None:
            self.content.set_exception(aiohttp.ClientConnectionError("closed"))

    def finish(self) -> None:
        """Give the connection back once the rest of the body, which nobody wants, has been read."""
        if self.connection is not None:
            if self.is_odd:
                self.abort()
            else:
                self.connection.drain(self)
