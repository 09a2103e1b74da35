"""A client's loop and transport, from its first call until it is closed.

Law: one client, one loop: sockets and futures belong to the loop that made them. Mutable: the loop, the transport,
the observer, closed.
"""

from __future__ import annotations

import asyncio

from aimlasync.client.deadlines import Deadlines
from aimlasync.client.observer import Observer
from aimlasync.errors import ClientClosedError
from aimlasync.transport.aiohttp_session import AiohttpTransport
from aimlasync.transport.base import Transport
from aimlasync.transport.connection_pool import LeanTransport


class Life:
    """A client's loop and transport, from its first call until it is closed."""

    __slots__ = ("_loop", "_owned", "_proxy", "_transport", "closed", "deadlines", "observer")

    def __init__(self, transport: Transport | None, proxy: str | None) -> None:
        # Made with the first call, in its loop; a transport that the user gave stays the user's to close.
        self._transport = transport
        self._owned = transport is None
        self._proxy = proxy
        self._loop: asyncio.AbstractEventLoop | None = None
        self.closed = False
        # What watches the calls; here, since all copies of a client share it.
        self.observer: Observer | None = None
        # Made with the loop.
        self.deadlines: Deadlines

    def enter(self) -> tuple[asyncio.AbstractEventLoop, Transport]:
        """Return the loop and the transport. Raises ClientClosedError when closed, RuntimeError in another loop."""
        loop = asyncio.get_running_loop()
        if self.closed:
            raise ClientClosedError("this client is closed; make a new one")
        if self._loop is None:
            self._loop = loop
            self.deadlines = Deadlines(loop)
        elif self._loop is not loop:
            raise RuntimeError("this client belongs to another event loop; make one client per loop")
        if self._transport is None:
            # Proxies are aiohttp's business.
            self._transport = LeanTransport() if self._proxy is None else AiohttpTransport(proxy=self._proxy)
        return loop, self._transport

    def now(self) -> float:
        """Return the loop's time, 0.0 before there is a loop."""
        return 0.0 if self._loop is None else self._loop.time()

    async def close(self) -> None:
        """End; harmless more than once."""
        if not self.closed:
            self.closed = True
            if self._owned and self._transport is not None:
                await self._transport.close()
