"""Makes connections to one server: DNS, happy eyeballs and TLS are aiohttp's, the protocol on them is the caller's.

aiohttp's connector would count each connection and keep five objects beside it, which thousands of open connections
make dear: here it only connects. It may import aiohttp.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

_UNBOUNDED = aiohttp.ClientTimeout(total=None)


class Resolver(AbstractResolver):
    """aiohttp's resolver, where a name without an address, and a text that is no name, are failed look-ups."""

    def __init__(self) -> None:
        self._resolver = aiohttp.DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a host, at least one. Raises OSError."""
        try:
            found = await self._resolver.resolve(host, port, family)
        except UnicodeError:
            found = None
        if found is None:
            raise OSError(None, "that is no name of a host")
        if not found:
            raise OSError(None, "the name has no address")
        return found

    async def close(self) -> None:
        """Close aiohttp's resolver."""
        await self._resolver.close()


class Dialler(aiohttp.TCPConnector):
    """Connects to `url`; `protocol` makes the protocol of each connection."""

    def __init__(self, url: URL, protocol: Callable[[], asyncio.BaseProtocol]) -> None:
        super().__init__(limit=0, ttl_dns_cache=300, resolver=Resolver())
        self._resolver_owner = True
        factory: Any = protocol
        self._factory = factory
        # What aiohttp needs to know of whom to dial; never sent.
        self._request = aiohttp.ClientRequest("GET", url, loop=self._loop)

    async def dial(self) -> Any:
        """Return the protocol of a new connection. Raises `aiohttp_session.FOREIGN`."""
        return await self._create_connection(self._request, [], _UNBOUNDED)
