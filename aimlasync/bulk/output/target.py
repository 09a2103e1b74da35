"""Where a job may write, and how a file is replaced whole.

This file decides for every table, page, file of failed lines and merged journal. A job may write where nothing is, and
over what it wrote itself and nobody has changed since; anything else is refused unless `overwrite` is asked for. What a
job wrote is recorded in JOURNAL.outputs, one JSON line a file: its path from there, its size and its SHA-256.
A replaced file is the old one or the new one, whatever the disk does: it is written beside, synced and renamed.
It may import `disk`, `manifest`, `streams` and `InputError`.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import BinaryIO, Protocol

import msgspec

from aimlasync.bulk.input.rows import InputError
from aimlasync.bulk.journal import disk
from aimlasync.bulk.journal.manifest import JournalError, is_manifest, locked
from aimlasync.bulk.output.streams import NamedFile, check_stream, is_stream, named, open_stream

_SIDECARS = re.compile(r"(.+)\.(?:manifest|outputs|compact|part-[1-9][0-9]*-of-[1-9][0-9]*)\Z", re.DOTALL)
# Of a record, before it is written anew with one line a file.
_LONG = 2**18
# What a directory says in which nothing can be written beside what is read.
_CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS}
_BLOCK = 2**20

# What Ray writes.
_ROWS = (".parquet", ".json", ".jsonl", ".csv")

_FOREIGN = "is there, and is not what this job wrote"
_THEIRS = "the output of another job, whose journal is {}.journal"


class OverwriteError(InputError):
    """A file that would be lost: the job did not write it, or it was changed since; `overwrite` replaces it."""

    def and_kept_in(self, journal: str) -> OverwriteError:
        """Return the error with where the answers are, for a file that somebody wrote while the job ran."""
        return OverwriteError(self.name, f"{self.what}; the answers are in {journal}")


class Readable(Protocol):
    """Something that is read, and knows its file."""

    def same_file(self, path: str) -> bool:
        """Whether `path` is this file."""


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


class Target:
    """A path that the job of `journal` writes to; "-" is standard output.

    `reads` are what the same job reads and `taken` what else it writes, which no option allows to be written over;
    `option` is what a refusal tells to choose another of. With `is_journal` the path is the journal itself, whose
    manifest its caller answers for, and is readable by its owner alone.
    """

    def __init__(
        self,
        path: str,
        *,
        journal: str,
        reads: Collection[Readable | str] = (),
        taken: Collection[str] = (),
        overwrite: bool = False,
        option: str = "name",
        is_journal: bool = False,
    ) -> None:
        self.path = path
        self._journal = os.path.realpath(journal)
        self._reads = reads
        self._taken = taken
        self._overwrite = overwrite
        self._option = option
        self._is_journal = is_journal
        self.drops_manifest = False
        """Whether the manifest beside the path goes with what is there: nothing may take the new file for that."""
        # What was found last: how to know it again, and its digest if it is the job's own.
        self._seen: tuple[tuple[int, ...] | None, str | None] | None = None

    def check(self) -> str | None:
        """Return the digest of the job's own file that is there, None where there is none.

        Raises InputError for a path that cannot be written, OverwriteError for a file that would be lost; OSError.
        """
        if is_stream(self.path):
            check_stream(self.path)
            return None
        check_place(self.path, reads=self._reads, option=self._option)
        real = os.path.realpath(self.path)
        for path in self._taken:
            if real == os.path.realpath(path) or _same(real, path):
                raise InputError(self.path, f"belongs to the output itself; choose another {self._option}")
        if not self._is_journal:
            self._check_journals(real)
        return self._check_content(real)

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Give a file that takes the place of the path when the block ends well, and is gone when it does not.

        Standard output, a pipe and a device are written as they are. Raises what `check` raises, also at the end of
        the block: the path may have been changed meanwhile.
        """
        if is_stream(self.path):
            with open_stream(self.path) as stream:
                yield stream
            return
        self.check()
        real = os.path.realpath(self.path)
        with replacing(real, name=self.path, private=self._is_journal) as (file, temporary):
            yield file
            file.flush()
            with named(self.path):
                disk.sync(file.fileno())
                size, digest = os.fstat(file.fileno()).st_size, _digest(temporary)
            # Before the rename: what a disk says of an error at the end leaves the old file.
            file.close()
            before = self.check()
            # A merge has the lock already.
            with locked(real) if self.drops_manifest and not self._is_journal else nullcontext():
                if self.drops_manifest:
                    os.unlink(f"{real}.manifest")
                self._record(Written(_spelled(os.path.relpath(real, self._folder)), size, digest, before))
                with named(self.path):
                    os.replace(temporary, real)
        self._seen = None

    def _check_journals(self, real: str) -> None:
        """Refuse what belongs to a journal: the job's own, and another's unless it is to be replaced on purpose."""
        path, other = self.path, f"choose another {self._option}"
        if real == self._journal or self._journal == _stem(real):
            raise InputError(path, f"part of the job's own journal; {other}")
        if (stem := _stem(real)) is not None and is_manifest(f"{stem}.manifest"):
            raise InputError(path, f"part of the journal of another job; {other}")
        if is_manifest(f"{real}.manifest"):
            try:
                with locked(real):
                    pass
            except JournalError:
                raise InputError(path, f"the journal of another job, which is running; {other}") from None
            self.refuse(f"the journal of another job, with its answers ({path}.manifest says whose)")
            self.drops_manifest = True

    def _check_content(self, real: str) -> str | None:
        try:
            found = os.stat(real)
        except FileNotFoundError:
            self._seen = None
            if self._is_elsewhere(real):
                self.refuse(_THEIRS.format(self.path))
            return None
        if not os.access(real, os.W_OK):
            raise InputError(self.path, f"no right to write it; choose another {self._option}")
        stamp = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        if self._seen is not None and self._seen[0] == stamp:
            return self._seen[1]
        known = self._known().get(_spelled(os.path.relpath(real, self._folder)))
        own = None
        # An empty file holds nothing that could be lost.
        if found.st_size or known is not None or self._is_elsewhere(real):
            digest = _digest(real) if known is not None else None
            if known is not None and digest in (known.sha256, known.before):
                own = digest
            elif self._is_elsewhere(real):
                self.refuse(_THEIRS.format(self.path))
            elif found.st_size:
                self.refuse("was changed since this job wrote it" if known is not None else _FOREIGN)
        self._seen = (stamp, own)
        return own

    def _is_elsewhere(self, real: str) -> bool:
        """Whether the path is the output of another job, which may be about to write it."""
        theirs = f"{real}.journal"
        return theirs != self._journal and not self._is_journal and is_manifest(f"{theirs}.manifest")

    def refuse(self, what: str) -> None:
        """Raise OverwriteError, unless it is to be overwritten on purpose."""
        if not self._overwrite:
            raise OverwriteError(self.path, f"{what}; choose another {self._option}, or replace it with --overwrite")

    @property
    def _folder(self) -> str:
        return os.path.dirname(self._journal)

    @property
    def _outputs(self) -> str:
        return f"{self._journal}.outputs"

    def _known(self) -> dict[str, Written]:
        """What the job has written: path -> the last line that names it."""
        known: dict[str, Written] = {}
        try:
            with open(self._outputs, "rb") as file:
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
                        raise InputError(self._outputs, what)
                    known[written.path] = written
        except FileNotFoundError:
            return {}
        return known

    def _record(self, written: Written) -> None:
        known = self._known()
        if written.path in known and known[written.path].sha256 == written.sha256:
            return
        line = _encode(written) + b"\n"
        try:
            # Appended, so that two exports at once do not lose each other's line.
            fd = os.open(self._outputs, os.O_RDWR | os.O_CREAT | os.O_APPEND | disk.BINARY, 0o600)
        except OSError as error:
            if error.errno not in _CLOSED:
                raise
            # A journal that others keep: the next time its reader is asked whether to replace the file.
            return
        with disk.errors_name(self._outputs):
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
        replace(self._outputs, b"".join(_encode(each) + b"\n" for each in known.values()))


