"""Requests sent by a transport of its own to a server of raw bytes, and what must be so when all of them have ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

from aimlasync.transport.base import RawReply
from aimlasync.transport.connection_pool import LeanTransport, Origin
from tests.support.servers import RawServer, Script, raw_server, until

BODY = b'{"id": "x"}'
SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
ANSWERED = Script(head=SIZED, end="keep")


class Exchanges:
    """Requests to one server."""

    def __init__(self, server: RawServer) -> None:
        self.server, self.transport = server, LeanTransport()

    def send(self, body: bytes = b"{}") -> Awaitable[RawReply]:
        return self.transport.send("POST", f"{self.server.base_url}/x", {}, {}, body, connect=60)

    async def read(self) -> bytes:
        """Send a request, and return the body of its response."""
        return await (await self.send()).read()

    @property
    def origin(self) -> Origin:
        (origin,) = self.transport._origins.values()
        return origin

    async def warmed(self, connections: int) -> None:
        """Make so many connections, each idle afterwards."""
        for reply in await asyncio.gather(*(self.send() for _ in range(connections))):
            await reply.read()
        assert len(self.origin._idle) == connections

    async def are_whole(self) -> None:
        """Nothing is held by anybody, and another request is answered."""
        origin = self.origin
        await until(lambda: len(origin._idle) == len(self.transport.connections))
        assert (origin._dialling, len(origin._queue), origin._deadlines._open) == (0, 0, set())
        self.server.scripts = [ANSWERED]
        assert await self.read() == BODY


@asynccontextmanager
async def exchanges(script: Script = ANSWERED) -> AsyncIterator[Exchanges]:
    async with raw_server(script) as server:
        made = Exchanges(server)
        try:
            yield made
        finally:
            await made.transport.close()
