"""Makes connections to one server: DNS, happy eyeballs and TLS are aiohttp's, the protocol on them is the caller's.

aiohttp's connector would count each connection and keep five objects beside it, which thousands of open connections
make dear: here it only connects. Where neither a choice of addresses nor TLS is to be made, the event loop connects by
itself, for half of what a dial costs otherwise. It may import aiohttp.
"""

from __future__ import annotations

import asyncio
import math
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

_UNBOUNDED = aiohttp.ClientTimeout(total=None)
KEPT = 300
"""Seconds for which the addresses of a name are kept."""


class Resolver(AbstractResolver):
    """aiohttp's resolver, where a name without an address, and a text that is no name, are failed look-ups."""

    def __init__(self) -> None:
        self._resolver = aiohttp.DefaultResolver()
        # Of the name that was looked up last: its address, if it has but one, and until when that is taken for true.
        self.only: str | None = None
        self.until = 0.0

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
        self.only = found[0]["host"] if len(found) == 1 else None
        self.until = time.monotonic() + KEPT
        return found

    async def close(self) -> None:
        """Close aiohttp's resolver."""
        await self._resolver.close()


class Dialler(aiohttp.TCPConnector):
    """Connects to `url`; `protocol` makes the protocol of each connection."""

    def __init__(self, url: URL, protocol: Callable[[], asyncio.BaseProtocol]) -> None:
        self._names = Resolver()
        super().__init__(limit=0, ttl_dns_cache=KEPT, resolver=self._names)
        self._resolver_owner = True
        factory: Any = protocol
        self._factory = factory
        # What aiohttp needs to know of whom to dial; never sent.
        self._request = aiohttp.ClientRequest("GET", url, loop=self._loop)
        self._port = url.port or 0
        self._is_plain = url.scheme == "http"
        with suppress(ValueError):
            self._names.only, self._names.until = str(ip_address(url.host or "")), math.inf

    async def dial(self) -> Any:
        """Return the protocol of a new connection. Raises `aiohttp_session.FOREIGN`."""
        address = self._names.only
        if address is None or not self._is_plain or time.monotonic() >= self._names.until:
            return await self._create_connection(self._request, [], _UNBOUNDED)
        try:
            _, protocol = await self._loop.create_connection(self._factory, address, self._port)
        except OSError as error:
            raise aiohttp.ClientConnectorError(self._request.connection_key, error) from error
        return protocol
