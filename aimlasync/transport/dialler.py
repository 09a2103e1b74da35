"""Makes connections to one server: happy eyeballs and TLS are aiohttp's, the protocol on them is the caller's.

aiohttp's connector would count each connection and keep five objects beside it, which thousands of open connections
make dear: here it only connects. It may import `resolver` and aiohttp.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from aimlasync.transport.resolver import Addresses, is_name

_UNBOUNDED = aiohttp.ClientTimeout(total=None)


class _Given(AbstractResolver):
    """Finds what was put here in the same turn of the loop."""

    addresses: list[ResolveResult]

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return self.addresses

    async def close(self) -> None:
        pass


class Dialler(aiohttp.TCPConnector):
    """Connects to `url`; `protocol` makes the protocol of each connection."""

    def __init__(self, url: URL, protocol: Callable[[], asyncio.BaseProtocol]) -> None:
        self._given = _Given()
        super().__init__(limit=0, use_dns_cache=False, resolver=self._given)
        factory: Any = protocol
        self._factory = factory
        # What aiohttp needs to know of whom to dial; never sent.
        self._request = aiohttp.ClientRequest("GET", url, loop=self._loop)
        host = url.raw_host or ""
        self._addresses = Addresses(host, url.port or 0) if is_name(host) else None

    async def dial(self, timeout: float | None) -> Any:
        """Return the protocol of a new connection; the caller ends this after `timeout` seconds.

        Raises `aiohttp_session.FOREIGN`.
        """
        addresses = self._addresses
        if addresses is None:
            return await self._create_connection(self._request, [], _UNBOUNDED)
        try:
            self._given.addresses = order = await addresses.in_order()
        except OSError as error:
            raise aiohttp.ClientConnectorDNSError(self._request.connection_key, error) from None
        bound = _UNBOUNDED
        if timeout is not None and len(order) > 1:
            # An address that takes connections and says nothing more leaves time for the next one.
            bound = aiohttp.ClientTimeout(total=None, sock_connect=timeout / 2)
        try:
            connection = await self._create_connection(self._request, [], bound)
        except (OSError, aiohttp.ClientError):
            addresses.none_answers()
            raise
        if len(order) > 1 and _peer(connection.transport) != order[0]["host"]:
            # Another one was faster.
            addresses.failed(order[0]["host"])
        return connection

    def failed(self, transport: asyncio.Transport) -> bool:
        """Note that what is at the other end of a connection does not work; return whether another address may."""
        return self._addresses is not None and self._addresses.failed(_peer(transport))

    async def end(self) -> None:
        """Look up and dial nothing any more."""
        if self._addresses is not None:
            await self._addresses.close()
        await self.close()


def _peer(transport: asyncio.BaseTransport | None) -> str:
    """Return the address at the other end, "" where that is not known."""
    name = None if transport is None else transport.get_extra_info("peername")
    return str(name[0]) if name else ""
