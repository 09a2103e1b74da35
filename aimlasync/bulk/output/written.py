"""What a job wrote, recorded in JOURNAL.outputs: one JSON line a file, with its path from there, size and SHA-256.

`target` compares a file with its line before it is replaced. Imports journal, `replace` and `InputError`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import msgspec

from aimlasync.bulk.input.rows import InputError
from aimlasync.bulk.journal import disk
from aimlasync.bulk.journal.manifest import spelled
from aimlasync.bulk.output.replace import replace

# Size in bytes from which the record is written anew, with one line a file.
_LONG = 2**18
# Errors of a directory in which nothing can be written.
_CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS}


class Written(msgspec.Struct, frozen=True):
    """A line of JOURNAL.outputs."""

    path: str
    size: int
    sha256: str
    before: str | None = None
    """SHA-256 of the job's own file in whose place this one comes; a crash may have left that one."""
    aimlasync: str = "output"


_encode = msgspec.json.Encoder().encode
_written = msgspec.json.Decoder(Written).decode


class WrittenFiles:
    """The record of the job whose journal is at `journal`, links followed; `named` gives the addresses of copies."""

    def __init__(self, journal: str, named: Callable[[str], str] = str) -> None:
        self._path = f"{journal}.outputs"
        self._folder = os.path.join(os.path.dirname(journal), "")
        self._named = named

    def name_of(self, path: str) -> str:
        """Return the path of a file as the record spells it."""
        there, folder = self._named(path), self._named(self._folder)
        if (there, folder) == (path, self._folder):
            return spelled(os.path.relpath(path, folder))
        # Where one of both is elsewhere, there is no way from the one to the other.
        return spelled(there.removeprefix(folder))

    def read(self) -> dict[str, Written]:
        """Return what the job has written: path -> the last line that names it.

        Raises InputError for a file that is no such record.
        """
        known: dict[str, Written] = {}
        try:
            with open(self._path, "rb") as file:
                for number, line in enumerate(file):
                    try:
                        written = _written(line)
                    except (ValueError, RecursionError):
                        # A write that was cut off may have left half a line.
                        if number:
                            continue
                        written = None
                    if written is None or written.aimlasync != "output":
                        what = "is there, and is no record of what a job wrote; move it away"
                        raise InputError(self._path, what)
                    known[written.path] = written
        except FileNotFoundError:
            return {}
        return known

    def add(self, written: Written) -> None:
        """Add a line; where the directory of the journal cannot be written to, nothing is recorded."""
        known = self.read()
        if written.path in known and known[written.path].sha256 == written.sha256:
            return
        line = _encode(written) + b"\n"
        try:
            # Appended, so that two exports at once do not lose each other's line.
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | disk.BINARY, 0o600)
        except OSError as error:
            if error.errno not in _CLOSED:
                raise
            # The journal is in a directory of others. A later export will ask for --overwrite.
            return
        with disk.errors_name(self._path):
            try:
                size = os.fstat(fd).st_size
                if size and disk.read_at(fd, 1, size - 1) != b"\n":
                    line = b"\n" + line
                if size < _LONG:
                    disk.write_all(os.write, fd, line)
                    return
            finally:
                os.close(fd)
        known[written.path] = written
        replace(self._path, b"".join(_encode(each) + b"\n" for each in known.values()))
