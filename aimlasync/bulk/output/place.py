"""A file at an address and those beside it, by their names.

Imports `aimlasync.addresses`, and input's `remote`, `spool` and `threads`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

from aimlasync.addresses import AddressError, info_of, is_http, name_in, opened, reaching
from aimlasync.bulk.input.remote import version_in
from aimlasync.bulk.input.spool import filling
from aimlasync.bulk.input.threads import done_each


class Place:
    """The directory that the file at `address` is in, and the `name` of that file. Raises AddressError, as all it does.

    It knows no more than what is there when it is made: of a file system that keeps what it has listed it has its own,
    unless `anew` is not set.
    """

    def __init__(self, address: str, *, writes: bool, anew: bool = True) -> None:
        if writes and is_http(address):
            raise AddressError(address, "an output cannot be written there; name a path or an address of a store")
        self.system, root = opened(address, anew=anew)
        self.address = address
        # The query of a URL is a signature, and part of no name.
        root, question, query = root.partition("?") if is_http(root) else (root, "", "")
        self.is_web = is_http(root)
        self.name = os.path.basename(root if self.is_web else root.rstrip("/"))
        self._folder, self._query = root.rstrip("/").removesuffix(self.name), question + query
        with reaching(address):
            if not self.name or address.endswith("/") or self._is_folder(root):
                raise AddressError(address, "a directory; name a file in it")

    @property
    def said_folder(self) -> str:
        """The directory as messages name it, without secrets; with a slash at its end."""
        return name_in(self.address).removesuffix(self.name)

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name."""
        with reaching(self.address):
            return bool(self.system.exists(self._path(name)))

    def existing(self, names: Sequence[str]) -> list[str]:
        """Return those of the names that are there; a file system that is asynchronous is asked for all at once."""
        at_once = len(names) if self.system.async_impl else 1
        found = done_each(self.exists, names, at_once=at_once)
        return [name for name, is_there in zip(names, found, strict=True) if is_there]

    def version(self, name: str) -> tuple[int, int] | None:
        """Return what is another when the file is, None where there is none."""
        with reaching(self.address):
            try:
                return version_in(info_of(self.system, self._path(name)))
            except FileNotFoundError:
                return None

    def get(self, name: str, path: str) -> bool:
        """Copy a file from there to `path`, and return whether there is one; half a copy does not stay."""
        with reaching(self.address):
            try:
                with filling(path):
                    self.system.get_file(self._path(name), path)
            except BaseException as error:
                with suppress(OSError):
                    os.unlink(path)
                if isinstance(error, Exception) and self._is_missing(name, error):
                    return False
                raise
            return True

    def put(self, path: str, name: str) -> None:
        """Copy the file at `path` there."""
        with reaching(self.address):
            self.system.put_file(path, self._path(name))

    def read(self, name: str) -> bytes | None:
        """Return what is in a file there, None where there is none."""
        with reaching(self.address):
            try:
                # Told where to begin, none asks first how long it is.
                return bytes(self.system.cat_file(self._path(name), start=0))
            except FileNotFoundError:
                return None

    def write(self, name: str, data: bytes) -> None:
        """Write a file there."""
        with reaching(self.address):
            self.system.pipe_file(self._path(name), data)

    def remove(self, name: str) -> None:
        """Delete a file there."""
        with reaching(self.address):
            self.system.rm_file(self._path(name))

    def _is_folder(self, path: str) -> bool:
        # What a web server gives for a page with links is no directory.
        if self.is_web or self.system.isfile(path):
            return False
        try:
            return bool(self.system.isdir(path))
        except PermissionError:
            # Who may read a file need not be allowed to list others.
            return False

    def _path(self, name: str) -> str:
        return f"{self._folder}{name}{self._query}"

    def _is_missing(self, name: str, error: Exception) -> bool:
        """Whether an error says that there is no file of this name, for which file systems have errors of their own."""
        if isinstance(error, FileNotFoundError):
            return True
        if isinstance(error, PermissionError) or getattr(error, "status", None) in (401, 403):
            # The right to read one file, or its signature, may not be that to see whether there is another.
            return name != self.name
        return not self.is_web and not self.system.exists(self._path(name))