def check_place(path: str, *, reads: Collection[Readable | str] = (), option: str = "name") -> None:
    """Raise InputError where no file can be made, and for one of those that are read; a file may be there."""
    if os.path.isdir(path):
        raise InputError(path, "a directory; name a file in it")
    folder = os.path.dirname(os.path.realpath(path) if os.path.islink(path) else path) or "."
    if not os.path.isdir(folder):
        raise InputError(path, f"there is no directory {folder}; make it first")
    if not os.access(folder, os.W_OK):
        raise InputError(path, f"no right to write into {folder}; choose another {option}")
    for read in reads:
        if _same(read, path) if isinstance(read, str) else read.same_file(path):
            raise InputError(path, f"the input itself; choose another {option}")


def replace(path: str, data: bytes) -> None:
    """Put a file of `data`, its owner's alone, in the place of one of ours. Raises OSError."""
    with replacing(path, name=path, private=True) as (file, temporary):
        file.write(data)
        file.flush()
        with named(path):
            disk.sync(file.fileno())
            file.close()
            os.replace(temporary, path)


@contextmanager
def replacing_directory(path: str, *, overwrite: bool = False) -> Iterator[str]:
    """Give a new directory beside `path` that takes its place when the block ends well, and is gone when it does not.

    Raises OverwriteError for a directory with files in it, unless `overwrite` is set: more files beside them would make
    their rows twice. What is no file of rows is never taken away: InputError.
    """
    path = os.path.realpath(path)
    if os.path.lexists(path) and not os.path.isdir(path):
        raise InputError(path, "a file, and rows are written as files in a directory; name one")
    check_free(path, os.listdir(path) if os.path.isdir(path) else [], overwrite=overwrite)
    temporary = f"{path}.{secrets.token_hex(6)}.part"
    try:
        with named(path):
            os.makedirs(temporary)
        yield temporary
        there = os.listdir(path) if os.path.isdir(path) else []
        check_free(path, there, overwrite=overwrite)
        with named(path):
            if not there:
                # Python replaces an empty directory by none on Windows.
                with suppress(FileNotFoundError):
                    os.rmdir(path)
                os.rename(temporary, path)
                return
            old = f"{temporary}.old"
            os.rename(path, old)
            try:
                os.rename(temporary, path)
            except BaseException:
                os.rename(old, path)
                raise
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def check_free(path: str, there: Collection[str], *, overwrite: bool) -> None:
    """Raise InputError or OverwriteError for a directory with the names `there` in it."""
    strange = next((name for name in there if not name.endswith(_ROWS)), None)
    if strange is not None:
        raise InputError(path, f"there is {strange!r} in it, which is no file of rows; name another directory")
    if there and not overwrite:
        what = "has files of rows already, and more beside them would make rows twice"
        raise OverwriteError(path, f"{what}; choose another directory, or replace them with overwrite=True")


