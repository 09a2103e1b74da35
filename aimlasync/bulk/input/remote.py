"""Files of object stores and the like (`s3://`, `gs://`, `memory://`), by fsspec, which is imported only for them.

A file is copied into a temporary one before it is read, because a job reads its input more than once. `Kept` is an
output: the job writes here, and its files are copied there when it ends, and from there when another machine begins.
Imports `formats`, `rows` and `spool`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

from aimlasync.bulk.input.formats import format_of_path
from aimlasync.bulk.input.rows import InputError
from aimlasync.bulk.input.spool import spooled

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+(://|::)")

_READ_ONLY = ("http://", "https://")


def is_remote(path: str) -> bool:
    """Whether a path begins as the address of a file system does."""
    return _URL.match(path) is not None


def paths_at(url: str) -> list[str]:
    """Return the files that an address means: itself, those below it, or those that it matches. Raises InputError."""
    system, root = _system(url)
    with _errors(url):
        if "*" in root or "?" in root:
            found = sorted(path for path in system.glob(root) if not system.isdir(path))
        elif system.isdir(root):
            below = len(root.rstrip("/")) + 1
            found = sorted(path for path in system.find(root) if _is_rows(path[below:]))
        else:
            return [url]
    if not found:
        raise InputError(url, "no file of rows there; check the address")
    return [str(system.unstrip_protocol(path)) for path in found]


def open_copy(url: str) -> BinaryIO:
    """Return a temporary copy of the file. Raises InputError."""
    system, root = _system(url)
    with _errors(url), system.open(root, "rb") as file:
        return spooled(file)


def stamp_of(url: str) -> tuple[int, int]:
    """Return the size of the file, and a number that is another when the file is. Raises InputError."""
    system, root = _system(url)
    with _errors(url):
        size, key = int(system.size(root) or 0), str(system.ukey(root))
    return size, int.from_bytes(hashlib.sha256(key.encode()).digest()[:8])


class Kept:
    """The output `url` of a job that writes to `path`, a file of the same name in the current directory."""

    def __init__(self, url: str) -> None:
        if url.startswith(_READ_ONLY):
            raise InputError(url, "an output cannot be written there; name a path or an address of an object store")
        self._system, self._root = _system(url)
        self._url = url
        self.path = os.path.basename(self._root.rstrip("/"))
        if not self.path or url.endswith("/"):
            raise InputError(url, "a directory; name a file in it")

    def fetch(self, names: Sequence[str]) -> None:
        """Copy those of the files `names` that are there, if none of them is here. Raises InputError."""
        if any(os.path.exists(name) for name in names):
            return
        with _errors(self._url):
            for name in names:
                there = self._there(name)
                if self._system.exists(there):
                    self._system.get_file(there, name)

    def store(self, names: Sequence[str]) -> None:
        """Copy those of the files `names` that are here. Raises InputError."""
        with _errors(self._url):
            for name in names:
                if os.path.exists(name):
                    self._system.put_file(name, self._there(name))

    def _there(self, name: str) -> str:
        return self._root.removesuffix(self.path) + name


def _is_rows(path: str) -> bool:
    return not any(part.startswith((".", "_")) for part in path.split("/")) and format_of_path(path) is not None


def _system(url: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it."""
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise InputError(url, "object stores need fsspec; install it with: pip install 'aimlasync[fsspec]'") from None
    with _errors(url):
        system, root = url_to_fs(url)
        return system, str(root)


@contextmanager
def _errors(url: str) -> Iterator[None]:
    """Let whatever a file system raises be one line about `url`."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(url, "no such file; check the address") from None
    except ImportError as error:
        raise InputError(url, f"its file system is not installed ({_line(error)})") from None
    except Exception as error:  # noqa: BLE001  # each file system has errors of its own
        raise InputError(url, f"cannot be reached ({_line(error)}); check the address and its credentials") from None


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__
