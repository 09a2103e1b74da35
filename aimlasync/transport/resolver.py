"""The addresses behind the name of a server, in the order in which they are dialled.

The system looks a name up, by aiohttp's resolver. A name may have several addresses, each of which may be another
machine: they take turns, and one that does not answer is dialled last for a while. A name of which no address answers
is looked up again, since the server may have moved. It may import aiohttp.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

KNOWN = 300
"""Seconds for which the addresses of a name are kept."""
# The same where none of them answers.
_KNOWN_IN_VAIN = 1.0
# Seconds for which an address that does not answer is dialled last.
_LAST = 10.0


def is_name(host: str) -> bool:
    """Whether a host must be looked up."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False


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


class Addresses:
    """What is known of one name. Its mutable state: the addresses, whose turn it is, and which do not answer."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._resolver = Resolver()
        self._loop = asyncio.get_running_loop()
        self._found: list[ResolveResult] = []
        self._found_at = self._known_until = float("-inf")
        self._turn = 0
        # Address -> until when it is dialled last (loop time).
        self._silent: dict[str, float] = {}
        # The look-up under way, for all who wait for it.
        self._look_up: asyncio.Task[list[ResolveResult]] | None = None

    async def in_order(self) -> list[ResolveResult]:
        """Return all addresses, the one whose turn it is first. Raises OSError."""
        if self._loop.time() >= self._known_until:
            if self._look_up is None:
                self._look_up = self._loop.create_task(self._resolver.resolve(self._host, self._port, socket.AF_UNSPEC))
                self._look_up.add_done_callback(self._looked_up)
            await asyncio.shield(self._look_up)
        found = self._found
        if len(found) > 1:
            turn = self._turn % len(found)
            self._turn = turn + 1
            found = found[turn:] + found[:turn]
            if self._silent:
                found.sort(key=self._is_silent)
        return found

    def _looked_up(self, look_up: asyncio.Task[list[ResolveResult]]) -> None:
        self._look_up = None
        if not look_up.cancelled() and look_up.exception() is None:
            self._found, self._found_at = look_up.result(), self._loop.time()
            self._known_until = self._found_at + KNOWN
            self._silent.clear()

    def _is_silent(self, address: ResolveResult) -> bool:
        return self._silent.get(address["host"], 0.0) > self._loop.time()

    def failed(self, address: str) -> bool:
        """Note that an address does not answer; return whether there is another one, of which that is not known."""
        if len(self._found) < 2:
            return False
        self._silent[address] = self._loop.time() + _LAST
        return not all(map(self._is_silent, self._found))

    def none_answers(self) -> None:
        """Note that no address took a connection: they are looked up again, once a second at most."""
        self._known_until = min(self._known_until, self._found_at + _KNOWN_IN_VAIN)

    async def close(self) -> None:
        """End a look-up under way as if its callers had been cancelled."""
        if self._look_up is not None:
            self._look_up.cancel()
        await self._resolver.close()
