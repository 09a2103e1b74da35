"""The append-only record of a bulk job: one JSON line per finished row, after a first line that says which job it is.

Law: whole lines or nothing. A batch is one write() at the end of the file; the only damage that a crash can do is a
torn last line, which opening cuts off. Any other line that is not a record is an error with its number, never skipped.
One process at a time (flock), readable by its owner alone, and never a key in it.

A line has the shape of a result line of OpenAI's Batch API, so that its tools read it:
{"id", "custom_id", "response": {"status_code", "request_id", "body"}, "error"}; `response` also holds what the body
does not say (attempts, cost_usd), and `error` the attempts and the status of a failure.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Self

import msgspec

VERSION = 1

# A crash of this process loses at most so many rows, or this many seconds of them.
_BATCH = 256
_DELAY = 0.05

_encode = msgspec.json.Encoder().encode


class JournalError(Exception):
    """A journal that cannot be used; the message says what to do."""


class Response(msgspec.Struct, kw_only=True):
    """What the server answered."""

    status_code: int
    request_id: str | None
    body: msgspec.Raw
    attempts: int | None = None
    cost_usd: float | None = None


class Failure(msgspec.Struct, kw_only=True):
    """Why there is no label."""

    code: str
    """The error's class."""
    message: str
    status: int | None = None
    attempts: int | None = None


class Record(msgspec.Struct, kw_only=True, gc=False):
    """One finished row."""

    id: str
    custom_id: str
    response: Response | None
    error: Failure | None


_record = msgspec.json.Decoder(Record)


class Journal:
    """An open journal. Read `records` to their end before the first `append`."""

    def __init__(self, path: str, fd: int, start: int) -> None:
        self.path = path
        self._fd = fd
        # Where the records begin: after the manifest.
        self._start = start
        # Lines not yet written, the timer that will write them, and the error that it met.
        self._lines: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._failure: OSError | None = None

    @classmethod
    def open(cls, path: str, manifest: Mapping[str, Any], *, restart: bool = False) -> Self:
        """Open or make the journal of the job that `manifest` describes; with `restart` an old one is emptied.

        Raises JournalError when it is another job's, in use, or no journal; OSError when it cannot be made.
        """
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            _lock(fd, path)
            if restart:
                os.ftruncate(fd, 0)
            start = _begin(fd, path, {"aimlasync": "journal", "version": VERSION, **manifest})
        except BaseException:
            os.close(fd)
            raise
        return cls(path, fd, start)

    def records(self) -> Iterator[tuple[int, Record]]:
        """Read what is there, with line numbers; cut off a torn last line. Raises JournalError for another bad one."""
        with open(self._fd, "rb", closefd=False) as file:
            file.seek(self._start)
            at = self._start
            for number, line in enumerate(file, 2):
                try:
                    record = _record.decode(line)
                except msgspec.DecodeError as error:
                    if line.endswith(b"\n"):
                        raise self.error(number, f"not a record ({error})") from None
                    os.ftruncate(self._fd, at)
                    return
                if not line.endswith(b"\n"):
                    # Only the line end was lost.
                    _write(self._fd, b"\n")
                at += len(line)
                yield number, record

    def error(self, line: int, what: str) -> JournalError:
        """Return the error for a bad line."""
        return JournalError(f"{self.path}: line {line}: {what}; delete that line, or begin anew with --restart")

    def append(self, record: Record) -> None:
        """Add a finished row; it reaches the operating system within 50 ms. Raises the OSError of an earlier write."""
        if self._failure is not None:
            raise self._failure
        self._lines.append(_encode(record))
        if len(self._lines) >= _BATCH:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_DELAY, self._ring)

    def flush(self) -> None:
        """Hand over to the operating system what is waiting, in one write."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._failure is not None:
            raise self._failure
        if self._lines:
            self._lines.append(b"")
            batch = b"\n".join(self._lines)
            self._lines.clear()
            try:
                _write(self._fd, batch)
            except OSError as error:
                error.filename = self.path
                self._failure = error
                raise

    def close(self) -> None:
        """Write what is waiting, to the disk itself, and let go of the file; harmless more than once."""
        if self._fd < 0:
            return
        try:
            if self._failure is None:
                self.flush()
                os.fsync(self._fd)
        finally:
            if self._timer is not None:
                self._timer.cancel()
            os.close(self._fd)
            self._fd = -1

    def _ring(self) -> None:
        self._timer = None
        # An error is kept in `_failure`: the next append says so to somebody who can act.
        with suppress(OSError):
            self.flush()


def raw_body(raw: bytes) -> msgspec.Raw:
    """Return a JSON body as one line."""
    if b"\n" in raw or b"\r" in raw:
        raw = _encode(msgspec.json.decode(raw))
    return msgspec.Raw(raw)


def _lock(fd: int, path: str) -> None:
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise JournalError(f"{path} is in use by another run; wait for it, or choose another -o") from None
    except OSError:
        # A file system without locks.
        pass


def _begin(fd: int, path: str, manifest: dict[str, Any]) -> int:
    """Read and compare the manifest, or write it into an empty file; return where the records begin."""
    written = _encode(manifest) + b"\n"
    with open(fd, "rb", closefd=False) as file:
        file.seek(0)
        line = file.readline(2**24)
    if not line.endswith(b"\n") and written.startswith(line):
        # Empty, or a run that died while it wrote the first line.
        os.ftruncate(fd, 0)
        _write(fd, written)
        return len(written)
    try:
        found = msgspec.json.decode(line)
    except msgspec.DecodeError:
        found = None
    if not isinstance(found, dict) or found.get("aimlasync") != "journal":
        raise JournalError(f"{path} is there and is not a journal of ours; move it away, or choose another -o")
    if found.get("version") != VERSION:
        raise JournalError(f"{path} was made by another version; finish it there, or begin anew with --restart")
    other = [name for name in {**manifest, **found} if manifest.get(name) != found.get(name)]
    if other:
        raise JournalError(
            f"{path} belongs to a job that differs in: {', '.join(other)}; choose another -o, or begin anew with "
            "--restart (its answers are lost)"
        )
    return len(line)


def _write(fd: int, data: bytes) -> None:
    """One write, and more only where the system took less."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
