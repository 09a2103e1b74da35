"""The response of one exchange on a connection, as `RawReply` promises: its head, and what was not read of its body.

`Reply.wake` only signals: the waiter then reads status, pieces and failure itself. No exception travels through a
future, so none is logged as never retrieved, and none carries frames of another task. It may import `http11`, `base`,
`aiohttp_session`, and aiohttp; `connection` makes it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp

from aimlasync.errors import APIConnectionError
from aimlasync.transport.aiohttp_session import PayloadReply
from aimlasync.transport.base import MAX_BODY, StaleConnectionError, gathered
from aimlasync.transport.http11 import ResponseReader

if TYPE_CHECKING:
    from aimlasync.transport.connection import Connection


# It reads itself: what it is made of is one object of each call that waits.
class Reply(ResponseReader, eq=False, gc=True, kw_only=True):
    """The response of one exchange, as `RawReply` promises."""

    connection: Connection | None
    """None once the connection has gone its way."""
    loop: asyncio.AbstractEventLoop
    unread: int = 0
    failure: str | None = None
    """Why there will be no more of it."""
    is_stale: bool = False
    is_odd: bool = False
    """Whether aiohttp reads it, or what is left of it."""
    content: aiohttp.StreamReader | None = None
    _rest: PayloadReply | None = None
    _waiter: asyncio.Future[None] | None = None

    def is_awaited(self) -> bool:
        """Whether nothing is known of it yet."""
        return not self.status and self.failure is None and not self.is_odd

    def changed(self) -> asyncio.Future[None]:
        """Return what `wake` ends: await it to wait until something has happened."""
        if self._waiter is not None and not self._waiter.done():
            raise RuntimeError("another task is waiting for this response")
        waiter: asyncio.Future[None]
        # What `create_future` of every loop makes, without its call.
        self._waiter = waiter = asyncio.Future(loop=self.loop)
        return waiter

    def wake(self) -> None:
        """Signal the waiter that something has changed."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def failed(self) -> APIConnectionError:
        """The error that the failure is."""
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
        if self.content is not None and not self.content.is_eof() and self.content.exception() is None:
            self.content.set_exception(aiohttp.ClientConnectionError("closed"))

    def finish(self) -> None:
        """Give the connection back once the rest of the body, which nobody wants, has been read."""
        if self.connection is not None:
            if self.is_odd:
                self.abort()
            else:
                self.connection.drain(self)
