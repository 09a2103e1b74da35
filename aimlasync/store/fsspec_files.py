"""Answers in what fsspec knows: s3://, gs://, az://, memory:// and others.

Every call of fsspec is made in a thread. A value has the time when it was written before it, since not all file systems
tell one. It may import `protocol`, and fsspec when a store is made.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from aimlasync.store import protocol
from aimlasync.store.protocol import check_bounds, checked, sealed, unsealed

_WRITTEN = struct.Struct(">d")


class FsspecStore:
    """An object for each answer below a URL that fsspec knows: `FsspecStore("s3://bucket/answers")`.

    Needs fsspec and the package of the scheme (s3fs, gcsfs, adlfs, ...), and takes credentials from where that looks
    for them. What a bucket may hold is the bucket's to say (a lifecycle rule): there is no `max_bytes`. An answer older
    than `ttl` seconds is none, and stays until the bucket deletes it. Raises ValueError where the scheme has no
    package.
    """

    def __init__(self, url: str, *, ttl: float | None = None) -> None:
        check_bounds(None, ttl)
        self.url = url
        self.ttl = ttl
        self._files, self._root = _opened(url)

    def __repr__(self) -> str:
        return f"FsspecStore({shown(self.url)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.url, self.ttl)

    async def get(self, keys: Sequence[str], /) -> list[bytes | None]:
        """Return what is kept under each of `keys`, None for what is not. Raises OSError."""
        return await asyncio.gather(*(asyncio.to_thread(self._read, key) for key in keys))

    async def put(self, key: str, value: bytes, /) -> None:
        """Keep `value`. Raises OSError, and ValueError for a key that is none."""
        await asyncio.to_thread(self._write, key, value)

    async def close(self) -> None:
        """Nothing is open: fsspec keeps its connections."""

    def _read(self, key: str) -> bytes | None:
        path = self._path(key)
        try:
            data = unsealed(key, self._files.cat_file(path))
        except FileNotFoundError:
            return None
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001  # each file system has errors of its own
            raise OSError(_said(error)) from None
        if data is None or len(data) < _WRITTEN.size:
            return None
        (written,) = _WRITTEN.unpack_from(data)
        if self.ttl is not None and protocol.now() >= written + self.ttl:
            return None
        return data[_WRITTEN.size :]

    def _write(self, key: str, value: bytes) -> None:
        path = self._path(key)
        data = sealed(key, _WRITTEN.pack(protocol.now()) + value)
        try:
            with suppress(FileExistsError):
                self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
            self._files.pipe_file(path, data)
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001
            raise OSError(_said(error)) from None

    def _path(self, key: str) -> str:
        checked(key)
        return f"{self._root}/{key[:3]}/{key[3:]}"


def _opened(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path in it. Raises ValueError."""
    scheme = url.partition("://")[0]
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise ValueError(f"{shown(url)}: {scheme}:// needs the package fsspec, and the one of {scheme}") from None
    try:
        files, root = url_to_fs(url)
    except ImportError as missing:
        why = f"{scheme}:// needs a package that is not installed: {_said(missing)}"
    except ValueError as unknown:
        why = _said(unknown)
    except Exception as error:  # noqa: BLE001  # each file system has errors of its own
        why = f"it cannot be opened: {_said(error)}"
    else:
        return files, str(root).rstrip("/")
    raise ValueError(f"{shown(url)}: {why}")


def _said(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def shown(url: str) -> str:
    """Return a URL without what stands before its @, which may be a password, and without its query."""
    scheme, mark, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}{mark}{place.rpartition('@')[2]}{slash}{path.partition('?')[0]}"


def _again(url: str, ttl: float | None) -> FsspecStore:
    return FsspecStore(url, ttl=ttl)
