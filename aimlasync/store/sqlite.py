"""Answers in one SQLite file, for the processes of one machine.

Reads and writes go through one connection in one thread of its own, so that a slow disk does not hold the event loop.
The file is in WAL mode: readers and a writer do not wait for each other, and a process that is killed leaves no torn
value. WAL needs shared memory, so the file must be on a local disk; machines share a directory or a Redis. It may
import `protocol`.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from aimlasync.addresses import begins_like_one
from aimlasync.store import protocol
from aimlasync.store.protocol import check_bounds, checked, is_over, sealed, unsealed

T = TypeVar("T")

_MAGIC = b"SQLite format 3\x00"
# In the header of the file (https://sqlite.org/fileformat.html): "aims", and the version of the tables.
_APPLICATION = 0x61696D73
_FORMAT = 1
# Seconds that one process waits for another one's write, and for which it then writes nothing: each answer would wait
# as long, behind the others.
_BUSY = 10.0
_PAUSE = 60.0
# Where the file is full, so much of its bound is freed at once.
_FREED = 1 / 16
# Reads whose time is written with the next value, at most.
_MOST_READ = 1000
# Values after which the expired ones are deleted.
_SWEEP = 1000

_TABLES = """
CREATE TABLE IF NOT EXISTS answers
    (key TEXT PRIMARY KEY, value BLOB NOT NULL, size INTEGER NOT NULL, written REAL NOT NULL, used REAL NOT NULL);
CREATE INDEX IF NOT EXISTS answers_used ON answers (used);
CREATE TABLE IF NOT EXISTS totals (bytes INTEGER NOT NULL);
INSERT INTO totals SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM totals);
CREATE TRIGGER IF NOT EXISTS answers_added AFTER INSERT ON answers
    BEGIN UPDATE totals SET bytes = bytes + NEW.size; END;
CREATE TRIGGER IF NOT EXISTS answers_changed AFTER UPDATE OF size ON answers
    BEGIN UPDATE totals SET bytes = bytes + NEW.size - OLD.size; END;
CREATE TRIGGER IF NOT EXISTS answers_deleted AFTER DELETE ON answers
    BEGIN UPDATE totals SET bytes = bytes - OLD.size; END;
"""
_PUT = """
INSERT INTO answers VALUES (?, ?, ?, ?, ?) ON CONFLICT (key)
    DO UPDATE SET value = excluded.value, size = excluded.size, written = excluded.written, used = excluded.used
