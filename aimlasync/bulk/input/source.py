"""An input: a file, which can be read again, or a stream, which cannot.

`Source` opens and measures; `rows`, `parquet` and `workbook` know what a row is. A file is first read to its end: that
counts its rows, finds whatever is wrong with it before anything is paid for, and gives the digest by which a journal
recognises its input. A file whose digest is known already is not checked again. Imports this room alone.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import PurePath
from typing import Any, BinaryIO

import msgspec

from aimlasync.addresses import FULL, is_address, name_in, real_name, shown
from aimlasync.bulk.input.compression import Packing, packing_of, unpacked
from aimlasync.bulk.input.dialect import Dialect, why_no_header
from aimlasync.bulk.input.encoding import Utf8Lines, check_encoding, encoding_of
from aimlasync.bulk.input.formats import HEAD, KNOWN, format_of_content, format_of_path, why_one_row
from aimlasync.bulk.input.parquet import ParquetReader
from aimlasync.bulk.input.remote import open_copy
from aimlasync.bulk.input.rows import AS_FOUND, Format, InputError, Lines, Reader, Reading, Row, Skim, Wanted, checked
from aimlasync.bulk.input.spool import spooled
from aimlasync.bulk.input.workbook import sheet_lines

# Bytes of a file that are read at once: large enough for the disk, small enough for a processor's cache.
_BLOCK = 2**18
# Rows that show whether the first line is a header.
_SAMPLE = 50


@dataclass(frozen=True, slots=True)
class Survey:
    """What one pass over a file found."""

    rows: int
    digest: str
    """SHA-256 of all its bytes, also of those behind `limit`; what sha256sum says, unless a `Reading` was given."""
    stamp: tuple[int, int]
    """Size and time of change, by which a changed file is noticed without reading it again."""


class Source:
    """One input. `columns` and how it is written are known after `sample`."""

    def __init__(
        self,
        file: BinaryIO,
        *,
        format: Format,
        name: str,
        can_reread: bool,
        reading: Reading = AS_FOUND,
        packing: Packing | None = None,
        may_be_wrapped: bool = False,
    ) -> None:
        self.name = name
        self.format: Format = format
        self.can_reread = can_reread
        """Whether it can be read from the start again: a file can, a stream cannot."""
        self.file = ""  # Of an input of several files: what its rows say is theirs.
        self.may_wait = False
        """Whether its rows may wait for a file that is copied; `chosen` then gives the number before it again."""
        self.again: Sequence[str] = ()
        """Files that were named again, and are read once."""
        self.growing: Sequence[str] = ()
        """The directories and patterns that were given, by their `real_name`."""
        self.columns: list[str] = []
        self.headings: list[str] = []
        """Of a table that is text or a sheet: the columns as its header spells them."""
        self.dialect = Dialect()
        self.types: Mapping[str, Any] = {}
        """Of Parquet: Arrow's types of the columns."""
        self._file = file
        self.reading = reading
        """What the caller said of it that its content does not say."""
        self._packing = packing
        # Whether the first object may be one around the rows: of a .json file whose format was not said.
        self._may_be_wrapped = may_be_wrapped
        self._stat: os.stat_result | None = None
        # A file in memory has no descriptor.
        with suppress(OSError):
            self._stat = os.fstat(file.fileno())
        # What the rows are read from, where that is not the file itself: a sheet as lines, a Parquet file unpacked.
        self._data: BinaryIO | None = None
        # What is made of each row, by `show_as`.
        self._view: Callable[[Row], Row] | None = None
        # Of a stream: the rows that `sample` has taken, which are given again, and the iterator of the others.
        self._rest: Iterator[Row] | None = None
        self._taken: list[Row] = []

    @property
    def paths(self) -> Sequence[str]:
        """The files that it is."""
        return [self.name]

    def sample(self, size: int) -> list[Row]:
        """Return the first rows, at most `size`, which the iteration gives again. Raises InputError without any."""
        if self._rest is not None:
            self._taken += islice(self._rest, max(0, size - len(self._taken)))
            return self._taken[:size]
        reader = self._reader()
        rows = self._rows(reader)
        taken = list(islice(rows, max(size, _SAMPLE) if self.can_reread else size))
        self._learn(reader)
        self._check_header(taken)
        self._check_wrapped(taken)
        if not self.can_reread:
            self._taken, self._rest = taken, rows
        return taken[:size]

    def show_as(self, columns: list[str], view: Callable[[Row], Row]) -> None:
        """Give `view` of each row from now on, whose columns are `columns`."""
        self.columns, self._view = columns, view
        self._taken = [view(row) for row in self._taken]
        if self._rest is not None:
            self._rest = map(view, self._rest)

    def __iter__(self) -> Iterator[Row]:
        if self._rest is not None:
            return chain(self._taken, self._rest)
        return self._rows(self._reader())

    def _rows(self, reader: Reader | ParquetReader) -> Iterator[Row]:
        return iter(reader) if self._view is None else map(self._view, reader)

    def chosen(self, wanted: Wanted | None, *, first: int = 1) -> Iterator[Row | int]:
        """Iterate the rows of a file whose numbers are `wanted`; a number says that the rows up to it are left out.

        The first row of the file has the number `first`. Rows of Parquet and JSON lines are left out undecoded.
        """
        reader, view = self._reader(first=first), self._view
        found: Iterable[Row | int] = reader if wanted is None else reader.chosen(wanted)
        return iter(found) if view is None else (row if isinstance(row, int) else view(row) for row in found)

    def survey(
        self,
        check: Callable[[Row], object],
        *,
        limit: int | None = None,
        wanted: Wanted | None = None,
        skim: Skim | None = None,
        alike: bool = False,
        first: int = 1,
    ) -> Survey:
        """Read a file to its end, `check` every row up to `limit`, and return what was found. Raises InputError.

        Of Parquet only the rows that are `wanted` are checked, and read. Of JSONL whole blocks are checked by `skim`,
        where it can. Of CSV, where `alike` says that `check` looks at the columns alone, rows with all of them are
        checked by the first of them. The first row has the number `first`.
        """
        stamp = self.stamp()
        if not self.columns:
            self.sample(1)
        # Only what is read as it is can be digested on the way.
        digest = None if self.format in ("parquet", "xlsx") or self._packing is not None else hashlib.sha256()
        if self.format == "parquet":
            last = checked(self.chosen(wanted, first=first), check, limit)
        else:
            reader = self._reader(digest, first=first)
            as_it_is = reader if isinstance(reader, Reader) and self._view is None and limit is None else None
            if as_it_is is not None and skim is not None and self.format == "jsonl":
                last = as_it_is.check_jsonl(check, skim)
            elif as_it_is is not None and alike and self.format in ("csv", "tsv"):
                last = as_it_is.check_table(check)
            else:
                last = checked(self._rows(reader), check, limit)
        count = max(0, last - first + 1)
        if digest is None:
            return Survey(count, self.digest(), stamp)
        lines = _Blocks(self._file, digest)
        while lines.readline(_BLOCK):
            pass
        return Survey(count, self._identified(digest.hexdigest()), stamp)

    def digest(self) -> str:
        """Return the digest that `survey` would find, at the speed of the disk; of a file only."""
        self._file.seek(0)
        return self._identified(hashlib.file_digest(self._file, "sha256").hexdigest())  # type: ignore[arg-type]

    def stamp(self) -> tuple[int, int]:
        """Return what changes when the file is written to."""
        found = os.fstat(self._file.fileno())
        return found.st_size, found.st_mtime_ns

    @property
    def size(self) -> int:
        """Its size in bytes, 0 where that is not known."""
        return self.stamp()[0] if self.can_reread else 0

    def same_file(self, path: str) -> bool:
        """Whether `path`, which may be an address, is this input, which may be closed, or part of the next run's."""
        place = PurePath(real_name(path))
        if any(place.is_relative_to(each) or place.match(each) for each in self.growing):
            return True
        if is_address(path):
            return shown(path) in self.paths
        with suppress(OSError):
            return self._stat is not None and os.path.samestat(self._stat, os.stat(path))
        return False

    def close(self) -> None:
        """Close the file; not a stream, which is not ours, and in which a thread may be waiting."""
        if self._data is not None:
            self._data.close()
        if self.can_reread:
            self._file.close()

    def _identified(self, digest: str) -> str:
        # The same bytes read in another way are other rows.
        if self.reading == AS_FOUND:
            return digest
        return hashlib.sha256(digest.encode() + msgspec.json.encode(self.reading)).hexdigest()

    def _learn(self, reader: Reader | ParquetReader) -> None:
        self.columns = self.columns if self.format == "xlsx" or self._view is not None else reader.columns
        if isinstance(reader, ParquetReader):
            self.types = reader.types
        elif self.format == "xlsx":
            self.dialect = Dialect(has_header=self.reading.header is not False)
        else:
            self.headings, self.dialect = reader.headings, reader.dialect

    def _check_header(self, rows: Sequence[Row]) -> None:
        """Raise InputError for a first line that reads like one of the rows, unless it is said to be a header."""
        if self.format not in ("csv", "tsv", "xlsx") or self.reading.header is not None:
            return
        texts = [row.cells or ["" if value is None else str(value) for value in row.fields.values()] for row in rows]
        why = why_no_header([heading.strip() for heading in self.headings], texts)
        if why is not None:
            what = f"the first line may be no header: {why}; say --no-header if it is a row, or --header if it is one"
            raise InputError(self.name, what, line=None if self.dialect.sep_line else 1)

    def _check_wrapped(self, rows: Sequence[Row]) -> None:
        """Raise InputError for a .json file that is one object around the rows."""
        if len(rows) == 1 and self._may_be_wrapped and (why := why_one_row(rows[0].fields)) is not None:
            raise InputError(self.name, f"{why}, or --format jsonl if it is one row")

    def _reader(self, digest: hashlib._Hash | None = None, *, first: int = 1) -> Reader | ParquetReader:
        if self.format == "parquet":
            if self._packing is not None and self._data is None:
                self._file.seek(0)
                self._data = spooled(unpacked(self._file, self._packing, self.name))
            return ParquetReader(self._data or self._file, self.name, first=first, named=self.file)
        if self.format == "xlsx":
            if self._data is None:
                self._file.seek(0)
                with ExitStack() as stack:
                    book = self._file
                    if self._packing is not None:
                        book = stack.enter_context(spooled(unpacked(self._file, self._packing, self.name)))
                    self._data, self.columns, self.headings = sheet_lines(book, self.name, self.reading)
            self._data.seek(0)
            return Reader(_Blocks(self._data), "jsonl", self.name, first=first, file=self.file)
        file = self._file
        if self.can_reread:
            file.seek(0)
        if self._packing is not None:
            file = unpacked(file, self._packing, self.name)
        lines: Lines = _Blocks(file, digest) if self.can_reread else file
        if self.reading.encoding is not None:
            lines = Utf8Lines(lines, self.reading.encoding, self.name)
        return Reader(lines, self.format, self.name, self.reading, first=first, file=self.file)


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


