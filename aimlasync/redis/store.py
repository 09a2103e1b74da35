"""`RedisStore`: answers of bulk jobs in Redis or Valkey, keyed by the request.

It implements `aimlasync.bulk.Store`, for more answers than a file system can hold well. An answer is one string under
PREFIX:answer:KEY, written in one command, and expires after `expires` seconds. A server that is down costs one short
wait, and is then not asked for a while; the job asks the model again instead, and logs a warning. It may import
`bulk.answer_store`.
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
# Seconds for which a server that failed is not asked.
_PAUSE = 5.0
# The connections of one process; calls beyond that wait for one.
_MAX_CONNECTIONS = 16


class RedisStore:
    """A store in a Redis or Valkey that all machines reach: `RedisStore("redis://host:6379/0")`.

    With `url` None, each process reads REDIS_URL from its environment. A URL with a password is never pickled, so on
    several machines use REDIS_URL. `expires` are the seconds after which an answer expires, None for never.
    Raises ValueError for an invalid URL or expiry.
    """

    def __init__(self, url: str | None = None, *, prefix: str = "aimlasync", expires: float | None = 7 * DAY) -> None:
        if url is not None and urlsplit(url).scheme not in ("redis", "rediss", "unix"):
            raise ValueError("url must begin with redis://, rediss:// or unix://")
        if expires is not None and not expires >= 1:
            raise ValueError(f"expires must be at least 1 second, not {expires}")
        self._url = url
        self._prefix = prefix
        self._expires = expires
        # One client for each event loop, to which its connections belong; and until when the server is not asked.
        self._clients: dict[asyncio.AbstractEventLoop, Redis] = {}
        self._away = 0.0

    def __repr__(self) -> str:
        return f"RedisStore({_shown(self._url)})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._url is not None and "@" in self._url:
            raise TypeError("a URL with a password is never pickled; leave url= out, and set REDIS_URL on each machine")
        return _made, (self._url, self._prefix, self._expires)

    async def get(self, keys: Sequence[str], /) -> list[bytes | None]:
        """Return the value under each of `keys`, None where there is none. Raises OSError."""
        if not keys:
            return []
        names = [self._name(key) for key in keys]
        found = cast("list[bytes | None]", await self._reached(self._client().mget(names)))
        return [unsealed(key, data) for key, data in zip(keys, found, strict=True)]

    async def put(self, key: str, value: bytes, /) -> None:
        """Store `value` under `key`. Raises OSError."""
        expires = None if self._expires is None else int(self._expires)
        await self._reached(self._client().set(self._name(key), sealed(key, value), ex=expires))

    async def close(self) -> None:
        """Close the connections of this event loop; a later call opens new ones."""
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
                # One retry, for a connection that ended when the server restarted; none for a server that hangs.
                retry=Retry(NoBackoff(), 1, supported_errors=(ConnectionError,)),
            )
            self._clients[loop] = Redis.from_pool(pool)
        return self._clients[loop]

    async def _reached(self, call: Awaitable[T]) -> T:
        try:
            return await call
        except (RedisError, OSError) as error:
            self._away = time.monotonic() + _PAUSE
            # The type of the error, not its text: some texts hold the URL.
            what = type(error).__name__
        raise OSError(what)


def _made(url: str | None, prefix: str, expires: float | None) -> RedisStore:
    return RedisStore(url, prefix=prefix, expires=expires)


def _shown(url: str | None) -> str:
    if url is None:
        return "REDIS_URL"
    parts = urlsplit(url)
    return repr(urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")))
