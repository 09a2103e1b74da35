"""Copies of files at addresses in a temporary directory, for what reads journals or writes one file.

What is beside a file comes with it: its manifest, and the record of what its job wrote. What was written is copied back
at the end of the context, unless it fails. `elsewhere` has the outputs of jobs. Imports `aimlasync.addresses`, the
errors and threads of input, `elsewhere` and `place`.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from types import TracebackType
from typing import Self

from aimlasync.addresses import FULL, AddressError, is_address, opened, path_of
from aimlasync.bulk.input.remote import input_errors
from aimlasync.bulk.input.rows import InputError
from aimlasync.bulk.input.threads import done_each
from aimlasync.bulk.output.elsewhere import mark_of, new_mark
from aimlasync.bulk.output.place import Place

# The manifest of a journal, last, and what tells a journal from a table, whose journal is beside it.
_OWN, _OTHERS = ("", ".outputs", ".manifest"), (".journal.manifest",)
# Journals that are copied at once.
_AT_ONCE = 8


class Copies:
    """A context in which `of` gives the paths of copies, and errors name the addresses. Its end raises InputError."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._folder = ""
        # By the directories of the addresses, so that files of one are in one here.
        self._folders: dict[str, str] = {}
        self._copies: dict[str, _Copy] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        with self._stack:
            if error is None:
                with input_errors():
                    for copy in self._copies.values():
                        copy.put_back()
            else:
                _reword(error, self.named)

    def journal(self, name: str | os.PathLike[str]) -> str:
        """Return the path of a journal, as `of` does. Raises InputError, also for the table of a job."""
        return self.journals([name])[0]

    def journals(self, names: Sequence[str | os.PathLike[str]]) -> list[str]:
        """Return the paths of journals, of which several are copied at once. Raises InputError as `journal` does."""
        with input_errors():
            said = [path_of(os.fspath(name)) for name in names]
            there = [path for path in said if is_address(path)]
            # Each thread has file systems of its own, and what was listed earlier is forgotten before there are any.
            for address in {path.partition("/")[0]: path for path in there}.values():
                opened(address, anew=True)
            copy = partial(self._copied, is_output=False, anew=False)
            copied = done_each(copy, there, at_once=_AT_ONCE)
            paths = [next(copied) if is_address(path) else path for path in said]
        for path in paths:
            if not os.path.exists(f"{path}.manifest") and os.path.exists(f"{path}.journal.manifest"):
                raise InputError(path, f"the output of a job, and no journal; its journal is {path}.journal")
        return paths

    def of(self, name: str | os.PathLike[str], *, is_output: bool = False) -> str:
        """Return the path of a file: of an address that of its copy, where it is there. Raises InputError."""
        with input_errors():
            path = path_of(os.fspath(name))
            return self._copied(path, is_output=is_output, anew=True) if is_address(path) else path

    def named(self, text: str) -> str:
        """Return a text with the addresses of copies in the place of their paths."""
        for address, folder in self._folders.items():
            text = text.replace(folder + os.sep, address)
        return text

    def _copied(self, address: str, *, is_output: bool, anew: bool) -> str:
        place = Place(address, writes=is_output, anew=anew)
        with self._lock:
            copy = _Copy(place, self._folder_of(place), is_output=is_output)
            known = self._copies.setdefault(copy.path, copy)
            known.is_output |= is_output
        if known is copy:
            copy.get()
        return copy.path

    def _folder_of(self, place: Place) -> str:
        if not self._folder:
            # Where one copy failed, others may be on their way.
            made = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
            self._folder = os.path.realpath(self._stack.enter_context(made))
        folder = self._folders.setdefault(place.said_folder, os.path.join(self._folder, str(len(self._folders))))
        os.makedirs(folder, exist_ok=True)
        return folder


class _Copy:
    """One file and those beside it, whose names begin with its own."""

    def __init__(self, place: Place, folder: str, *, is_output: bool) -> None:
        self.path, self.is_output = os.path.join(folder, place.name), is_output
        self._place = place
        self._version: tuple[int, int] | None = None
        self._stamps: dict[str, tuple[int, ...] | None] = {}

    def get(self) -> None:
        if self.is_output:
            self._version = self._place.version(self._place.name)
        for end in (*_OWN, *_OTHERS):
            self._place.get(self._place.name + end, self.path + end)
            self._stamps[end] = _stamp(self.path + end)

    def put_back(self) -> None:
        changed = [end for end in _OWN if _stamp(self.path + end) != self._stamps[end]]
        if not self.is_output:
            # A record of what was made of a journal, where its directory can be written to, as of one on a disk.
            with suppress(AddressError):
                self._put(".outputs" for end in changed if end == ".outputs" and not self._place.is_web)
            return
        if not changed:
            return
        name = self._place.name
        now = Place(self._place.address, writes=True).version(name)
        if now != self._version:
            what = "was changed meanwhile, and is left as it is; the same command again looks at it"
            raise AddressError(self._place.address, what)
        try:
            self._put(changed)
            if ".manifest" in changed and self._place.exists(mark_of(name)):
                # A job that has a copy of the journal must not write that over it.
                self._place.write(mark_of(name), new_mark())
        except AddressError as error:
            raise AddressError(self._place.address, f"nothing can be written there: {error.what}") from None

    def _put(self, ends: Iterable[str]) -> None:
        for end in ends:
            name, path = self._place.name + end, self.path + end
            if os.path.exists(path):
                self._place.put(path, name)
            else:
                self._place.remove(name)


def _stamp(path: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _reword(error: BaseException, named: Callable[[str], str]) -> None:
    """Let what an error says name what the user has named."""
    error.args = tuple(named(part) if isinstance(part, str) else part for part in error.args)
    if isinstance(error, OSError) and isinstance(error.filename, str):
        name = named(error.filename)
        # It is no store that is full, but the disk of its copy.
        is_copy = name != error.filename
        error.filename = tempfile.gettempdir() if is_copy and error.errno in FULL else name
    for name, value in vars(error).items():
        if isinstance(value, str):
            setattr(error, name, named(value))
