"""An exclusive lock on an open file: one process at a time, until it is released or the process ends.

Never waits. On a file system without locks nothing is locked, and a job there runs as if it were alone. Imports the
standard library alone.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress

# Errors by which systems say that another process has the lock; file systems without locks raise others.
_HELD = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK}

# On Windows a locked byte cannot be read by others, so one is locked where no content will ever be; its C library has
# 32-bit offsets there.
_FAR = 2**30


class HeldError(Exception):
    """Another run has the lock."""


def lock(fd: int) -> None:
    """Take the lock, or raise HeldError."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(fd, _FAR, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            raise HeldError from None


def unlock(fd: int) -> None:
    """Release the lock now and not at close: a forked child may have the file open, and Windows releases late."""
    with suppress(OSError):
        if sys.platform == "win32":
            import msvcrt

            os.lseek(fd, _FAR, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)
        else:
            import fcntl

            fcntl.flock(fd, fcntl.LOCK_UN)
