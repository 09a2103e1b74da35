"""Files of fsspec's memory file system, which all of a process share.

It imports nothing of the library.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


@contextmanager
def memory_files(files: Mapping[str, bytes]) -> Iterator[Any]:
    """Put files there by their paths, give the file system, and empty it at the end."""
    import fsspec

    system = fsspec.filesystem("memory")
    system.pipe(dict(files))
    try:
        yield system
    finally:
        system.store.clear()
        system.pseudo_dirs[:] = [""]
