"""Tables of values, as CSV, JSONL or Parquet.

Values in, bytes out; where a value comes from is `export`'s business. A value is one that JSON knows: in CSV anything
but text is written as JSON, and nothing for null; UNSET is null, and in JSONL no member at all. CSV is RFC 4180.
Imports input alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, Literal, Protocol

import msgspec

from aimlasync.bulk.input.parquet import pyarrow
from aimlasync.bulk.input.rows import Format, Row

Kind = Literal["bool", "int", "float", "text"]

# Most rows, and most characters, of a row group of Parquet.
_GROUP = 10_000
_GROUP_SIZE = 2**26

_encode = msgspec.json.Encoder().encode
_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Table(Protocol):
    """Takes values, one row at a time, in the order of its columns."""

    def write(self, values: Sequence[Any], /) -> None:
        """Add one row."""


class KindError(Exception):
    """A value does not fit the kind that the first values of its column had: write that column as text."""

    def __init__(self, column: str) -> None:
        super().__init__(column)
        self.column = column


@contextmanager
def open_table(
    file: BinaryIO, format: Format, columns: Sequence[str], kinds: Mapping[str, Kind], name: str
) -> Iterator[Table]:
    """Give a table in `file`, whole when the block ends well; the file is not closed.

    `kinds` are those of the columns that need not be guessed, for Parquet. Raises InputError about `name` when Parquet
    cannot be written, and KindError where a guess turns out wrong.
    """
    if format != "parquet":
        yield CsvTable(file, columns) if format == "csv" else JsonlTable(file, columns)
        return
    table = ParquetTable(file, columns, kinds, name)
    try:
        yield table
        table.finish()
    except BaseException:
        table.abandon()
        raise


class CsvTable:
    """RFC 4180 with plain line feeds."""

    # The csv module's writer is slower, and before Python 3.13 puts no quotes around a lone carriage return.

    def __init__(self, file: BinaryIO, columns: Sequence[str]) -> None:
        self._write = file.write
        self.write(columns)

    def write(self, values: Sequence[Any], /) -> None:
        """Add one row."""
        line = ",".join([_quoted(value if type(value) is str else text_of(value)) for value in values])
        # A single empty field has quotes, or the line would be blank. No lone surrogate can be here: the input was
        # UTF-8, and JSON's are refused when it is read.
        self._write((line or '""').encode() + b"\n")


def _quoted(text: str) -> str:
    if "," in text or '"' in text or "\n" in text or "\r" in text:
        return '"' + text.replace('"', '""') + '"'
    return text


class JsonlTable:
    """One object per line."""

    def __init__(self, file: BinaryIO, columns: Sequence[str]) -> None:
        self._write = file.write
        self._columns = columns

    def write(self, values: Sequence[Any], /) -> None:
        """Add one row."""
        named = zip(self._columns, values, strict=True)
        self._write(_encode({name: value for name, value in named if value is not msgspec.UNSET}) + b"\n")


class ParquetTable:
    """Row groups of 10 000 rows, or fewer long ones."""

    def __init__(self, file: BinaryIO, columns: Sequence[str], kinds: Mapping[str, Kind], name: str) -> None:
        self._pa = pyarrow(name)
        self._file = file
        self._columns = columns
        self._kinds = dict(kinds)
        self._writer: Any = None
        self._rows: list[Sequence[Any]] = []
        self._size = 0

    def write(self, values: Sequence[Any], /) -> None:
        """Add one row."""
        self._rows.append(values)
        self._size += sum([len(value) for value in values if type(value) is str])
        if len(self._rows) >= _GROUP or self._size >= _GROUP_SIZE:
            self._flush()

    def finish(self) -> None:
        """Write what is held back, and the end of the file."""
        if self._rows or self._writer is None:
            self._flush()
        self._writer.close()

    def abandon(self) -> None:
        """End without more to say."""
        if self._writer is not None:
            # A writer that is open would close itself when it is collected, and fail because the file is closed.
            with suppress(Exception):
                self._writer.close()
            self._writer.is_open = False

    def _flush(self) -> None:
        pa = self._pa
        values = list(zip(*self._rows, strict=True)) if self._rows else [()] * len(self._columns)
        types: dict[Kind, Any] = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64(), "text": pa.string()}
        arrays = [self._array(name, column, types) for name, column in zip(self._columns, values, strict=True)]
        table = pa.table(arrays, names=list(self._columns))
        if self._writer is None:
            self._writer = pa.parquet.ParquetWriter(self._file, table.schema)
        self._writer.write_table(table)
        self._rows.clear()
        self._size = 0

    def _array(self, name: str, values: Sequence[Any], types: Mapping[Kind, Any]) -> Any:
        kind = self._kinds.get(name)
        found = None if kind == "text" else _kind([*values, 0.0] if kind == "float" else values)
        if kind is None:
            kind = self._kinds[name] = found or "text"
        if kind == "text":
            return self._pa.array([_text_or_none(value) for value in values], types[kind])
        if found not in (kind, None):
            raise KindError(name)
        return self._pa.array([None if value is msgspec.UNSET else value for value in values], types[kind])


def _kind(values: Sequence[Any]) -> Kind | None:
    """The kind that holds all these values exactly, None when there are none."""
    kinds = set(map(type, values)) - {type(None), msgspec.UnsetType}
    if not kinds:
        return None
    if kinds == {bool}:
        return "bool"
    if kinds <= {int, float}:
        numbers = [value for value in values if type(value) is int]
        # Doubles hold all whole numbers up to 2**53.
        bits = 63 if float not in kinds else 53
        if all(-(2**bits) <= value < 2**bits for value in numbers):
            return "float" if float in kinds else "int"
    return "text"


def as_written(row: Row) -> Mapping[str, Any]:
    """Return the fields of a row for JSONL: those of a JSON row as they were written, with all digits of a number."""
    return row.fields if row.raw is None else _raw(row.raw)


def text_of(value: Any) -> str:
    """Return a value as the text of a cell."""
    if isinstance(value, str):
        return value
    return "" if value is None or value is msgspec.UNSET else _encode(value).decode()


def _text_or_none(value: Any) -> str | None:
    return None if value is None or value is msgspec.UNSET else text_of(value)
