"""Paths that are written as they go and replaced by nothing: standard output, open descriptors, pipes, devices.

Imports `journal.disk` and `InputError`.
"""

from __future__ import annotations

import errno
import io
import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from aimlasync.bulk.input.rows import InputError
from aimlasync.bulk.journal import disk

_DESCRIPTOR = re.compile(r"/(?:dev|proc/(?:self|thread-self|[0-9]+))/fd/([0-9]+)\Z")
_NAMED = {"/dev/stdout": 1, "/dev/stderr": 2}


def is_stream(path: str) -> bool:
    """Whether a path is written as it goes: "-", an open descriptor such as /dev/stdout, a pipe, a device."""
    if path == "-" or _descriptor(path) is not None:
        return True
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


@contextmanager
def open_stream(path: str) -> Iterator[BinaryIO]:
    """Give what `is_stream`, for writing. Raises InputError for a disk and the like, OSError where nothing reads."""
    check_stream(path)
    fd = 1 if path == "-" else _descriptor(path)
    if fd == 1:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with named(path):
        own = os.open(path, os.O_WRONLY | disk.BINARY) if fd is None else os.dup(fd)
    file = io.BufferedWriter(NamedFile(own, path))
    try:
        yield file
        file.close()
    except BaseException:
        with suppress(OSError):
            file.close()
        raise


class NamedFile(io.FileIO):
    """A file whose errors have the name of the file that it will become."""

    def __init__(self, fd: int, name: str) -> None:
        super().__init__(fd, "wb")
        self._name = name

    def write(self, data: object, /) -> int:
        with named(self._name):
            return super().write(data)  # type: ignore[arg-type]  # whatever a buffer holds

    def close(self) -> None:
        with named(self._name):
            super().close()


@contextmanager
def named(name: str) -> Iterator[None]:
    """Put `name` into errors, in the place of a descriptor or of a temporary file beside it."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = name, None
        raise


def _descriptor(path: str) -> int | None:
    """Return the descriptor that a path names; opening /dev/stdout again would empty the file behind it."""
    path = os.path.normpath(path)
    found = _DESCRIPTOR.match(path)
    return int(found[1]) if found is not None else _NAMED.get(path)


def check_stream(path: str) -> None:
    """Raise InputError for a disk and the like, OSError for standard output that is closed."""
    if path == "-" or _descriptor(path) == 1:
        if getattr(sys.stdout, "closed", True):
            raise OSError(errno.EBADF, "it is closed", "standard output")
        return
    fd = _descriptor(path)
    if os.isatty(fd) if fd is not None else _is_terminal(path):
        # Text for a terminal must go through standard output, which removes what would drive the terminal.
        raise InputError(path, "a terminal; name a file, or - for standard output")
    if fd is not None:
        return
    found = os.stat(path)
    is_known = os.path.basename(os.path.realpath(path)) in ("null", "full")
    if not (stat.S_ISFIFO(found.st_mode) or (stat.S_ISCHR(found.st_mode) and is_known)):
        # Printers, memory and disks are devices too.
        raise InputError(path, "a device or socket; name a file, /dev/null, or - for standard output")


def _is_terminal(path: str) -> bool:
    if not stat.S_ISCHR(os.stat(path).st_mode):
        return False
    with suppress(OSError):
        fd = os.open(path, os.O_WRONLY | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_NONBLOCK", 0))
        try:
            return os.isatty(fd)
        finally:
            os.close(fd)
    return False
