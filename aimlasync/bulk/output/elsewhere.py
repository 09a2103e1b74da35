"""An output at an address: a job writes it into the current directory, and it is copied there when the job ends.

A mark beside both says which run has them. It is written before the first call, which shows whether anything can be
written there; and a run whose copy is not the last one neither goes on with it nor writes it over the other. Imports
`aimlasync.addresses`, the errors of input's `remote`, and `place`.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager

from aimlasync.addresses import AddressError, is_address, name_in, path_of
from aimlasync.bulk.input.remote import input_errors
from aimlasync.bulk.output.place import Place

_OWN = ("", ".manifest", ".outputs", ".gone")


def mark_of(name: str) -> str:
    """Return the name of the mark beside an output."""
    return f"{name}.journal.copy"


def new_mark() -> bytes:
    """Return a mark that no other run has."""
    return f"{socket.gethostname()} {os.getpid()} {secrets.token_hex(8)}\n".encode()


class Elsewhere:
    """The output at `address` of a job that writes to `path`, a file of the same name here. Raises AddressError."""

    def __init__(self, address: str) -> None:
        self._there = Place(address, writes=True)
        self._address = address
        self.path = self._there.name
        self._names = [f"{self.path}{end}{own}" for end in ("", ".journal") for own in _OWN]
        self._mark = mark_of(self.path)
        # What the files were when they were copied from there.
        self._copied: dict[str, tuple[int, int]] = {}
        self._is_first = False
        self._own = new_mark()

    def begin(self) -> None:
        """Copy the files that are there, unless those of the last run are here, and write the mark."""
        here, there = _lines(self._mark), self._there.read(self._mark)
        names = self._there.existing(self._names)
        if not any(os.path.exists(name) for name in self._names):
            self._copy(names)
        elif names and (there is None or there not in here):
            what = f"not what {self.path} in this directory is a copy of: another run has written one of them"
            raise AddressError(self._address, f"{what}; work in another directory, or choose another -o")
        self._is_first = there is None
        # Here first, with the one that is there: a crash between the two leaves a copy that is known.
        with open(self._mark, "wb") as file:
            file.write(self._own + (there or b""))
        try:
            self._there.write(self._mark, self._own)
        except AddressError as error:
            if not here:
                os.unlink(self._mark)
            raise AddressError(self._address, f"nothing can be written there: {error.what}") from None

    def end(self) -> bool:
        """Copy the files that are here and were written, and return whether there were any.

        Where none was, what was there before the first run is left.
        """
        written = [name for name in self._names if os.path.exists(name) and _stamp(name) != self._copied.get(name)]
        is_undone, here = self._is_first and not written, f"the answers are here, in {self.path} and what is beside it"
        try:
            is_own = self._there.read(self._mark) == self._own
            for name in written if is_own else ():
                self._there.put(name, name)
            if is_own and is_undone:
                self._there.remove(self._mark)
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
        return bool(written)

    def _copy(self, names: Sequence[str]) -> None:
        """Copy files from there, all or none: a part of them would be taken for what another run left here."""
        try:
            for name in names:
                if self._there.get(name, name):
                    self._copied[name] = _stamp(name)
        except BaseException:
            for name in self._copied:
                os.unlink(name)
            raise


@contextmanager
def written_here(
    output: str, *, is_worker: bool = False, copied: Callable[[str], object] | None = None
) -> Iterator[str]:
    """Give the path that a job writes to: of an address a file here, which is copied there at the end.

    Where that is not here, it is copied from there first, so that another machine goes on. A worker leaves both to its
    parent. `copied` is called with the address, without its secrets, when files were copied there. Raises InputError,
    also at the end.
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
                if there.end() and copied is not None:
                    copied(name_in(output))


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
