"""An output at an address: a job writes it into the current directory, and it is copied there when the job ends.

A mark beside both says which run has them. It is written before the first call, which shows whether anything can be
written there; and a run whose copy is not the last one neither goes on with it nor writes it over the other. Imports
`aimlasync.addresses`, and the errors of input's `remote`.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager

from aimlasync.addresses import AddressError, is_address, is_http, opened, path_of, reaching
from aimlasync.bulk.input.remote import input_errors

_OWN = ("", ".manifest", ".outputs", ".gone")
MARK = ".copy"
"""What the name of the mark ends with."""


class Elsewhere:
    """The output at `address` of a job that writes to `path`, a file of the same name here. Raises AddressError."""

    def __init__(self, address: str) -> None:
        if is_http(address):
            raise AddressError(address, "an output cannot be written there; name a path or an address of a store")
        self._system, self._root = opened(address, anew=True)
        self._address = address
        self.path = os.path.basename(self._root.rstrip("/"))
        with reaching(address):
            if not self.path or address.endswith("/") or self._system.isdir(self._root):
                raise AddressError(address, "a directory; name a file in it")
        self._names = [f"{self.path}{end}{own}" for end in ("", ".journal") for own in _OWN]
        self._mark = f"{self.path}.journal{MARK}"
        # What the files were when they were copied from there.
        self._copied: dict[str, tuple[int, int]] = {}
        self._is_first = False
        self._own = f"{socket.gethostname()} {os.getpid()} {secrets.token_hex(8)}\n".encode()

    def begin(self) -> None:
        """Copy the files that are there, unless those of the last run are here, and write the mark."""
        here = _lines(self._mark)
        with reaching(self._address):
            there = self._marked()
            names = [name for name in self._names if self._system.exists(self._there(name))]
            if not any(os.path.exists(name) for name in self._names):
                for name in names:
                    self._system.get_file(self._there(name), name)
                    self._copied[name] = _stamp(name)
            elif names and (there is None or there not in here):
                what = f"not what {self.path} in this directory is a copy of: another run has written one of them"
                raise AddressError(self._address, f"{what}; work in another directory, or choose another -o")
        self._is_first = there is None
        # Here first, with the one that is there: a crash between the two leaves a copy that is known.
        with open(self._mark, "wb") as file:
            file.write(self._own + (there or b""))
        try:
            with reaching(self._address):
                self._system.pipe_file(self._there(self._mark), self._own)
        except AddressError as error:
            if not here:
                os.unlink(self._mark)
            raise AddressError(self._address, f"nothing can be written there: {error.what}") from None

    def end(self) -> None:
        """Copy the files that are here and were written; where none was, leave what was there before the first run."""
        written = [name for name in self._names if os.path.exists(name) and _stamp(name) != self._copied.get(name)]
        is_undone, here = self._is_first and not written, f"the answers are here, in {self.path} and what is beside it"
        try:
            with reaching(self._address):
                is_own = self._marked() == self._own
                for name in written if is_own else ():
                    self._system.put_file(name, self._there(name))
                if is_own and is_undone:
                    self._system.rm_file(self._there(self._mark))
        except AddressError as error:
            # What ended a run before its first answer says more.
            if written:
                what = f"{error.what}; {here}: the same command copies them"
                raise AddressError(self._address, what) from None
        else:
            if written and not is_own:
                raise AddressError(self._address, f"another run has gone on with it meanwhile; {here}")
        if is_undone:
            for name in (*self._copied, self._mark):
                os.unlink(name)

    def _there(self, name: str) -> str:
        return self._root.rstrip("/").removesuffix(self.path) + name

    def _marked(self) -> bytes | None:
        try:
            return bytes(self._system.cat_file(self._there(self._mark)))
        except FileNotFoundError:
            return None


@contextmanager
def written_here(output: str, *, is_worker: bool = False) -> Iterator[str]:
    """Give the path that a job writes to: of an address a file here, which is copied there at the end.

    Where that is not here, it is copied from there first, so that another machine goes on. A worker leaves both to its
    parent. Raises InputError, also at the end.
    """
    with input_errors():
        output = path_of(output)
        there = Elsewhere(output) if is_address(output) else None
        if there is not None and not is_worker:
            there.begin()
    try:
        yield output if there is None else there.path
    finally:
        if there is not None and not is_worker:
            with input_errors():
                there.end()


@asynccontextmanager
async def written_to(output: str) -> AsyncIterator[str]:
    """Give what `written_here` gives; files are copied in a thread."""
    with ExitStack() as stack:
        if not is_address(output):
            yield output
            return
        path = await asyncio.to_thread(stack.enter_context, written_here(output))
        try:
            yield path
        finally:
            await asyncio.to_thread(stack.close)


def _lines(path: str) -> list[bytes]:
    try:
        with open(path, "rb") as file:
            return file.readlines()
    except FileNotFoundError:
        return []


def _stamp(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns
