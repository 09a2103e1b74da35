"""The client of one Redis, or of a cluster of them: which it is, the first key that lies elsewhere tells.

A node of a cluster refuses the keys of the other nodes. From the first such refusal on, the client is the cluster's,
which knows where each key lies. It imports nothing of this library.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

try:
    from redis.asyncio import Redis
    from redis.asyncio.cluster import RedisCluster
    from redis.asyncio.connection import parse_url
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import (
        AuthenticationError,
        ClusterCrossSlotError,
        ConnectionError,
        MovedError,
        RedisClusterException,
        RedisError,
        ResponseError,
    )
except ImportError:
    raise ImportError("aimlasync.redis needs its extra: pip install 'aimlasync[redis]'") from None

T = TypeVar("T")

FAILURES = (RedisError, RedisClusterException, OSError)
"""What a request to a Redis raises."""

# Characters of what a server says.
_MOST = 200


class RedisClient:
    """The client of the Redis at `url`, or of the cluster that it belongs to; one per event loop.

    A command without an answer for `timeout` seconds fails; `connect` are those for a connection. With `retry` it is
    sent once more where a connection was closed meanwhile. Raises ValueError for a URL that is not one of a Redis.
    """

    def __init__(self, url: str, *, timeout: float, connect: float, retry: bool) -> None:
        self._url = url
        self._options: dict[str, Any] = {
            "socket_timeout": timeout,
            "socket_connect_timeout": connect,
            "retry": Retry(NoBackoff(), int(retry), supported_errors=(ConnectionError,)),
            "decode_responses": False,
        }
        self._one: Any = Redis.from_url(url, **self._options)
        self._cluster: Any = None

    async def request(self, ask: Callable[[Any], Awaitable[T]]) -> T:
        """Return what `ask` returns, which is given the client of the redis package. Raises FAILURES."""
        if self._cluster is None:
            try:
                return await ask(self._one)
            except (MovedError, ClusterCrossSlotError):
                if self._cluster is None:
                    self._cluster = RedisCluster.from_url(self._url, **self._options)
        return await ask(self._cluster)

    async def close(self) -> None:
        """Close the connections; harmless more than once."""
        await self._one.aclose()
        if self._cluster is not None:
            await self._cluster.aclose()


def what_is_said(error: Exception) -> str:
    """Return the words with which a Redis refuses; of other errors no text of redis', which may have the URL."""
    cause = error.__cause__ or error.__context__
    if isinstance(error, AuthenticationError) or isinstance(cause, AuthenticationError):
        return "it asks for a password, or for another one; REDIS_URL may have it"
    if not isinstance(error, ResponseError):
        why = cause.strerror if isinstance(cause, OSError) else None
        return f"{type(error).__name__}: {why}" if why else type(error).__name__
    text = " ".join(str(error).split()).rstrip(".")
    return f"it refuses: {text if len(text) <= _MOST else f'{text[:_MOST]}...'}"


def refuses(error: Exception) -> bool:
    """Whether the server is there, and says no to this request."""
    return isinstance(error, ResponseError)


def is_url(url: str) -> bool:
    """Whether the redis package takes the URL."""
    try:
        parse_url(url)
    except ValueError:
        return False
    return True
