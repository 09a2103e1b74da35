"""An exclusive lock on an open file: one process at a time, until it is let go or the process ends.

Law: never waits. A file system that knows no locks is let be: a job there runs as if it were alone.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress

# How systems say that somebody else has it; anything else is said by file systems without locks.
_HELD = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK}

# Windows does not let others read what is locked: one byte where no content will ever be. Its C library counts in 32
# bits there.
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
    """Let go at once: a forked child may have the file open still, and Windows takes its time after a close."""
    with suppress(OSError):
        if sys.platform == "win32":
            import msvcrt

            os.lseek(fd, _FAR, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)
        else:
            import fcntl

            fcntl.flock(fd, fcntl.LOCK_UN)