@contextmanager
def replacing(path: str, *, name: str, private: bool = False) -> Iterator[tuple[BinaryIO, str]]:
    """Give a new file beside `path` and where it is, to be renamed within the block; whatever happens, it is gone.

    It has the mode and, where that may be, the owner of what is at `path`; else a `private` one is its owner's alone.
    Errors of the disk go by `name`.
    """
    folder = os.path.dirname(path) or "."
    temporary = os.path.join(folder, f".aimlasync-{secrets.token_hex(6)}.part")
    try:
        old: os.stat_result | None = os.stat(path)
    except FileNotFoundError:
        old = None
    mode = stat.S_IMODE(old.st_mode) if old is not None else 0o600 if private else 0o666
    file: io.BufferedWriter | None = None
    try:
        with named(name):
            fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | disk.BINARY, mode)
        file = io.BufferedWriter(NamedFile(fd, name), _BLOCK)
        if old is not None and sys.platform != "win32":
            with suppress(OSError):
                os.fchown(fd, old.st_uid, old.st_gid)
            with suppress(OSError):
                os.fchmod(fd, mode)
        yield file, temporary
        file.close()
        with named(name):
            disk.sync_directory(path, disk.sync)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        if file is not None:
            # What it still holds back fails once more, and that is known.
            with suppress(OSError):
                file.close()
        raise


def _stem(path: str) -> str | None:
    """The journal that a file beside it is named after."""
    found = _SIDECARS.match(path)
    return None if found is None else found[1]


def _same(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False


def _spelled(path: str) -> str:
    """A path as JSON can have it: names need not be UTF-8."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _digest(path: str) -> str:
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