def open_source(path: str, format: Format | None = None, *, reading: Reading = AS_FOUND, spool: bool = True) -> Source:
    """Open the file at `path`; its content and its extension say the format unless `format` does. Raises InputError.

    With `spool` a pipe, such as a shell's <(...), is read to its end into a temporary file first.
    """
    try:
        file = open_copy(path) if is_address(path) else open(path, "rb")  # noqa: SIM115  # closed by Source.close
    except FileNotFoundError:
        raise InputError(path, "no such file; check the name") from None
    except IsADirectoryError:
        raise InputError(path, "a directory; name a CSV, JSONL or Parquet file in it") from None
    except OSError as error:
        if error.errno in FULL:
            # There is no room for a copy of it.
            raise
        raise InputError(path, f"cannot be read ({error.strerror}); check its permissions") from None
    said = format_of_path(name_in(path))
    try:
        if not file.seekable():
            said = said or "csv"  # JSON is told by its content.
            if spool:
                with file:
                    file = spooled(file)
        return _opened(file, shown(path), format, said, reading)
    except BaseException:
        file.close()
        raise


def open_stream(
    file: BinaryIO, format: Format | None, *, spool: bool, reading: Reading = AS_FOUND, default: Format | None = None
) -> Source:
    """Return standard input as a source; with `spool` it is read to its end into a temporary file first.

    Parquet and workbooks always are, because their index is at their end. Without a `format` the content says it, else
    `default`.
    """
    if not spool:
        return _opened(file, "stdin", format, default, reading, is_ours=False)
    copy = spooled(file)
    try:
        return _opened(copy, "stdin", format, default, reading)
    except BaseException:
        copy.close()
        raise


