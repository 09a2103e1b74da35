"""Makes connections to one server: happy eyeballs and TLS are aiohttp's, the protocol on them is the caller's.

aiohttp's connector would count each connection and keep five objects beside it, which thousands of open connections
make dear: here it only connects. Where neither a choice of addresses nor TLS is to be made, `connecting` does that, for
a third of what a dial costs otherwise. It may import `connecting`, `resolver` and aiohttp.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from aimlasync.transport.connecting import connected
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
        self._host, self._port, self._is_plain = url.host or "", url.port or 0, url.scheme == "http"
        self._addresses = Addresses(url.raw_host or "", self._port) if is_name(self._host) else None

    async def dial(self, timeout: float | None) -> Any:
        """Return the protocol of a new connection; the caller ends this after `timeout` seconds.

        Raises `aiohttp_session.FOREIGN`.
        """
        addresses = self._addresses
        if addresses is None:
            return await self._connect(self._host, None)
        try:
            # aiohttp asks for them before it waits for anything.
            self._given.addresses = order = await addresses.in_order()
        except OSError as error:
            raise aiohttp.ClientConnectorDNSError(self._request.connection_key, error) from None
        first = order[0]["host"]
        try:
            if len(order) == 1:
                return await self._connect(first, None)
            # An address that takes connections and says nothing more leaves time for the next one.
            connection = await self._connect(None, None if timeout is None else timeout / 2)
        except (OSError, aiohttp.ClientError):
            addresses.none_answers()
            raise
        if _peer(connection.transport) != first:
            # Another one was faster.
            addresses.failed(first)
        return connection

    async def _connect(self, only: str | None, seconds: float | None) -> Any:
        """Connect to the `only` address, or to one of those given, each of which has so many seconds."""
        # Not link-local addresses: where an interface must be named and is not, uvloop would wait for ever.
        if only is None or not self._is_plain or only.startswith("fe80:"):
            bound = _UNBOUNDED if seconds is None else aiohttp.ClientTimeout(total=None, sock_connect=seconds)
            return await self._create_connection(self._request, [], bound)
        try:
            sock = await connected(self._loop, only, self._port)
        except OSError as error:
            raise aiohttp.ClientConnectorError(self._request.connection_key, error) from error
        try:
            _, protocol = await self._loop.create_connection(self._factory, sock=sock)
        except BaseException:
            sock.close()
            raise
        return protocol

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
