"""What every store of answers does, and the seal that makes a damaged value no value.

A key is 32 hexadecimal digits. A value is written behind a keyed digest of itself: what was cut, was written for
another key or by a format that this version does not know is not found. It imports the standard library alone.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Coroutine, Sequence
from hashlib import blake2b
from typing import Any, Protocol, TypeVar

from aimlasync.logs import log_of

T = TypeVar("T")

Clock = Callable[[], float]

_log = log_of("aimlasync.store")

SEAL = 16
"""Bytes before a value."""
_KEY = re.compile("[0-9a-f]{32}")


class Store(Protocol):
    """Where answers are kept; several processes may read and write at once.

    `get` and `put` raise OSError when the store cannot be reached; the caller goes on without it.
    """

    async def get(self, keys: Sequence[str], /) -> list[bytes | None]:
        """Return what is kept under each of `keys`, None for what is not."""

    async def put(self, key: str, value: bytes, /) -> None:
        """Keep `value`, which outlives this process once this returns; of two writers one wins."""

    async def close(self) -> None:
        """Close the connections of this event loop; a later call opens others."""


def checked(key: str) -> str:
    """Return `key`. Raises ValueError for what is no key: it could be a path out of a directory."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"{key!r} is no key of an answer, which has 32 hexadecimal digits")
    return key


def sealed(key: str, value: bytes) -> bytes:
    """Return what is written for a value."""
    return blake2b(value, digest_size=SEAL, key=key.encode()).digest() + value


def unsealed(key: str, data: bytes | None) -> bytes | None:
    """Return the value in what was read, None where it is torn, or was written for another key."""
    if data is None:
        return None
    value = data[SEAL:]
    return value if data == sealed(key, value) else None


def check_bounds(max_bytes: int | None, ttl: float | None) -> None:
    """Raise ValueError for bounds that nothing fits, TypeError for what is no number."""
    given: list[tuple[str, object, str]] = [("max_bytes", max_bytes, "bytes"), ("ttl", ttl, "seconds")]
    for name, bound, unit in given:
        if bound is not None and not isinstance(bound, (int, float)):
            raise TypeError(f"{name} must be a number of {unit}, not {bound!r}")
    if max_bytes is not None and not max_bytes > 0:
        raise ValueError(f"max_bytes must be above zero, not {max_bytes}")
    if ttl is not None and not ttl > 0:
        raise ValueError(f"ttl must be above zero, not {ttl}")


def is_over(written: float, ttl: float | None) -> bool:
    """Whether what was written then is too old. A time as far ahead comes of a clock that was wrong, and never ends."""
    return ttl is not None and abs(now() - written) >= ttl


async def if_reachable(store: Store, work: Coroutine[Any, Any, T]) -> T | None:
    """Return what a store answers, None where it fails, which is logged once for each store."""
    try:
        return await work
    except OSError as error:
        if repr(store) not in _unreached:
            _unreached.add(repr(store))
            _log.warning("%r failed (%s): what is asked again is paid again", store, error)
        return None


# Stores of which a warning was logged.
_unreached: set[str] = set()

# The time of values, in seconds since 1970: other processes compare it with their own.
now: Clock = time.time
