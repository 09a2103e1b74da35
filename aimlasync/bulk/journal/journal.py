"""The append-only journal of a bulk job: one JSON line per finished row, nothing else in the file.

A batch of lines is one write() at the end of the file, so the only damage that a crash can do is a torn last line,
which the next scan cuts off. A line with neither response nor error is left out; any other that is no record is an
error with its number, never skipped. After a write or sync that failed the journal takes nothing more, because the
system may have dropped what it had; nor once its file was moved, deleted, cut or written to by another program. One run
at a time has the file, which its owner alone can read; `manifest` knows which job it belongs to. Imports this room
alone.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Literal, Self

import msgspec

from aimlasync.bulk.journal import disk
from aimlasync.bulk.journal.manifest import JournalError, claim, facts_of, job_of, release, renew
from aimlasync.bulk.journal.record import Glance, Record, decode_glance, decode_record, encode_record_into, two_records

__all__ = ["Journal", "JournalError"]

Durability = Literal["process", "power"]

# A crash of this process loses at most so many rows, or the rows of so many seconds.
_BATCH = 256
_DELAY = 0.05
# With durability "power" a crash of the machine loses at most so many, and those written during a sync.
_SYNC_BATCH = 1000
_SYNC_DELAY = 1.0

_FLAGS = os.O_RDWR | os.O_APPEND | disk.BINARY
_BLOCK = 2**20
_LINE = 2**14


class Journal:
    """An open journal. Read `scan` to its end before the first `append`; an offset is the byte where a line begins."""

    def __init__(self, path: str, fd: int, claimed: int, durability: Durability, write: disk.Write, sync: disk.Sync):
        self.path = path
        self.job = job_of(path)
        """What the manifest says of the job."""
        self._fd = fd
        self._claimed = claimed
        self._write = write
        self._sync = sync
        # The size of the file, and whether `scan` was read to its end.
        self._size = os.fstat(fd).st_size
        self._is_scanned = False
        # How many rows wait for a write, and their lines.
        self._rows = 0
        self._waiting = bytearray()
        self.blanks: list[int] = []
        """Where the lines begin that `scan` found to be no records."""
        self._timer: asyncio.TimerHandle | None = None
        # With "power": the thread that syncs, its current sync, lines since that began, and the timer of the next.
        self._syncer = ThreadPoolExecutor(1, "journal") if durability == "power" else None
        self._syncing: Future[None] | None = None
        self._unsynced = 0
        self._sync_timer: asyncio.TimerHandle | None = None
        self._failure: BaseException | None = None

    @classmethod
    def open(
        cls,
        path: str,
        *,
        job: Mapping[str, Any],
        facts: Mapping[str, Any] | None = None,
        restart: bool = False,
        overwrite: bool = False,
        may_differ: Collection[str] = (),
        durability: Durability = "process",
        write: disk.Write = os.write,
        sync: disk.Sync = disk.sync,
    ) -> Self:
        """Open or make the journal of `job`; `restart` empties it, `overwrite` also a file of another origin.

        `facts` are for readers of the manifest and not compared, and of the job what is named in `may_differ` is not
        either: until `renew` the manifest, and `.job`, say what they said. Durability "process" survives the end of
        this process in any way, "power" that of the machine. PATH.manifest, PATH.compact and PATH.gone are the
        journal's own. Raises JournalError when it is another job's, in use, or no journal; OSError when it cannot be
        made.
        """
        # The lock is beside the file itself, links followed.
        path = os.path.realpath(path) if os.path.islink(path) else path
        claimed = claim(
            path,
            job=job,
            facts=facts or {},
            restart=restart,
            overwrite=overwrite,
            may_differ=may_differ,
            write=write,
            sync=sync,
        )
        try:
            with suppress(FileNotFoundError):
                os.unlink(path + ".compact")
            return cls(path, os.open(path, _FLAGS), claimed, durability, write, sync)
        except BaseException:
            release(claimed)
            raise

    def renew(self, *, job: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Let the manifest say `job` and `facts`. Raises OSError."""
        self._claimed = renew(self.path, self._claimed, job=job, facts=facts, write=self._write, sync=self._sync)
        self.job = dict(job)

    def forget_input(self) -> None:
        """Let the manifest name no input, so that rows are found by what they ask, not by place. Raises OSError."""
        self.renew(job={**self.job, "input": ""}, facts=facts_of(self.path) or {})

    def scan(self) -> Iterator[tuple[int, Glance]]:
        """Read what is there, with offsets; cut off a torn last line. Raises JournalError for any other bad one.

        Lines with neither response nor error are no records: they are left out, and their offsets are in `blanks`.
        """
        return ((offset, glance) for offset, glance, _ in self.scan_lines())

    def scan_lines(self) -> Iterator[tuple[int, Glance, bytes]]:
        """Read what is there as `scan` does, with the lines themselves."""
        self.flush()
        self.blanks.clear()
        number = end = 0
        for number, (offset, line) in enumerate(self._whole_lines(), 1):
            try:
                glance = decode_glance(line)
            except msgspec.DecodeError as error:
                if said := two_records(line):
                    raise JournalError(f"{self.path}: line {number}: {said}") from None
                what = f"{self.path}: line {number}: not a record ({error})"
                fix = "delete that line (its row is asked again), or begin anew with --restart"
                raise JournalError(f"{what}; {fix}") from None
            if glance is None:
                self.blanks.append(offset)
            else:
                yield offset, glance, line
            end = offset + len(line) + 1
        if number and len(self.blanks) == number:
            what = "not a journal: none of its lines has a response or an error"
            raise JournalError(f"{self.path}: {what}; move it away, or begin anew with --restart")
        if self._is_scanned:
            return
        if torn := disk.read_at(self._fd, self._size - end, end):
            try:
                glance = decode_glance(torn)
            except msgspec.DecodeError:
                if said := two_records(torn):
                    raise JournalError(f"{self.path}: line {number + 1}: {said}") from None
                glance = None
            if glance is None:
                with disk.errors_name(self.path):
                    os.ftruncate(self._fd, end)
                self._size = end
            else:
                # The record is whole and only its line end was lost.
                self._put(bytearray(b"\n"))
                yield end, glance, torn
            # Without a sync a power failure could restore what was cut off, under what is appended from here on.
            with disk.errors_name(self.path):
                self._sync(self._fd)
        self._is_scanned = True

    def append(self, line: Record | msgspec.Raw) -> int:
        """Add a finished row, or a line of another journal as it is, and return its offset.

        It reaches the operating system within 50 ms. A line, and the body of a row, must be JSON on one line. Raises
        the error of an earlier write or sync. Needs a running loop.
        """
        waiting = self._waiting
        if self._failure is not None or not self._is_scanned:
            self._must_take()
        before = len(waiting)
        # Into what is written: a line of its own would be copied twice.
        try:
            encode_record_into(line, waiting, before)
        except BaseException:
            del waiting[before:]
            raise
        waiting += b"\n"
        offset = self._size + before
        self._rows += 1
        if self._rows >= _BATCH:
            self.flush()
        elif not before:
            self._timer = asyncio.get_running_loop().call_later(_DELAY, self._flush_due)
        if self._syncer is not None:
            self._unsynced += 1
            if self._unsynced >= _SYNC_BATCH and not self._is_syncing():
                self._begin_sync(self._syncer)
            elif self._sync_timer is None:
                loop = asyncio.get_running_loop()
                self._sync_timer = loop.call_later(_SYNC_DELAY, self._sync_due, loop, self._syncer)
        return offset

    def flush(self) -> None:
        """Write the waiting lines to the operating system, in one write."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._check()
        if self._rows:
            self._rows = 0
            self._put(self._waiting)
        try:
            disk.check_whole(self._fd, self.path, self._size)
        except OSError as error:
            self._failure = error
            raise

    def sync(self) -> None:
        """Write the waiting lines, and sync them to the disk."""
        self._end_sync()
        self.flush()
        with disk.errors_name(self.path):
            self._sync(self._fd)

    def read(self, offset: int) -> Record:
        """Return the record whose line begins at `offset`. Raises JournalError when none does."""
        if offset >= self._size:
            self.flush()
        size = _LINE
        while True:
            line, newline, _ = disk.read_at(self._fd, size, offset).partition(b"\n")
            if newline or len(line) < size:
                break
            size *= 8
        try:
            return decode_record(line)
        except msgspec.DecodeError as error:
            raise JournalError(f"{self.path}: no record at byte {offset} ({error})") from None

    def compact(self, drop: Iterable[int]) -> None:
        """Rewrite the journal without the lines at these offsets, as `rewrite` does."""
        drops = sorted(set(drop))
        if drops:
            self.rewrite(self._lines_without(drops))

    def lines(self) -> Iterator[bytes]:
        """Give every line, in the order of `scan` where that has no `blanks`, without its line end."""
        self.flush()
        return (line for _, line in self._whole_lines())

    def rewrite(self, lines: Iterable[bytes]) -> None:
        """Put `lines`, which may be made of those there are, in the place of all; every offset known before is void.

        A crash leaves it as it was or as it shall be; so does an error. It takes the time of a copy, in which the loop
        stands still.
        """
        self._end_sync()
        self.flush()
        self._must_take()
        temporary = self.path + ".compact"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | disk.BINARY, 0o600)
        try:
            with disk.errors_name(self.path):
                try:
                    kept: list[bytes] = []
                    for line in lines:
                        kept += line, b"\n"
                        if len(kept) >= _BATCH:
                            disk.write_all(self._write, fd, b"".join(kept))
                            kept.clear()
                    disk.write_all(self._write, fd, b"".join(kept))
                    self._sync(fd)
                    size = os.fstat(fd).st_size
                finally:
                    os.close(fd)
            # Windows cannot rename over a file that is open.
            old, self._fd = self._fd, -1
            os.close(old)
            try:
                os.replace(temporary, self.path)
            finally:
                self._fd = os.open(self.path, _FLAGS)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        self._size = size
        try:
            # Before this, a power failure would restore the old file, without what is appended from here on.
            disk.sync_directory(self.path, self._sync)
        except BaseException as error:
            self._failure = error
            raise

    def close(self, *, sync: bool = True) -> None:
        """Write and sync the waiting lines, and close the file; harmless more than once.

        Without `sync` the file is on its way out, and what it holds is elsewhere. Raises the error of an earlier write
        or sync.
        """
        if self._claimed < 0:
            return
        try:
            if sync:
                self.sync()
        finally:
            for timer in (self._timer, self._sync_timer):
                if timer is not None:
                    timer.cancel()
            if self._syncer is not None:
                self._syncer.shutdown()
            with suppress(OSError):
                os.close(self._fd)
            release(self._claimed)
            self._fd = self._claimed = -1
            self._is_scanned = False

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _must_take(self) -> None:
        self._check()
        if not self._is_scanned:
            raise RuntimeError("this takes an open journal whose scan() was read to the end")

    def _put(self, batch: bytearray) -> None:
        """Write a batch, and empty it."""
        try:
            with disk.errors_name(self.path):
                disk.write_all(self._write, self._fd, batch)
        except BaseException as error:
            self._failure = error
            # Whole lines of the batch that were written stay; a part of a line is cut off.
            with suppress(OSError):
                written = os.fstat(self._fd).st_size - self._size
                if written > 0:
                    self._size += batch.rfind(b"\n", 0, written) + 1
                    os.ftruncate(self._fd, self._size)
            raise
        self._size += len(batch)
        batch.clear()

    def _flush_due(self) -> None:
        # The error is stored, and the next append raises it.
        with suppress(OSError):
            self.flush()

    def _is_syncing(self) -> bool:
        return self._syncing is not None and not self._syncing.done()

    def _begin_sync(self, syncer: ThreadPoolExecutor) -> None:
        if self._sync_timer is not None:
            self._sync_timer.cancel()
            self._sync_timer = None
        self.flush()
        self._unsynced = 0
        self._syncing = syncer.submit(self._sync_file)

    def _sync_due(self, loop: asyncio.AbstractEventLoop, syncer: ThreadPoolExecutor) -> None:
        self._sync_timer = None
        if self._is_syncing():
            # The disk is slower than the interval; syncs do not overlap.
            self._sync_timer = loop.call_later(_DELAY, self._sync_due, loop, syncer)
        else:
            with suppress(OSError):
                self._begin_sync(syncer)

    def _sync_file(self) -> None:
        # Runs in a thread. The error is stored, and the next append raises it.
        try:
            with disk.errors_name(self.path):
                self._sync(self._fd)
        except OSError as error:
            self._failure = error

    def _end_sync(self) -> None:
        if self._syncing is not None:
            self._syncing.result()

    def _lines_without(self, drops: list[int]) -> Iterator[bytes]:
        skips = iter(drops)
        skip = next(skips, None)
        for offset, line in self._whole_lines():
            if offset == skip:
                skip = next(skips, None)
            else:
                yield line
        if skip is not None:
            raise ValueError(f"{self.path}: no line begins at byte {skip}")

    def _whole_lines(self) -> Iterator[tuple[int, bytes]]:
        """Give every line that has its line end, without that, and its offset."""
        offset, rest = 0, b""
        while block := disk.read_at(self._fd, max(_BLOCK, len(rest)), offset + len(rest)):
            lines = (rest + block).split(b"\n")
            rest = lines.pop()
            for line in lines:
                yield offset, line
                offset += len(line) + 1
