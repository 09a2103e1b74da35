"""What files need to be crash-safe, and what differs between systems in it: whole writes, syncs, reads by offset.

Law: a few functions over file descriptors; knows no format and no name of a file.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Write = Callable[[int, memoryview], int]
Sync = Callable[[int], None]

# Windows would otherwise turn line ends into two bytes.
BINARY: int = getattr(os, "O_BINARY", 0)

# The size of a file is synced by it as well; times, which it leaves out, nobody reads.
sync: Sync = getattr(os, "fdatasync", os.fsync)


def write_all(write: Write, fd: int, data: bytes) -> None:
    """One write, and more only where the system took less."""
    view = memoryview(data)
    while view:
        view = view[write(fd, view) :]


def read_at(fd: int, size: int, offset: int) -> bytes:
    """Read without minding where the file stands, which on Windows it moves."""
    if sys.platform == "win32":
        os.lseek(fd, offset, os.SEEK_SET)
        return os.read(fd, size)
    else:
        return os.pread(fd, size, offset)


def sync_directory(path: str, sync: Sync) -> None:
    """Make sure that the name `path` itself survives a power failure; Windows offers no such thing."""
    if sys.platform != "win32":
        fd = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
        try:
            sync(fd)
        finally:
            os.close(fd)


@contextmanager
def errors_name(path: str) -> Iterator[None]:
    """Errors of a file descriptor say which file it was."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or path
        raise
