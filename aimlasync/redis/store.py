"""Good answers in Redis or Valkey, by what was asked: the store for more rows than a file system likes to hold.

Law: a `aimlasync.bulk.Store`. An answer is one string under PREFIX:answer:KEY, written at once and forgotten after
`expires`. A server that is gone or hangs costs one short wait, and is then left alone for a while; what could have been
found is asked again, and a warning says so.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit, urlunsplit

from aimlasync.bulk.answer_store import sealed, unsealed

try:
    from redis.asyncio import BlockingConnectionPool, Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import ConnectionError, RedisError
except ImportError:
    raise ImportError("aimlasync.redis needs the redis package: pip install 'aimlasync[redis]'") from None

T = TypeVar("T")

DAY = 86400.0
_TIMEOUT = 2.0
# How long a server that failed is left alone.
_PAUSE = 5.0
# Connections of one process at once; calls beyond that wait for one.
_MAX_CONNECTIONS = 16


class RedisStore:
    """A Redis or Valkey that all machines reach: `RedisStore("redis://host:6379/0")`.

    `url` None is that of REDIS_URL in the environment of the process that asks. A URL with a password is never pickled,
    so that on several machines it comes from there. `expires` are the seconds after which an answer is forgotten, None
    never. Raises ValueError for a URL that is none.
    """

    def __init__(self, url: str | None = None, *, prefix: str = "aimlasync", expires: float | None = 7 * DAY) -> None:
        if url is not None and urlsplit(url).scheme not in ("redis", "rediss", "unix"):
            raise ValueError("the URL of a Redis begins with redis://, rediss:// or unix://")
        if expires is not None and not expires >= 1:
            raise ValueError(f"expires must be a second at least, not {expires}")
        self._url = url
        self._prefix = prefix
        self._expires = expires
        # By event loop, to which its connections belong; and until when the server is left alone.
        self._clients: dict[asyncio.AbstractEventLoop, Redis] = {}
        self._away = 0.0

    def __repr__(self) -> str:
        return f"RedisStore({_shown(self._url)})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._url is not None and "@" in self._url:
            raise TypeError("a password is never pickled; leave url= out, and set REDIS_URL where rows are asked about")
        return _made, (self._url, self._prefix, self._expires)

    async def get(self, keys: Sequence[str], /) -> list[bytes | None]:
        """Return what is kept under each of `keys`, None for what is not. Raises OSError."""
        if not keys:
            return []
        names = [self._name(key) for key in keys]
        found = cast("list[bytes | None]", await self._reached(self._client().mget(names)))
        return [unsealed(key, data) for key, data in zip(keys, found, strict=True)]

    async def put(self, key: str, value: bytes, /) -> None:
        """Keep `value`. Raises OSError."""
        expires = None if self._expires is None else int(self._expires)
        await self._reached(self._client().set(self._name(key), sealed(key, value), ex=expires))

    async def close(self) -> None:
        """Close the connections of this event loop; the next call opens others."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    def _name(self, key: str) -> str:
        return f"{self._prefix}:answer:{key}"

    def _client(self) -> Redis:
        if time.monotonic() < self._away:
            raise OSError("it failed a moment ago")
        for loop in [loop for loop in self._clients if loop.is_closed()]:
            del self._clients[loop]
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            url = self._url or os.environ.get("REDIS_URL")
            if not url:
                raise OSError("no URL: set REDIS_URL")
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=_MAX_CONNECTIONS,
                timeout=None,
                socket_timeout=_TIMEOUT,
                socket_connect_timeout=_TIMEOUT,
                # Once, for a connection that a restarted server has forgotten; never for one that hangs.
                retry=Retry(NoBackoff(), 1, supported_errors=(ConnectionError,)),
            )
            self._clients[loop] = Redis.from_pool(pool)
        return self._clients[loop]

    async def _reached(self, call: Awaitable[T]) -> T:
        try:
            return await call
        except (RedisError, OSError) as error:
            self._away = time.monotonic() + _PAUSE
            # Not what it says: a URL is in some of them.
            what = type(error).__name__
        raise OSError(what)


def _made(url: str | None, prefix: str, expires: float | None) -> RedisStore:
    return RedisStore(url, prefix=prefix, expires=expires)


def _shown(url: str | None) -> str:
    if url is None:
        return "REDIS_URL"
    parts = urlsplit(url)
    return repr(urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")))