"""


class SQLiteStore:
    """One SQLite file on a local disk, which all processes of this machine may use at once.

    With `max_bytes`, which counts the values, those that were not used for longest are deleted; the file does not
    shrink, its pages are used again. An answer older than `ttl` seconds is none. A value survives a killed process; a
    power failure may take the last ones, and never tears one. A file that is locked for ten seconds by somebody else is
    not written to for a minute, nor read where even that must wait; one on a read-only or a full disk is only read; one
    that was deleted is made again. Raises ValueError for a URL, for a file of another program or of a newer version of
    this one, and for bounds of zero.
    """

    def __init__(self, path: str | os.PathLike[str], *, max_bytes: int | None = None, ttl: float | None = None) -> None:
        if begins_like_one(os.fspath(path)):
            raise ValueError(f"{os.fspath(path)}: an address, and an SQLiteStore is a file; name one")
        check_bounds(max_bytes, ttl)
        self.path = os.path.abspath(path)
        self.max_bytes = max_bytes
        self.ttl = ttl
        _check_header(self.path)
        # Made with the first call, in its own thread, and again in a forked process.
        self._thread: ThreadPoolExecutor | None = None
        # The end of the thread before it, which has the connection until then.
        self._closed: Future[None] | None = None
        self._connection: sqlite3.Connection | None = None
        self._pid = 0
        # Which file it is open on.
        self._file: tuple[int, int] | None = None
        self._making = threading.Lock()
        # When keys were read since the last write.
        self._read_at: dict[str, float] = {}
        self._until_sweep = 0
        # Why the file can only be read, and when that was seen.
        self._unwritable: tuple[str, float] | None = None
        # The times at which another process had held the file for too long: to write to it, and even to read it.
        self._locked_at = self._held_at = float("-inf")

    def __repr__(self) -> str:
        return f"SQLiteStore({self.path!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.path, self.max_bytes, self.ttl)

    async def get(self, keys: Sequence[str], /) -> list[bytes | None]:
        """Return what is kept under each of `keys`, None for what is not. Raises OSError."""
        return await self._in_thread(self._read, keys)

    async def put(self, key: str, value: bytes, /) -> None:
        """Keep `value`. Raises OSError."""
        await self._in_thread(self._write, checked(key), value)

    async def close(self) -> None:
        """Close the file; a later call opens it again."""
        with self._making:
            if self._pid != os.getpid():
                return
            if self._thread is not None:
                self._closed = self._thread.submit(self._disconnect)
                self._thread.shutdown(wait=False)
                self._thread = None
            closed = self._closed
        if closed is not None:
            # It goes on where this is cancelled.
            await asyncio.shield(asyncio.wrap_future(closed))

    async def _in_thread(self, work: Callable[..., T], *given: Any) -> T:
        with self._making:
            if self._thread is None or self._pid != os.getpid():
                # A connection and a thread do not survive a fork. The parent's connection is left open: to close it
                # here would give up the locks that the parent holds.
                if self._pid != os.getpid():
                    _not_to_close.append(self._connection)
                    self._connection, self._closed, self._pid = None, None, os.getpid()
                before = () if self._closed is None else (self._closed,)
                self._thread = ThreadPoolExecutor(
                    1, thread_name_prefix="aimlasync-store", initializer=wait, initargs=(before,)
                )
            future = self._thread.submit(self._work, work, given)
        return await asyncio.wrap_future(future)

    def _work(self, work: Callable[..., T], given: tuple[Any, ...]) -> T:
        self._check_held(self._held_at)
        try:
            self._leave_deleted()
            if self._connection is None:
                self._connection = self._connect()
                self._file = _file_at(self.path)
            return work(self._connection, *given)
        except sqlite3.Error as error:
            self._note_lock(error, reading=self._connection is None or work == self._read)
            damaged = _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
            said = f"{self.path}: {error}" + ("; delete it, and it is made again" if damaged else "")
        raise OSError(said)

    def _leave_deleted(self) -> None:
        """Let go of a file that is no longer at the path: what is kept in it, nobody else would find.

        One that can only be read is opened again after a while.
        """
        since = protocol.now() - self._unwritable[1] if self._unwritable is not None else 0.0
        if self._connection is not None and not 0 <= since < _PAUSE:
            self._connection.close()
            self._connection = None
        if self._connection is not None and self._file != _file_at(self.path):
            # To close it would delete a WAL by its name, which may be that of a new file by now.
            _not_to_close.append(self._connection)
            self._connection = None

    def _note_lock(self, error: sqlite3.Error, *, reading: bool = False) -> None:
        if _code(error) == sqlite3.SQLITE_BUSY:
            self._locked_at = protocol.now()
            if reading:
                self._held_at = self._locked_at

    def _check_held(self, at: float) -> None:
        if 0 <= protocol.now() - at < _PAUSE:
            raise OSError(f"{self.path}: another process held it for {_BUSY:g} s a moment ago")

    def _connect(self) -> sqlite3.Connection:
        self._unwritable = None
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        if not os.path.exists(self.path):
            # Answers are nobody else's to read.
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        connection = self._opened(self.path)
        try:
            try:
                connection.execute("PRAGMA journal_mode=WAL")
            except sqlite3.OperationalError as error:
                is_full = _code(error) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
                if not is_full and all(os.access(path, os.W_OK) for path in (self.path, os.path.dirname(self.path))):
                    raise
                # WAL needs two files beside this one, which cannot be made here: the disk is read-only, or full.
                connection.close()
                connection = self._opened(f"{Path(self.path).as_uri()}?immutable=1")
                if not self._version(connection):
                    raise
                self._unwritable = str(error), protocol.now()
                return connection
            connection.execute("PRAGMA synchronous=NORMAL")
            # A file that is ready is read also while another process writes.
            if self._version(connection) == 0:
                connection.execute("BEGIN IMMEDIATE")
                if self._version(connection) == 0:
                    # What others wrote may be in the file's WAL alone, which the header does not show.
                    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                        raise OSError(_of_others(self.path))
                    for statement in _statements():
                        connection.execute(statement)
                    connection.execute(f"PRAGMA application_id={_APPLICATION}")
                    connection.execute(f"PRAGMA user_version={_FORMAT}")
                connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        return connection

    def _opened(self, name: str) -> sqlite3.Connection:
        return sqlite3.connect(
            name, timeout=_BUSY, isolation_level=None, check_same_thread=False, uri=name.startswith("file:")
        )

    def _version(self, connection: sqlite3.Connection) -> int:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > _FORMAT:
            raise OSError(_newer(self.path, version))
        return version

    def _disconnect(self) -> None:
        self._leave_deleted()
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            if self._read_at:
                self._in_transaction(connection, self._note_reads)
        except (sqlite3.Error, OSError):
            # Only the times of reads are lost.
            pass
        finally:
            connection.close()

    def _read(self, connection: sqlite3.Connection, keys: Sequence[str]) -> list[bytes | None]:
        found: list[bytes | None] = []
        now = protocol.now()
        for key in keys:
            row = connection.execute("SELECT value, written FROM answers WHERE key = ?", (key,)).fetchone()
            if row is None or is_over(row[1], self.ttl):
                found.append(None)
                continue
            found.append(unsealed(key, row[0]))
            if self.max_bytes is not None and self._unwritable is None:
                self._read_at[key] = now
        if len(self._read_at) >= _MOST_READ:
            # Only the times of reads wait for a file that is locked, or are lost where it cannot be written.
            try:
                with suppress(OSError):
                    self._in_transaction(connection, self._note_reads)
            except sqlite3.Error as error:
                self._read_at = {}
                self._note_lock(error)
        return found

    def _write(self, connection: sqlite3.Connection, key: str, value: bytes) -> None:
        data = sealed(key, value)
        if self.max_bytes is not None and len(data) > self.max_bytes:
            return

        def write(connection: sqlite3.Connection) -> None:
            now = protocol.now()
            self._note_reads(connection)
            connection.execute(_PUT, (key, data, len(data), now, now))
            self._free(connection, now)

        self._in_transaction(connection, write)

    def _in_transaction(self, connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], None]) -> None:
        if self._unwritable is not None:
            raise OSError(f"{self.path}: it can only be read ({self._unwritable[0]})")
        self._check_held(self._locked_at)
        # At once: a reader that becomes a writer later may be refused.
        connection.execute("BEGIN IMMEDIATE")
        try:
            work(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _note_reads(self, connection: sqlite3.Connection) -> None:
        read, self._read_at = self._read_at, {}
        connection.executemany(
            "UPDATE answers SET used = max(used, ?) WHERE key = ?", [(at, key) for key, at in read.items()]
        )

    def _free(self, connection: sqlite3.Connection, now: float) -> None:
        """Delete what has expired, and what was used least recently while there is too much."""
        if self.ttl is not None:
            self._until_sweep -= 1
            if self._until_sweep <= 0:
                self._until_sweep = _SWEEP
                connection.execute("DELETE FROM answers WHERE abs(? - written) >= ?", (now, self.ttl))
        if self.max_bytes is None:
            return
        (total,) = connection.execute("SELECT bytes FROM totals").fetchone()
        if total <= self.max_bytes:
            return
        # A use in the future is of a clock that was wrong, and would be the last one for ever.
        connection.execute("UPDATE answers SET used = ? WHERE used > ?", (now, now))
        gone = []
        for key, size in connection.execute("SELECT key, size FROM answers ORDER BY used, rowid"):
            gone.append((key,))
            total -= size
            if total <= self.max_bytes * (1 - _FREED):
                break
        connection.executemany("DELETE FROM answers WHERE key = ?", gone)


def _check_header(path: str) -> None:
    """Raise ValueError for a file that is there and is no store of answers."""
    try:
        with open(path, "rb") as file:
            header = file.read(100)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        raise ValueError(f"{path}: a directory, and an SQLiteStore is a file; name one in it") from None
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path!r}: cannot be opened ({getattr(error, 'strerror', None) or error}); name another file"
        ) from None
    if not header:
        return
    if not header.startswith(_MAGIC):
        raise ValueError(f"{path}: a file that is no store of answers; name another")
    tables, version, application = (int.from_bytes(header[at : at + 4], "big") for at in (40, 60, 68))
    # The first is the schema cookie, above zero where a table was ever made; the tables of a store come with its id.
    if application not in (0, _APPLICATION) or (application == 0 and (version or tables)):
        raise ValueError(_of_others(path))
    if version > _FORMAT:
        raise ValueError(_newer(path, version))


def _code(error: sqlite3.Error) -> int:
    """Return the primary code of an error."""
    code: int = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code


def _file_at(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _of_others(path: str) -> str:
    return f"{path}: an SQLite file of another program; name another file"


def _newer(path: str, version: int) -> str:
    return (
        f"{path}: a store of format {version}, and this version of aimlasync knows {_FORMAT}; upgrade, or name another"
    )


def _statements() -> list[str]:
    statements, held = [], ""
    for line in _TABLES.strip().splitlines():
        held += f"{line}\n"
        if sqlite3.complete_statement(held):
            statements.append(held)
            held = ""
    return statements


def _again(path: str, max_bytes: int | None, ttl: float | None) -> SQLiteStore:
    return SQLiteStore(path, max_bytes=max_bytes, ttl=ttl)


# Connections of a parent, which a forked process must neither use nor close, and to files that were deleted.
_not_to_close: list[sqlite3.Connection | None] = []
