"""From a path or a URL to a store of answers.

What a text names is decided by its form alone, so that all processes of a job decide alike; what cannot be is refused
here, before anything is asked. It may import the stores, those of other packages when they are named.
"""

from __future__ import annotations

import os
import stat

from aimlasync.addresses import AddressError, begins_like_one, is_address, is_http, path_of
from aimlasync.store.directory import DirectoryStore
from aimlasync.store.protocol import Store
from aimlasync.store.sqlite import SQLiteStore

_REDIS = ("redis://", "rediss://", "unix://")
_SQLITE = (".sqlite", ".sqlite3", ".db")


def open_store(
    where: str | os.PathLike[str] | Store, *, max_bytes: int | None = None, ttl: float | None = None
) -> Store:
    """Return the store that `where` names; a store is returned as it is.

    A path that ends in .sqlite, .sqlite3 or .db is one SQLite file, any other path a directory. redis://, rediss:// and
    unix:// are a Redis, and so is "redis", whose URL is in REDIS_URL. Any other URL is one of fsspec.
    `max_bytes` bounds all values, of which those not used for longest go first; `ttl`, in seconds, the age of each. A
    Redis and a bucket have settings of their own for the first. Nothing is opened before it is used.
    Raises ValueError, in one line, for what cannot be a store here, and TypeError for what is none of these.
    """
    if not isinstance(where, (str, os.PathLike)):
        if max_bytes is not None or ttl is not None:
            raise ValueError("max_bytes= and ttl= are said where the store is made")
        if not hasattr(where, "get") or not hasattr(where, "put"):
            raise TypeError(f"answers are kept in a store: a path, a URL or a Store, not {where!r}")
        return where
    text = os.fspath(where)
    if not text:
        raise ValueError("a store needs a path or a URL, not an empty text")
    if text == "redis" or text.startswith(_REDIS):
        return _redis(text, max_bytes, ttl)
    text = path_of(text)
    if is_http(text):
        raise AddressError(text, "answers cannot be written there; name a path or another URL")
    if is_address(text):
        if max_bytes is not None:
            raise ValueError("max_bytes= is not for a URL: a lifecycle rule of the bucket bounds it; give ttl=")
        from aimlasync.store.fsspec_files import FsspecStore

        return FsspecStore(text, ttl=ttl)
    if begins_like_one(text):
        raise ValueError(f"{text}: neither a path nor a URL, which has // after its scheme; a path is ./{text}")
    # Where the shell leaves it as it is: in code, and in --store=~/answers.
    text = os.path.expanduser(text)
    _check_place(text)
    if text.lower().endswith(_SQLITE) and not os.path.isdir(text):
        return SQLiteStore(text, max_bytes=max_bytes, ttl=ttl)
    if os.path.isfile(text):
        raise ValueError(f"{text}: a file, and a store is a directory, or a file that ends in .sqlite; name another")
    return DirectoryStore(text, max_bytes=max_bytes, ttl=ttl)


def _check_place(path: str) -> None:
    """Raise ValueError for what can be no store, by looking at it: a pipe that is opened waits for its writer."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ValueError(f"{path!r}: cannot be opened ({why}); name another file or directory") from None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ValueError(f"{path}: neither a file nor a directory, and a store is one; name another")


def _redis(text: str, max_bytes: int | None, ttl: float | None) -> Store:
    if max_bytes is not None:
        raise ValueError("max_bytes= is not for a Redis: its own maxmemory and maxmemory-policy bound it")
    try:
        from aimlasync.store.redis_server import RedisStore
    except ImportError as missing:
        raise ValueError(f"{text.partition('://')[0]}: {missing}") from None
    url = None if text == "redis" else text
    return RedisStore(url) if ttl is None else RedisStore(url, expires=ttl)
