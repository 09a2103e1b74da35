"""One exchange: the request until it is written, and the response, as `RawReply` promises.

`Reply.wake` only signals: the waiter then reads status, pieces and failure itself. No exception travels through a
future, so none is logged as never retrieved, and none carries frames of another task. It may import `http11`, `base`,
`aiohttp_session`, and aiohttp; `connection_pool` makes it.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Generator
from contextvars import Context
from typing import TYPE_CHECKING, Any

import aiohttp

from aimlasync.errors import APIConnectionError, APITimeoutError
from aimlasync.plain_stores import plainly_stored
from aimlasync.transport.aiohttp_session import PayloadReply
from aimlasync.transport.base import MAX_BODY, RawReply, StaleConnectionError, gathered
from aimlasync.transport.http11 import ResponseReader

if TYPE_CHECKING:
    from aimlasync.transport.connection import Connection
    from aimlasync.transport.connection_pool import Origin


# It reads itself, awaits itself and is waited for itself: the collector looks at each object of the thousands of calls
# that may wait, and a reader, a coroutine with the locals of `send`, a future and its iterator would be four more of
# each, where a small generator is one.
@plainly_stored
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
    # While a task waits, this is its future. asyncio tells one by this name: None says that it is none now, so that
    # `ensure_future` and the like await a reply as they await anything else.
    _asyncio_future_blocking: bool | None = None
    # What the task does when it goes on, and in which context.
    _step: Callable[[Reply], object] | None = None
    _context: Context | None = None
    _cancelled: asyncio.CancelledError | None = None

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
                    # What `changed` does, without a generator of its own.
                    self._asyncio_future_blocking = True
                    yield self
        except BaseException:
            self.origin.leave(self)
            raise
        return self

    def is_awaited(self) -> bool:
        """Whether nothing is known of it yet."""
        return not self.status and self.failure is None and not self.is_odd

    @types.coroutine
    def changed(self) -> Generator[Any, None, None]:
        """Wait until `wake` was called; what has changed, if anything, is for the caller to see."""
        if self._step is not None:
            raise RuntimeError("another task is waiting for this response")
        self._asyncio_future_blocking = True
        yield self

    def wake(self) -> None:
        """Signal the waiter that something has changed."""
        if self._step is not None:
            self.origin.wakeups.add(self, self.origin.loop)

    def go_on(self) -> None:
        """Let the task that waits go on; called by `Wakeups`, and more than once where `wake` was."""
        step, self._step = self._step, None
        if step is not None and self._context is not None:
            self._context.run(step, self)

    # What a task asks of its future

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop of the exchange."""
        return self.origin.loop

    def add_done_callback(self, step: Callable[[Reply], object], *, context: Context | None = None) -> None:
        """Note what the task does when it goes on."""
        self._step, self._context = step, context

    def result(self) -> None:
        """End the wait. Raises the CancelledError of `cancel`."""
        self._asyncio_future_blocking = None
        if self._cancelled is not None:
            try:
                raise self._cancelled
            finally:
                self._cancelled = None

    def cancel(self, msg: object = None) -> bool:
        """Let the wait end with a CancelledError; return whether there is one, which was not to end so before.

        The first message stays: anyio tells its own cancellations by theirs.
        """
        if self._step is None or self._cancelled is not None:
            return False
        self._cancelled = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        self.wake()
        return True

    # What is awaited

    def fail(self, failure: str | APIConnectionError) -> None:
        """There will be no more of it."""
        self.failure = failure
        self.wake()

    def ring(self) -> None:
        """There was no connection in time; called by `Deadlines`."""
        if self.origin.has_no_room:
            # That is no matter of the server's: it waits as long as its call may.
            return
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
