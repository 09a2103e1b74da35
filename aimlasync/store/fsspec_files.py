"""Answers in what fsspec knows: s3://, gs://, az://, sftp://, memory:// and others.

A call of a file system that is asynchronous runs in the event loop of fsspec, any other in a thread, so that none
blocks the caller's. A value has the time when it was written before it, since not all file systems tell one. It may
import `protocol` and `aimlasync.addresses`.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from weakref import WeakKeyDictionary

from aimlasync.addresses import has_password, opened, said, shown
from aimlasync.store import protocol
from aimlasync.store.protocol import check_bounds, checked, is_over, sealed, unsealed

_WRITTEN = struct.Struct(">d")
# Seconds for one value, and those for which a store that failed is not used.
_TIMEOUT = 20.0
_PAUSE = 60.0
# Values that are read and written at once by one process; further ones wait.
_AT_ONCE = 64
# How often a value is written where folders are missing.
_TRIES = 3


class FsspecStore:
    """An object for each answer below a URL that fsspec knows: `FsspecStore("s3://bucket/answers")`.

    Needs fsspec and the package of the scheme (s3fs, gcsfs, adlfs, ...), and takes credentials from where that looks
    for them. What a bucket may hold is the bucket's to say (a lifecycle rule): there is no `max_bytes`. An answer older
    than `ttl` seconds is none, and stays until the bucket deletes it. A bucket is never made. After a failure the store
    is not used for a minute. Raises ValueError where the scheme has no package.
    """

    def __init__(self, url: str, *, ttl: float | None = None) -> None:
        check_bounds(None, ttl)
        self.url = url
        self.ttl = ttl
        self._files, root = opened(url)
        self._root = root.rstrip("/")
        # One for each event loop, because a semaphore belongs to one.
        self._turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()
        # The monotonic time until which it is not used.
        self._paused_until = 0.0

    def __repr__(self) -> str:
        return f"FsspecStore({shown(self.url)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        if has_password(self.url):
            raise TypeError("a password is never pickled; leave it out of the URL, to the settings of fsspec")
        return _again, (self.url, self.ttl)

    async def get(self, keys: Sequence[str], /) -> list[bytes | None]:
        """Return what is kept under each of `keys`, None for what is not. Raises OSError."""
        return await asyncio.gather(*(self._read(key) for key in keys))

    async def put(self, key: str, value: bytes, /) -> None:
        """Keep `value`. Raises OSError, and ValueError for a key that is none."""
        path = self._path(key)
        data = sealed(key, _WRITTEN.pack(protocol.now()) + value)
        async with self._using():
            failure: Exception | None = None
            # Another process may make the same folders.
            for _ in range(_TRIES):
                try:
                    await self._call("pipe_file", path, data)
                    return
                except Exception as error:  # noqa: BLE001  # each file system has errors of its own
                    failure = error
                    if self._files.async_impl and not isinstance(error, FileNotFoundError):
                        break
                await self._make_folders(path.rpartition("/")[0])
            assert failure is not None
            raise failure

    async def close(self) -> None:
        """Nothing is open: fsspec keeps its connections."""

    async def _read(self, key: str) -> bytes | None:
        path = self._path(key)
        async with self._using():
            try:
                # Told where to begin, none asks first how long it is: with s3fs a value is one call, found or not.
                found: bytes = await self._call("cat_file", path, start=0)
            except (FileNotFoundError, PermissionError):
                # Who may not list a bucket is told that what is not there is forbidden; a `put` tells what is wrong.
                return None
        data = unsealed(key, found)
        if data is None or len(data) < _WRITTEN.size:
            return None
        (written,) = _WRITTEN.unpack_from(data)
        if is_over(written, self.ttl):
            return None
        return data[_WRITTEN.size :]

    @asynccontextmanager
    async def _using(self) -> AsyncIterator[None]:
        """Wait for a turn. Whatever is raised inside is an OSError; after one of those that last, the store rests."""
        async with self._turns.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(_AT_ONCE)):
            # Asked after the wait for a turn: whoever waited does not wait for a dead server as well.
            if time.monotonic() < self._paused_until:
                raise OSError("it failed a moment ago")
            try:
                async with asyncio.timeout(_TIMEOUT):
                    yield
                return
            except Exception as error:  # noqa: BLE001  # each file system has errors of its own
                if not isinstance(error, PermissionError):
                    self._paused_until = time.monotonic() + _PAUSE
                what = said(error, self.url)
        raise OSError(what)

    async def _call(self, name: str, *arguments: Any, **options: Any) -> Any:
        if self._files.async_impl:
            work = getattr(self._files, f"_{name}")(*arguments, **options)
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._files.loop))

        def do() -> Any:
            # fsspec keeps one file system for each thread, since those that are not asynchronous serve one at a time.
            files, _ = opened(self.url)
            return getattr(files, name)(*arguments, **options)

        return await asyncio.to_thread(do)

    async def _make_folders(self, folder: str) -> None:
        if not self._files.async_impl:
            with suppress(Exception):
                await self._call("makedirs", folder, exist_ok=True)
            return
        for path in (self._root, folder):
            # The first part of a path may be a bucket, which nobody wants made because of a typing error.
            if "/" in path.strip("/"):
                with suppress(Exception):
                    await self._call("mkdir", path, create_parents=False)

    def _path(self, key: str) -> str:
        checked(key)
        return f"{self._root}/{key[:3]}/{key[3:]}"


def _again(url: str, ttl: float | None) -> FsspecStore:
    return FsspecStore(url, ttl=ttl)
