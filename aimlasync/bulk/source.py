"""Where an input lies: a file, which can be read again, or a stream, which cannot.

Law: opens and measures; what a row is, is the business of `rows`.
A file is first read to the end: that counts its rows, finds whatever is wrong with it before anything is paid for, and
takes its digest, by which a journal knows its input again.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain, islice
from typing import BinaryIO

from aimlasync.bulk.rows import Format, InputError, Reader, Row

_EXTENSIONS: dict[str, Format] = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


def format_of_path(path: str) -> Format | None:
    """Return the format that the extension of `path` says, None when it says none."""
    return _EXTENSIONS.get(os.path.splitext(path)[1].lower())


@dataclass(frozen=True, slots=True)
class Survey:
    """What one pass over a file found."""

    rows: int
    digest: str
    stamp: tuple[int, int]
    """Size and time of change: the file is not read twice to learn that it is still the same."""


class Source:
    """One input. `columns` is known after `sample`."""

    def __init__(self, file: BinaryIO, *, format: Format, name: str, again: bool) -> None:
        self.name = name
        self.format: Format = format
        self.again = again
        """Whether it can be read from the start once more."""
        self.columns: list[str] = []
        self._file = file
        # Of a stream: what goes on after the rows that `sample` has taken, which come again.
        self._rest: Iterator[Row] | None = None
        self._taken: list[Row] = []

    def sample(self, size: int) -> list[Row]:
        """Return the first rows, at most `size`; they come again. Raises InputError when there is none."""
        reader = self._reader()
        rows = iter(reader)
        taken = list(islice(rows, size))
        self.columns = reader.columns
        if not self.again:
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
        lines = _Digested(self._file)
        count = 0
        for row in islice(Reader(lines, self.format, self.name), limit):
            check(row)
            count += 1
        lines.finish()
        return Survey(count, lines.digest.hexdigest(), stamp)

    def stamp(self) -> tuple[int, int]:
        """Return what changes when the file is written to."""
        found = os.fstat(self._file.fileno())
        return found.st_size, found.st_mtime_ns

    def same_file(self, path: str) -> bool:
        """Whether `path` is this input."""
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), os.stat(path))
        except OSError:
            return False

    def close(self) -> None:
        """Close the file; not a stream, which is not ours, and in which a thread may be waiting."""
        if self.again:
            self._file.close()

    def _reader(self) -> Reader:
        if self.again:
            self._file.seek(0)
        return Reader(self._file, self.format, self.name)


class _Digested:
    """A file that is digested while it is read."""

    def __init__(self, file: BinaryIO) -> None:
        self.digest = blake2b(digest_size=16)
        self._file = file

    def readline(self, limit: int, /) -> bytes:
        line = self._file.readline(limit)
        self.digest.update(line)
        return line

    def finish(self) -> None:
        while piece := self._file.read(2**20):
            self.digest.update(piece)


def open_source(path: str, format: Format | None = None) -> Source:
    """Open the file at `path`; its extension says the format unless `format` does. Raises InputError."""
    found = format or format_of_path(path)
    try:
        file = open(path, "rb")  # noqa: SIM115  # closed by Source.close
    except FileNotFoundError:
        raise InputError(path, "no such file; check the name") from None
    except IsADirectoryError:
        raise InputError(path, "a directory; name a CSV or JSONL file in it") from None
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror}); check its permissions") from None
    if found is None:
        file.close()
        raise InputError(path, "neither .csv nor .jsonl; say which with --format")
    again = file.seekable()
    return Source(file, format=found, name=path, again=again)


def open_stream(file: BinaryIO, format: Format, *, keep: bool) -> Source:
    """Return standard input as a source; with `keep` it is read to its end into a temporary file first."""
    if not keep:
        return Source(file, format=format, name="stdin", again=False)
    kept = tempfile.TemporaryFile()  # noqa: SIM115  # closed by Source.close
    shutil.copyfileobj(file, kept, 2**20)
    kept.flush()
    return Source(kept, format=format, name="stdin", again=True)
