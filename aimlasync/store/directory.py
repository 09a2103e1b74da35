"""A directory of answers, one file each: on one machine any, on several a shared file system.

A file appears whole, by a rename. The last use of an answer is its file's access time, which is set here and not left
to the file system; the time of writing is the modification time. It may import `protocol`.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Sequence
from contextlib import suppress
from itertools import count

from aimlasync.addresses import begins_like_one
from aimlasync.store import protocol
from aimlasync.store.protocol import SEAL, check_bounds, checked, is_over, sealed, unsealed

# Of a key's 32 hexadecimal digits, so many name its directory: of 10^8 answers, each of 4096 directories has 24,000.
_FOLDER = 3
_FOLDER_NAME = re.compile(f"[0-9a-f]{{{_FOLDER}}}")
_ANSWER_NAME = re.compile(f"[0-9a-f]{{{32 - _FOLDER}}}")
# The temporary file of a writer, perhaps of one that was killed.
_BEGUN_NAME = re.compile(f"\\.[0-9a-f]{{{32 - _FOLDER}}}\\..*")
# Seconds after which a temporary file is nobody's.
_FORGOTTEN = 3600.0
# Where a directory is full, so much of its bound is freed at once; and each process looks after it has written as much.
_FREED = 1 / 16
_BINARY: int = getattr(os, "O_BINARY", 0)

_numbers = count()
# This host in a file name: without a slash, and not long.
_HOST = "".join(c for c in socket.gethostname() if c.isalnum() or c == "-")[:40]


class DirectoryStore:
    """A directory that all machines see, one file per answer: on this machine any, on several a shared file system.

    A file appears whole, by a rename, and outlives a killed process; one that a power failure has torn is no answer.
    To delete the answers, remove the directory. It costs an inode and a block for each answer: for more than
    some ten million of them a Redis is the better store.

    With `max_bytes`, the answers that were not used for longest are deleted; each process that writes looks after a
    sixteenth of it, so that N processes may be N sixteenths above it. An answer older than `ttl` seconds is none.
    Raises ValueError for a URL, or for bounds of zero.
    """

    def __init__(self, path: str | os.PathLike[str], *, max_bytes: int | None = None, ttl: float | None = None) -> None:
        if begins_like_one(os.fspath(path)):
            raise ValueError(f"{os.fspath(path)}: an address, and a DirectoryStore is a directory; name one")
        check_bounds(max_bytes, ttl)
        self.path = os.path.abspath(path)
        self.max_bytes = max_bytes
        self.ttl = ttl
        # Bytes that this process may write before it looks at the whole.
        self._until_look = 0

    def __repr__(self) -> str:
        return f"DirectoryStore({self.path!r})"

    async def get(self, keys: Sequence[str], /) -> list[bytes | None]:
        """Return what is kept under each of `keys`, None for what is not. Raises as `put` does."""
        # In a thread, because a shared file system may be slow.
        return await asyncio.to_thread(lambda: [self._read(key) for key in keys])

    async def put(self, key: str, value: bytes, /) -> None:
        """Keep `value`. Raises OSError, and ValueError for a key that is none."""
        await asyncio.to_thread(self._write, key, value)

    async def close(self) -> None:
        """Nothing is open."""

    def remove(self) -> None:
        """Delete all answers, and the directory unless it has other files in it."""
        with suppress(OSError):
            for folder in os.scandir(self.path):
                if _FOLDER_NAME.fullmatch(folder.name):
                    for answer in os.scandir(folder.path):
                        if _ANSWER_NAME.fullmatch(answer.name) or _BEGUN_NAME.fullmatch(answer.name):
                            os.unlink(answer.path)
                    os.rmdir(folder.path)
            os.rmdir(self.path)

    def _read(self, key: str) -> bytes | None:
        try:
            with open(os.path.join(*self._place(key)), "rb", buffering=0) as file:
                data = file.readall()
                if self.ttl is not None or self.max_bytes is not None:
                    written = os.fstat(file.fileno()).st_mtime
                    if is_over(written, self.ttl):
                        return None
                    if self.max_bytes is not None:
                        # A directory that may only be read is used as it is.
                        with suppress(OSError):
                            os.utime(file.name, (protocol.now(), written))
        except FileNotFoundError:
            return None
        return unsealed(key, data)

    def _write(self, key: str, value: bytes) -> None:
        """Write a file beside its place, and move it there whole."""
        folder, name = self._place(key)
        if self.max_bytes is not None and len(value) + SEAL > self.max_bytes:
            return
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
                size = len(data)
                while data:
                    data = data[out.write(data) :]
            if self.ttl is not None or self.max_bytes is not None:
                # The clock of a file server is another one.
                os.utime(beside, (protocol.now(), protocol.now()))
            os.replace(beside, os.path.join(folder, name))
        except BaseException:
            with suppress(OSError):
                os.unlink(beside)
            raise
        if self.max_bytes is not None:
            self._until_look -= size
            if self._until_look <= 0:
                self._until_look = self._free(self.max_bytes)

    def _free(self, most: int) -> int:
        """Delete what was used least recently while there is more than `most`; return what may be written now."""
        found: list[tuple[float, int, str]] = []
        total, now = 0, protocol.now()
        for folder in os.scandir(self.path):
            if not _FOLDER_NAME.fullmatch(folder.name):
                continue
            for file in os.scandir(folder.path):
                # Another process may delete, too.
                with suppress(FileNotFoundError):
                    known = file.stat(follow_symlinks=False)
                    is_answer = _ANSWER_NAME.fullmatch(file.name)
                    ended = is_answer and is_over(known.st_mtime, self.ttl)
                    if ended or (_BEGUN_NAME.fullmatch(file.name) and now > known.st_mtime + _FORGOTTEN):
                        os.unlink(file.path)
                    elif is_answer:
                        total += known.st_size
                        used = known.st_atime
                        if used > now:
                            # Of a clock that was wrong: it would be the last one for ever.
                            used = now
                            with suppress(OSError):
                                os.utime(file.path, (now, known.st_mtime))
                        found.append((used, known.st_size, file.path))
        step = max(1, int(most * _FREED))
        if total > most:
            found.sort()
            for _, size, path in found:
                with suppress(FileNotFoundError):
                    os.unlink(path)
                total -= size
                if total <= most - step:
                    break
        return min(step, most - total)

    def _place(self, key: str) -> tuple[str, str]:
        checked(key)
        return os.path.join(self.path, key[:_FOLDER]), key[_FOLDER:]

    @staticmethod
    def _create(path: str) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o600)
