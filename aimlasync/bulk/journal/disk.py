"""File operations that survive a crash: whole writes, syncs, reads by offset; and how each system does them.

Functions over file descriptors. They know no format and no name of a file; imports the standard library alone.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Write = Callable[[int, memoryview], int]
Sync = Callable[[int], None]

# Without it Windows would write each line end as two bytes.
BINARY: int = getattr(os, "O_BINARY", 0)

# fdatasync also syncs the size of a file; it leaves out the times, which nothing here reads.
sync: Sync = getattr(os, "fdatasync", os.fsync)


def write_all(write: Write, fd: int, data: bytes | bytearray) -> None:
    """Write all of `data`: in one write, and in more only where the system took less."""
    view = memoryview(data)
    while view:
        view = view[write(fd, view) :]


def read_at(fd: int, size: int, offset: int) -> bytes:
    """Read at an offset; the file position is not used, and on Windows it is moved."""
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


def check_whole(fd: int, path: str, size: int) -> None:
    """Raise OSError unless the open file is the one at `path`, with as many bytes as its one writer gave it."""
    found = os.fstat(fd)
    try:
        is_there = os.path.samestat(found, os.stat(path))
    except OSError:
        is_there = False
    if not is_there:
        raise OSError(errno.ESTALE, "moved or deleted while a run wrote to it; put it back, and run again", path)
    if found.st_size != size:
        raise OSError(errno.ESTALE, "cut or written to by another program while a run wrote to it; run again", path)


@contextmanager
def errors_name(path: str) -> Iterator[None]:
    """Put the path into errors of a file descriptor, which have none."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or path
        raise
