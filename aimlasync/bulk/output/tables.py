"""Tables of values, as CSV, TSV, JSONL, JSON, Parquet or a workbook, packed or not.

Values in, bytes out; where a value comes from is `export`'s business. A value is one that JSON knows, or a cell of a
Parquet input; UNSET is null, and in JSON no member at all. Imports input, and of this room the kinds of tables.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, Protocol

import msgspec

from aimlasync.bulk.input.compression import packing_for, packing_of_path, unpacked_path, zstandard
from aimlasync.bulk.input.dialect import Dialect
from aimlasync.bulk.input.formats import format_of_path
from aimlasync.bulk.input.parquet import pyarrow
from aimlasync.bulk.input.rows import Format, InputError, Row
from aimlasync.bulk.input.source import Source
from aimlasync.bulk.input.workbook import openpyxl
from aimlasync.bulk.output.delimited import DelimitedTable, dialect_for
from aimlasync.bulk.output.parquet_table import Kind, ParquetTable
from aimlasync.bulk.output.workbook_table import WorkbookTable

KNOWN = "neither .csv nor .tsv, .jsonl, .json, .parquet or .xlsx"

_encode = msgspec.json.Encoder().encode
_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Table(Protocol):
    """Takes values, one row at a time, in the order of its columns."""

    def write(self, values: Sequence[Any], /) -> None:
        """Add one row."""


class Style(msgspec.Struct, frozen=True, kw_only=True):
    """How a table is written, beside its values."""

    dialect: Dialect = Dialect()
    headings: Mapping[str, str] = {}
    """Column -> how the header of the input spells it, where that differs."""
    types: Mapping[str, Any] = {}
    """Arrow's types of the columns that come from a Parquet input."""
    safe: bool = False
    """Whether CSV is to be opened in a spreadsheet, which must take no value for a formula."""


PLAIN = Style()
"""As a table is written that has no input."""


def style_of(source: Source | None, format: Format, *, excel: bool = False) -> Style:
    """Return how a table with the rows of a source is written, whose first row was read; `excel` as in `export`."""
    if source is None:
        return Style(dialect=dialect_for(format, None, Dialect(), excel=excel), safe=excel)
    return Style(
        dialect=dialect_for(format, source.format, source.dialect, excel=excel),
        headings={name: said for name, said in zip(source.columns, source.headings, strict=False) if name != said},
        types=source.types if format == "parquet" else {},
        safe=excel,
    )


def check_format(path: str, format: Format | None, *, excel: bool = False) -> Format:
    """Return the format in which `path` is written. Raises InputError for none, and where a package is missing."""
    format = format or format_of_path(path)
    if format is None:
        raise InputError(path, f"{KNOWN}; end its name in one of them")
    if format == "parquet":
        pyarrow(path)
    if format == "xlsx":
        openpyxl(path)
        if os.path.splitext(unpacked_path(path))[1].lower() in (".xls", ".xlsm"):
            raise InputError(path, "a workbook is written as .xlsx; end its name so")
    if packing_of_path(path) == "zstd":
        zstandard(path)
    if excel and format not in ("csv", "tsv", "xlsx"):
        raise InputError(path, f"--excel is for .csv, .tsv and .xlsx, and this is {format}; leave it out")
    return format


def is_journal_path(path: str) -> bool:
    """Whether a journal is written there where no columns are asked for: a file of lines that can be appended to."""
    return format_of_path(path) == "jsonl" and packing_of_path(path) is None


def format_of_stream(source: Source | None) -> Format:
    """Return the format of rows on standard output: the input's, where that can be written as it comes."""
    found = None if source is None else source.format
    return found if found in ("csv", "tsv") else "csv" if found == "xlsx" else "jsonl"


@contextmanager
def open_table(
    file: BinaryIO,
    path: str,
    format: Format,
    columns: Sequence[str],
    kinds: Mapping[str, Kind],
    style: Style = PLAIN,
) -> Iterator[Table]:
    """Give a table in `file`, packed as the name `path` says, whole when the block ends well; the file is not closed.

    `kinds` are those of the columns that need not be guessed, for Parquet. Raises InputError about `path` for what
    cannot be written so, and KindError where a guess turns out wrong.
    """
    with packing_for(file, path) as packed:
        if format == "jsonl":
            yield JsonlTable(packed, columns)
            return
        headings = [style.headings.get(column, column) for column in columns]
        if format in ("csv", "tsv"):
            yield DelimitedTable(packed, headings, style.dialect, safe=style.safe)
            return
        table: JsonTable | WorkbookTable | ParquetTable
        if format == "json":
            table = JsonTable(packed, columns)
        elif format == "xlsx":
            table = WorkbookTable(packed, headings, has_header=style.dialect.has_header, name=path)
        else:
            table = ParquetTable(packed, columns, kinds, style.types, path)
        try:
            yield table
            table.finish()
        except BaseException:
            table.abandon()
            raise


class JsonlTable:
    """One object per line."""

    def __init__(self, file: BinaryIO, columns: Sequence[str]) -> None:
        self._write = file.write
        self._columns = columns

    def write(self, values: Sequence[Any], /) -> None:
        """Add one row."""
        self._write(_object(self._columns, values) + b"\n")


class JsonTable:
    """A list of objects, one on each line."""

    def __init__(self, file: BinaryIO, columns: Sequence[str]) -> None:
        self._write = file.write
        self._columns = columns
        self._before = b"["

    def write(self, values: Sequence[Any], /) -> None:
        """Add one row."""
        self._write(self._before + b"\n" + _object(self._columns, values))
        self._before = b","

    def finish(self) -> None:
        """Write the end of the list."""
        self._write(b"\n]\n" if self._before == b"," else b"[]\n")

    def abandon(self) -> None:
        """End without more to say."""


def _object(columns: Sequence[str], values: Sequence[Any]) -> bytes:
    named = zip(columns, values, strict=True)
    return _encode({name: value for name, value in named if value is not msgspec.UNSET})


def as_written(row: Row) -> Mapping[str, Any]:
    """Return the fields of a row for JSON: those of a JSON row as they were written, with all digits of a number."""
    return _raw(row.raw) if isinstance(row.raw, bytes) else row.fields
