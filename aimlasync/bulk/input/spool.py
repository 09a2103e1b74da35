"""Copies of what cannot be read twice where it is, in temporary files. Imports nothing of this library."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from typing import BinaryIO

_DELETED: int = getattr(os, "O_TEMPORARY", 0)


def spooled(file: BinaryIO) -> BinaryIO:
    """Return a temporary copy of a file, open at its beginning; whoever asked for it closes it."""
    copy = tempfile.TemporaryFile()  # noqa: SIM115
    try:
        shutil.copyfileobj(file, copy, 2**20)
        copy.flush()
        copy.seek(0)
    except BaseException:
        copy.close()
        raise
    return copy


def filled(fill: Callable[[str], object]) -> BinaryIO:
    """Return a temporary file that `fill` has written, given its path, open at its beginning."""
    descriptor, path = tempfile.mkstemp()
    os.close(descriptor)
    try:
        fill(path)
        # Windows deletes it when it is closed; elsewhere it needs its name no more.
        file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | _DELETED))  # noqa: SIM115
    except BaseException:
        os.unlink(path)
        raise
    if not _DELETED:
        os.unlink(path)
    return file
