"""A cache of good answers by a digest of their request, so that a row that is computed again is not paid for again.

A row is computed again when its machine died or an engine repeats its block. The cache is no record of a job: an answer
that is missing or cannot be read is requested again. Each answer has a checksum, so that a value that was cut or is of
another program is no answer. A store can be pickled, so it holds nothing open and no password. It may import requests
and `journal.disk`.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from itertools import count
from typing import Any, Protocol

import msgspec

from aimlasync.bulk.journal import disk
from aimlasync.bulk.tasks.request import Request

_SEAL = 16
# Of a key's 32 hexadecimal digits, so many name its directory: of 10^8 answers, each of 4096 directories has 24,000.
_FOLDER = 3
_FOLDER_NAME = re.compile(f"[0-9a-f]{{{_FOLDER}}}")
# An answer, or the temporary file of a writer that was killed.
_ANSWER_NAME = re.compile(f"[0-9a-f]{{{32 - _FOLDER}}}|\\.[0-9a-f]{{{32 - _FOLDER}}}\\..*")
# What `key_of` makes. Any other key could be a path out of the directory.
_KEY = re.compile("[0-9a-f]{32}")

_encode = msgspec.json.Encoder(order="deterministic").encode
_numbers = count()
# This host in a file name: without a slash, and not long.
_HOST = "".join(c for c in socket.gethostname() if c.isalnum() or c == "-")[:40]


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


def scope_of(task: Mapping[str, Any], base_url: str) -> bytes:
    """Return what all rows of a task have in common in their keys: how it is asked and judged, and by whom."""
    return blake2b(_encode((task, base_url)), digest_size=16).digest()


def key_of(scope: bytes, request: Request) -> str:
    """Return the key of a request: 32 hexadecimal digits, the same in every process."""
    digest = blake2b(scope, digest_size=16)
    digest.update(_encode((request.api, request.body)))
    return digest.hexdigest()


def sealed(key: str, value: bytes) -> bytes:
    """Return what is written for a value."""
    return blake2b(value, digest_size=_SEAL, key=key.encode()).digest() + value


def unsealed(key: str, data: bytes | None) -> bytes | None:
    """Return the value in what was read, None where it is torn, or was written for another key."""
    if data is None:
        return None
    value = data[_SEAL:]
    return value if data == sealed(key, value) else None


class DirectoryStore:
    """A directory that all machines see, one file per answer: on this machine any, on several a shared file system.

    A file appears whole, by a rename, and outlives a killed process; one that a power failure has torn is no answer.
    To delete the answers, remove the directory. It costs an inode and a block for each answer: for more than
    some ten million of them a Redis is the better store.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if "://" in os.fspath(path):
            raise ValueError(f"{os.fspath(path)}: an address, and a DirectoryStore is a directory; name one")
        self.path = os.path.abspath(path)

    def __repr__(self) -> str:
        return f"DirectoryStore({self.path!r})"

    async def get(self, keys: Sequence[str], /) -> list[bytes | None]:
        """Return what is kept under each of `keys`, None for what is not. Raises as `put` does."""
        # In a thread, because a shared file system may be slow.
        return await asyncio.to_thread(lambda: [self._read(key) for key in keys])

    async def put(self, key: str, value: bytes, /) -> None:
        """Keep `value`. Raises OSError, and ValueError for a key that is none of `key_of`."""
        await asyncio.to_thread(self._write, key, value)

    async def close(self) -> None:
        """Nothing is open."""

    def remove(self) -> None:
        """Delete all answers, and the directory unless it has other files in it."""
        with suppress(OSError):
            for folder in os.scandir(self.path):
                if _FOLDER_NAME.fullmatch(folder.name):
                    for answer in os.scandir(folder.path):
                        if _ANSWER_NAME.fullmatch(answer.name):
                            os.unlink(answer.path)
                    os.rmdir(folder.path)
            os.rmdir(self.path)

    def _read(self, key: str) -> bytes | None:
        try:
            with open(os.path.join(*self._place(key)), "rb", buffering=0) as file:
                return unsealed(key, file.readall())
        except FileNotFoundError:
            return None

    def _write(self, key: str, value: bytes) -> None:
        folder, name = self._place(key)
        # Another machine may have the same process id, and another thread of this process an answer to the same key.
        beside = os.path.join(folder, f".{name}.{_HOST}.{os.getpid()}.{next(_numbers)}")
        try:
            file = self._create(beside)
        except FileNotFoundError:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            file = self._create(beside)
        try:
            with open(file, "wb", buffering=0) as out:
                data = memoryview(sealed(key, value))
                while data:
                    data = data[out.write(data) :]
            os.replace(beside, os.path.join(folder, name))
        except BaseException:
            with suppress(OSError):
                os.unlink(beside)
            raise

    def _place(self, key: str) -> tuple[str, str]:
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is no key of an answer, which has 32 hexadecimal digits")
        return os.path.join(self.path, key[:_FOLDER]), key[_FOLDER:]

    @staticmethod
    def _create(path: str) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | disk.BINARY, 0o600)
