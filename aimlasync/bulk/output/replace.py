"""A file that replaces another whole: it is written beside it, synced, and renamed.

Whatever the disk does, the path has the old file or the new one. What may be replaced is `target`'s to decide. Imports
`journal.disk` and the errors of `streams`.
"""

from __future__ import annotations

import io
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from aimlasync.bulk.journal import disk
from aimlasync.bulk.output.streams import NamedFile, named

_BLOCK = 2**20


def replace(path: str, data: bytes) -> None:
    """Replace a file of ours by one with `data`, readable by its owner alone. Raises OSError."""
    with replacing(path, name=path, private=True) as (file, temporary):
        file.write(data)
        file.flush()
        with named(path):
            disk.sync(file.fileno())
            file.close()
            os.replace(temporary, path)


@contextmanager
def replacing(path: str, *, name: str, private: bool = False) -> Iterator[tuple[BinaryIO, str]]:
    """Give a new file beside `path` and its path, to be renamed within the block; else it is deleted.

    It has the mode and, where that may be, the owner of what is at `path`; else a `private` one is its owner's alone.
    Errors of the disk have the `name`.
    """
    folder = os.path.dirname(path) or "."
    temporary = os.path.join(folder, f".aimlasync-{secrets.token_hex(6)}.part")
    try:
        old: os.stat_result | None = os.stat(path)
    except FileNotFoundError:
        old = None
    mode = stat.S_IMODE(old.st_mode) if old is not None else 0o600 if private else 0o666
    file: io.BufferedWriter | None = None
    try:
        with named(name):
            fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | disk.BINARY, mode)
        file = io.BufferedWriter(NamedFile(fd, name), _BLOCK)
        if old is not None and sys.platform != "win32":
            with suppress(OSError):
                os.fchown(fd, old.st_uid, old.st_gid)
            with suppress(OSError):
                os.fchmod(fd, mode)
        yield file, temporary
        file.close()
        with named(name):
            disk.sync_directory(path, disk.sync)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        if file is not None:
            # Flushing what is buffered fails with the same error once more.
            with suppress(OSError):
                file.close()
        raise
