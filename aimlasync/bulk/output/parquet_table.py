"""A Parquet file, written a row group at a time.

Columns of a Parquet input keep their Arrow types; the kind of the others is given, or guessed from the first row group.
Imports `input.parquet` and `cells`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any, BinaryIO, Literal

import msgspec

from aimlasync.bulk.input.parquet import ArrowCell, pyarrow
from aimlasync.bulk.output.cells import text_or_none

Kind = Literal["bool", "int", "float", "text"]

# Most rows, and most characters, of a row group.
_GROUP = 10_000
_GROUP_SIZE = 2**26


class KindError(Exception):
    """A value does not fit the kind that the first values of its column had: write that column as text."""

    def __init__(self, column: str) -> None:
        super().__init__(column)
        self.column = column


class ParquetTable:
    """Row groups of 10 000 rows, or fewer long ones."""

    def __init__(
        self, file: BinaryIO, columns: Sequence[str], kinds: Mapping[str, Kind], types: Mapping[str, Any], name: str
    ) -> None:
        self._pa = pyarrow(name)
        self._file = file
        self._columns = columns
        self._kinds = dict(kinds)
        self._types = types
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
        if name in self._types:
            return self._as_read(values, self._types[name])
        kind = self._kinds.get(name)
        found = None if kind == "text" else _kind([*values, 0.0] if kind == "float" else values)
        if kind is None:
            kind = self._kinds[name] = found or "text"
        if kind == "text":
            return self._pa.array([text_or_none(value) for value in values], types[kind])
        if found not in (kind, None):
            raise KindError(name)
        return self._pa.array([None if value is msgspec.UNSET else value for value in values], types[kind])

    def _as_read(self, cells: Sequence[ArrowCell], kind: Any) -> Any:
        runs = (list(run) for _, run in groupby(cells, key=lambda cell: id(cell[0])))
        chunks = [run[0][0].take(self._pa.array([at for _, at in run])) for run in runs]
        return self._pa.chunked_array(chunks, kind)


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
