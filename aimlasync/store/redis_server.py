"""Stores answers in Redis or Valkey by a hash of their request, for more rows than a file system holds well.

It implements `Store`. An answer is one string under PREFIX:answer:KEY, which expires after `expires`
seconds. After a request that the server did not answer, the store is not used for some seconds; a job then asks the
model for rows whose answers it did not find, and warns. A server that refuses to write, as one that is full, is still
read. It may import `protocol` and `redis_client`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit, urlunsplit

from aimlasync.store.protocol import sealed, unsealed
from aimlasync.store.redis_client import FAILURES, RedisClient, is_url, refuses, what_is_said

T = TypeVar("T")

DAY = 86400.0
_TIMEOUT = 2.0
# Seconds for which a server that failed is not used.
_PAUSE = 5.0
# Requests of one process at once, each on a connection; further ones wait.
_MAX_CONNECTIONS = 16


class RedisStore:
    """A store in a Redis or Valkey that all machines reach: `RedisStore("redis://host:6379/0")`.

    With `url` None, each process takes it from REDIS_URL in its environment. A store whose URL has a password cannot be
    pickled, so on several machines such a URL must come from there. An answer expires after `expires` seconds, or never
    when it is None. Raises ValueError for a URL that is not one of a Redis, or for less than a second.
    """

    def __init__(self, url: str | None = None, *, prefix: str = "aimlasync", expires: float | None = 7 * DAY) -> None:
        if url is not None and not is_url(url):
            raise ValueError("the URL of a Redis begins with redis://, rediss:// or unix://, as in redis://host:6379/0")
        if expires is not None and not expires >= 1:
            raise ValueError(f"expires must be a second at least, not {expires}")
        self._url = url
        self._prefix = prefix
        self._expires = expires
        # One for each event loop, because connections belong to one.
        self._clients: dict[asyncio.AbstractEventLoop, tuple[RedisClient, asyncio.Semaphore]] = {}
        # The monotonic time until which the server is not used.
        self._paused_until = 0.0

    def __repr__(self) -> str:
        return f"RedisStore({_shown(self._url)})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._url is not None and "@" in self._url:
            raise TypeError("a password is never pickled; leave url= out, and set REDIS_URL where rows are asked about")
        return _unpickle, (self._url, self._prefix, self._expires)

    async def get(self, keys: Sequence[str], /) -> list[bytes | None]:
        """Return the answer under each of `keys`, None for an answer that is not stored. Raises OSError."""
        if not keys:
            return []
        names = [self._name(key) for key in keys]
        found = await self._request(lambda redis: _read(redis, names))
        return [unsealed(key, data) for key, data in zip(keys, found, strict=True)]

    async def put(self, key: str, value: bytes, /) -> None:
        """Store `value` under `key`. Raises OSError."""
        expires = None if self._expires is None else int(self._expires)
        await self._request(lambda redis: redis.set(self._name(key), sealed(key, value), ex=expires))

    async def close(self) -> None:
        """Close the connections of this event loop; the next request opens new ones."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client[0].close()

    def _name(self, key: str) -> str:
        return f"{self._prefix}:answer:{key}"

    def _client(self) -> tuple[RedisClient, asyncio.Semaphore]:
        for loop in [loop for loop in self._clients if loop.is_closed()]:
            del self._clients[loop]
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            url = self._url or os.environ.get("REDIS_URL")
            if not url or not is_url(url):
                raise OSError("no URL of a Redis: set REDIS_URL, as in redis://host:6379/0")
            # One retry for a connection that a restart of the server has closed; none for a server that hangs.
            client = RedisClient(url, timeout=_TIMEOUT, connect=_TIMEOUT, retry=True)
            self._clients[loop] = client, asyncio.Semaphore(_MAX_CONNECTIONS)
        return self._clients[loop]

    async def _request(self, ask: Callable[[Any], Awaitable[T]]) -> T:
        redis, turn = self._client()
        async with turn:
            # Asked after the wait for a turn: whoever waited does not wait for a dead server as well.
            if time.monotonic() < self._paused_until:
                raise OSError("it failed a moment ago")
            try:
                return await redis.request(ask)
            except FAILURES as error:
                if not refuses(error):
                    self._paused_until = time.monotonic() + _PAUSE
                reason = what_is_said(error)
        raise OSError(reason)


async def _read(redis: Any, names: Sequence[str]) -> list[bytes | None]:
    """Return the strings of `names`, which in a cluster lie on several nodes."""
    read = getattr(redis, "mget_nonatomic", redis.mget)
    return cast("list[bytes | None]", await read(names))


def _unpickle(url: str | None, prefix: str, expires: float | None) -> RedisStore:
    return RedisStore(url, prefix=prefix, expires=expires)


def _shown(url: str | None) -> str:
    if url is None:
        return "REDIS_URL"
    parts = urlsplit(url)
    return repr(urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")))
