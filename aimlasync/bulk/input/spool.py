"""Copies of what cannot be read twice where it is, in temporary files. Imports the errors of `aimlasync.addresses`."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from aimlasync.addresses import FULL

_DELETED: int = getattr(os, "O_TEMPORARY", 0)


@contextmanager
def filling(path: str | None = None) -> Iterator[None]:
    """Let the error of a full disk name what is written: a path, or the directory of temporary files."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            error.filename = tempfile.gettempdir() if path is None else path
        raise


@contextmanager
def temporary_file() -> Iterator[BinaryIO]:
    """Give a temporary file to be written, which stays open at its beginning; a failure closes it."""
    with filling():
        file = tempfile.TemporaryFile()  # noqa: SIM115
    try:
        with filling():
            yield file
            file.flush()
        file.seek(0)
    except BaseException:
        # What is buffered fails once more.
        with suppress(OSError):
            file.close()
        raise


def spooled(file: BinaryIO) -> BinaryIO:
    """Return a temporary copy of a file, open at its beginning; whoever asked for it closes it."""
    with temporary_file() as copy:
        shutil.copyfileobj(file, copy, 2**20)
    return copy


def filled(fill: Callable[[str], object]) -> BinaryIO:
    """Return a temporary file that `fill` has written, given its path, open at its beginning."""
    descriptor, path = tempfile.mkstemp()
    os.close(descriptor)
    try:
        with filling():
            fill(path)
        # Windows deletes it when it is closed; elsewhere it needs its name no more.
        file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | _DELETED))  # noqa: SIM115
    except BaseException:
        os.unlink(path)
        raise
    if not _DELETED:
        os.unlink(path)
    return file
