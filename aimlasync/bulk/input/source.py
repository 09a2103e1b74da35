"""An input: a file, which can be read again, or a stream, which cannot.

`Source` opens and measures; `rows` and `parquet` know what a row is. A file is first read to its end: that counts its
rows, finds whatever is wrong with it before anything is paid for, and gives the digest by which a journal recognises
its input. A file whose digest is known already is not checked again. Imports this room alone.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from typing import BinaryIO

from aimlasync.bulk.input.parquet import ParquetReader
from aimlasync.bulk.input.rows import Format, InputError, Reader, Row

_EXTENSIONS: dict[str, Format] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}

# Bytes of a file that are read at once: large enough for the disk, small enough for a processor's cache.
_BLOCK = 2**18


def format_of_path(path: str) -> Format | None:
    """Return the format that the extension of `path` says, None when it says none."""
    return _EXTENSIONS.get(os.path.splitext(path)[1].lower())


@dataclass(frozen=True, slots=True)
class Survey:
    """What one pass over a file found."""

    rows: int
    digest: str
    """SHA-256 of all its bytes, also of those behind `limit`; what sha256sum says."""
    stamp: tuple[int, int]
    """Size and time of change, by which a changed file is noticed without reading it again."""


class Source:
    """One input. `columns` is known after `sample`."""

    def __init__(self, file: BinaryIO, *, format: Format, name: str, can_reread: bool) -> None:
        self.name = name
        self.format: Format = format
        self.can_reread = can_reread
        """Whether it can be read from the start again: a file can, a stream cannot."""
        self.columns: list[str] = []
        self._file = file
        self._stat: os.stat_result | None = None
        # A file in memory has no descriptor.
        with suppress(OSError):
            self._stat = os.fstat(file.fileno())
        # Of a stream: the rows that `sample` has taken, which are given again, and the iterator of the others.
        self._rest: Iterator[Row] | None = None
        self._taken: list[Row] = []

    def sample(self, size: int) -> list[Row]:
        """Return the first rows, at most `size`, which the iteration gives again. Raises InputError without any."""
        if self._rest is not None:
            self._taken += islice(self._rest, max(0, size - len(self._taken)))
            return self._taken[:size]
        reader = self._reader()
        rows = iter(reader)
        taken = list(islice(rows, size))
        self.columns = reader.columns
        if not self.can_reread:
            self._taken, self._rest = taken, rows
        return taken

    def __iter__(self) -> Iterator[Row]:
        if self._rest is not None:
            return chain(self._taken, self._rest)
        return iter(self._reader())

    def survey(self, check: Callable[[Row], object], *, limit: int | None = None) -> Survey:
        """Read a file to its end, `check` every row up to `limit`, and return what was found. Raises InputError."""
        stamp = self.stamp()
        self._file.seek(0)
        count = 0
        if self.format == "parquet":
            for row in islice(self._reader(), limit):
                check(row)
                count += 1
            return Survey(count, self.digest(), stamp)
        digest = hashlib.sha256()
        lines = _Blocks(self._file, digest)
        for row in islice(Reader(lines, self.format, self.name), limit):
            check(row)
            count += 1
        while lines.readline(_BLOCK):
            pass
        return Survey(count, digest.hexdigest(), stamp)

    def digest(self) -> str:
        """Return the digest that `survey` would find, at the speed of the disk; of a file only."""
        self._file.seek(0)
        return hashlib.file_digest(self._file, "sha256").hexdigest()  # type: ignore[arg-type]  # has readinto

    def stamp(self) -> tuple[int, int]:
        """Return what changes when the file is written to."""
        found = os.fstat(self._file.fileno())
        return found.st_size, found.st_mtime_ns

    @property
    def size(self) -> int:
        """Its size in bytes, 0 where that is not known."""
        return self.stamp()[0] if self.can_reread else 0

    def same_file(self, path: str) -> bool:
        """Whether `path` is this input, which may be closed."""
        try:
            return self._stat is not None and os.path.samestat(self._stat, os.stat(path))
        except OSError:
            return False

    def close(self) -> None:
        """Close the file; not a stream, which is not ours, and in which a thread may be waiting."""
        if self.can_reread:
            self._file.close()

    def _reader(self) -> Reader | ParquetReader:
        if self.format == "parquet":
            return ParquetReader(self._file, self.name)
        if not self.can_reread:
            return Reader(self._file, self.format, self.name)
        self._file.seek(0)
        return Reader(_Blocks(self._file), self.format, self.name)


class _Blocks:
    """A file read many lines at once, and digested meanwhile if it is to be."""

    def __init__(self, file: BinaryIO, digest: hashlib._Hash | None = None) -> None:
        self._file = file
        self._digest = digest

    def readline(self, limit: int, /) -> bytes:
        block = self._file.read(_BLOCK)
        if not block.endswith(b"\n"):
            block += self._file.readline(limit)
        if self._digest is not None:
            self._digest.update(block)
        return block


def open_source(path: str, format: Format | None = None) -> Source:
    """Open the file at `path`; its extension says the format unless `format` does. Raises InputError."""
    found = format or format_of_path(path)
    try:
        file = open(path, "rb")  # noqa: SIM115  # closed by Source.close
    except FileNotFoundError:
        raise InputError(path, "no such file; check the name") from None
    except IsADirectoryError:
        raise InputError(path, "a directory; name a CSV, JSONL or Parquet file in it") from None
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror}); check its permissions") from None
    if found is None:
        file.close()
        raise InputError(path, "neither .csv nor .jsonl nor .parquet; say which with --format")
    if found == "parquet" and not file.seekable():
        with file:
            return Source(_spooled(file), format=found, name=path, can_reread=True)
    return Source(file, format=found, name=path, can_reread=file.seekable())


def open_stream(file: BinaryIO, format: Format, *, spool: bool) -> Source:
    """Return standard input as a source; with `spool` it is read to its end into a temporary file first.

    Parquet always is, because its index is at the end of the file.
    """
    if not spool and format != "parquet":
        return Source(file, format=format, name="stdin", can_reread=False)
    return Source(_spooled(file), format=format, name="stdin", can_reread=True)


def _spooled(file: BinaryIO) -> BinaryIO:
    spooled = tempfile.TemporaryFile()  # noqa: SIM115  # closed by Source.close
    shutil.copyfileobj(file, spooled, 2**20)
    spooled.flush()
    return spooled
