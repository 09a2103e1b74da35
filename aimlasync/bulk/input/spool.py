"""Copies of what cannot be read twice where it is, in temporary files. Imports nothing of this library."""

from __future__ import annotations

import shutil
import tempfile
from typing import BinaryIO


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