def _opened(
    file: BinaryIO, name: str, format: Format | None, said: Format | None, reading: Reading, *, is_ours: bool = True
) -> Source:
    head = _peek(file)
    packing = packing_of(head)
    if packing is not None and (file.seekable() or format is None):
        head = _unpacked_head(file, head, packing, name)
    is_said = format is not None
    if format is None and (format := format_of_content(head, said, name)) is None:
        raise InputError(name, f"{KNOWN}; say which with --format")
    _check_reading(reading, format, name)
    encoding = encoding_of(head, reading.encoding)
    if encoding is not None and format not in ("parquet", "xlsx"):
        check_encoding(encoding, name)
    if format in ("parquet", "xlsx"):
        if not (is_ours and file.seekable()):
            with file if is_ours else nullcontext():
                file = spooled(file)
            is_ours = True
        encoding = None
    return Source(
        file,
        format=format,
        name=name,
        can_reread=is_ours and file.seekable(),
        reading=msgspec.structs.replace(reading, encoding=encoding),
        packing=packing,
        may_be_wrapped=not is_said and format == "jsonl" and said == "json",
    )


def _check_reading(reading: Reading, format: Format, name: str) -> None:
    """Raise InputError for what is said of a format that has none of it."""
    for option, value, formats in (
        ("--sheet", reading.sheet, ("xlsx",)),
        ("--delimiter", reading.delimiter, ("csv", "tsv")),
        ("--header", reading.header, ("csv", "tsv", "xlsx")),
        ("--encoding", reading.encoding, ("csv", "tsv", "jsonl", "json")),
    ):
        if value is not None and format not in formats:
            raise InputError(name, f"{option} is for {' and '.join(formats)}, and this is {format}; leave it out")


def _peek(file: BinaryIO) -> bytes:
    """Return the first bytes, which are read again; none of a stream that cannot show them."""
    if file.seekable():
        place = file.tell()
        head = file.read(HEAD)
        file.seek(place)
        return head
    return file.peek(HEAD)[:HEAD] if isinstance(file, io.BufferedReader) else b""


def _unpacked_head(file: BinaryIO, head: bytes, packing: Packing, name: str) -> bytes:
    # Of a stream only what is there already can be looked into; its end is then missing.
    packed: BinaryIO = file if file.seekable() else io.BytesIO(head)
    place = packed.tell()
    try:
        return unpacked(packed, packing, name).read1(HEAD)
    except InputError:
        if packed is file:
            raise
        return b""
    finally:
        packed.seek(place)
