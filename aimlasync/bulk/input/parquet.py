"""Rows of a Parquet input, one at a time.

pyarrow is imported here, and only when a Parquet file is read or written. Memory is a batch of rows and the pages that
they came in, whatever the size of the file. Row groups are read one after the other, and those without a row that is
wanted are not read; of a batch only the rows that are wanted become values of Python. Values are those that JSON knows;
others become text: dates and times in ISO 8601 (durations are seconds), decimals with all their digits, binary values
as UTF-8 where they are that (older writers mark no text as text) and base64 where not. A number that is none (NaN) is
null. What a row was before is kept beside it, for an output in Parquet.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from aimlasync.bulk.input.dialect import distinct
from aimlasync.bulk.input.rows import InputError, NoRowsError, Row, Wanted

# Rows of a batch, and bytes read ahead of each column: a row group may hold the whole file.
_BATCH = 1000
_AHEAD = 2**18

# A fraction of a second that is none.
_NO_FRACTION = re.compile(r"(:\d\d)\.0+(?=\D|\Z)")

Plain = Callable[[Any], Any]
ArrowCell = tuple[Any, int]
"""A value as it was read: an Arrow array, and a place in it."""


def pyarrow(name: str) -> Any:
    """Return pyarrow with its Parquet part. Raises InputError about `name` when it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InputError(name, "Parquet needs pyarrow; install it with: pip install 'aimlasync[parquet]'") from None
    return pyarrow


class ArrowRow:
    """A row as it was read: the columns of its batch, and its place there."""

    __slots__ = ("_at", "_columns", "_names")

    def __init__(self, names: list[str], columns: list[Any], at: int) -> None:
        self._names = names
        self._columns = columns
        self._at = at

    def cells(self) -> dict[str, ArrowCell]:
        """Return column -> its values in this batch, and the place of the row's own among them."""
        return {name: (column, self._at) for name, column in zip(self._names, self._columns, strict=True)}


class ParquetReader:
    """Iterates the rows of one file, once; `columns` and `types` (of Arrow) are known with the first row."""

    def __init__(self, file: BinaryIO, name: str, *, first: int = 1, named: str = "") -> None:
        self.name, self._named = name, named or None
        self.columns: list[str] = []
        self.types: Mapping[str, Any] = {}
        self._file = file
        self._first = first

    def __iter__(self) -> Iterator[Row]:
        return (row for row in self.chosen(None) if not isinstance(row, int))

    def chosen(self, wanted: Wanted | None) -> Iterator[Row | int]:
        """Iterate the rows whose numbers are `wanted`; a number says that the rows up to it are left out."""
        pa = pyarrow(self.name)
        number = before = self._first - 1
        try:
            # Threads and buffering ahead would each hold whole row groups in memory.
            # Pages that have a checksum, as those of Spark do, are compared with it.
            table = pa.parquet.ParquetFile(
                self._file, buffer_size=_AHEAD, pre_buffer=False, page_checksum_verification=True
            )
            found = list(table.schema_arrow)
            fields = [field.with_type(_without_views(field.type, pa)) for field in found]
            schema = None if fields == found else pa.schema(fields)
            self.columns = names = distinct([field.name for field in fields])
            self.types = {name: field.type for name, field in zip(names, fields, strict=True)}
            plains = [_plain_values(field.type, pa) for field in fields]
            end = number
            for group in range(table.num_row_groups):
                start, end = end, end + table.metadata.row_group(group).num_rows
                while number < end and wanted is not None and not wanted(number + 1):
                    number += 1
                    if number % _BATCH == 0 or number == end:
                        yield number
                if number == end:
                    continue
                # The rows before the first wanted one come with it.
                number = start
                for batch in table.iter_batches(_BATCH, row_groups=[group], use_threads=False):
                    if schema is not None:
                        batch = batch.cast(schema)
                    first, number = number + 1, number + batch.num_rows
                    mine: Sequence[int] = range(first, number + 1)
                    if wanted is not None:
                        mine = [each for each in mine if wanted(each)]
                        if len(mine) < batch.num_rows:
                            batch = batch.take(pa.array([each - first for each in mine], pa.int64()))
                    written = batch.columns
                    columns = [plain(column) for plain, column in zip(plains, written, strict=True)]
                    for at, (each, *values) in enumerate(zip(mine, *columns, strict=True)):
                        fields_of_row = dict(zip(names, values, strict=True))
                        yield Row(each, each, fields_of_row, None, ArrowRow(names, written, at), self._named)
                    if not mine or mine[-1] < number:
                        yield number
        except (pa.ArrowException, OSError, KeyError) as error:
            said = str(error).partition("\n")[0].rstrip(".")
            what = f"cannot be read as Parquet ({said}); is it whole? Write it again, or as JSONL"
            raise InputError(self.name, what, line=number + 1 if number > before else None) from None
        if number == before:
            raise NoRowsError(self.name, "no rows; there is nothing to do")


def column_values(column: Any) -> list[Any]:
    """Return the values of an Arrow array as a reader gives them."""
    return _plain_values(column.type, pyarrow("batch"))(column)


def _plain_values(kind: Any, pa: Any) -> Callable[[Any], list[Any]]:
    """Return a function from an Arrow array of a type to values that JSON knows."""
    text_type, plain = _text_type(kind, pa), _plain(kind, pa)

    def values(column: Any) -> list[Any]:
        found: list[Any] = column.cast(text_type).to_pylist(maps_as_pydicts="strict")
        return found if plain is None else [None if value is None else plain(value) for value in found]

    return values


def _without_views(kind: Any, pa: Any) -> Any:
    """Return a type without texts and bytes as views, of which Arrow takes no rows."""
    types = pa.types
    if types.is_string_view(kind):
        return pa.large_string()
    if types.is_binary_view(kind):
        return pa.large_binary()
    if types.is_struct(kind):
        return pa.struct([field.with_type(_without_views(field.type, pa)) for field in kind])
    if types.is_map(kind):
        return pa.map_(_without_views(kind.key_type, pa), _without_views(kind.item_type, pa), kind.keys_sorted)
    if types.is_list(kind) or types.is_large_list(kind):
        item = kind.value_field.with_type(_without_views(kind.value_type, pa))
        return pa.list_(item) if types.is_list(kind) else pa.large_list(item)
    return kind


def _text_type(kind: Any, pa: Any) -> Any:
    """Return the type with text for what JSON has no type for; Arrow casts, as Python's times end at microseconds."""
    types = pa.types
    if types.is_dictionary(kind):
        return _text_type(kind.value_type, pa)
    if types.is_duration(kind):
        return pa.int64()
    if types.is_temporal(kind) or types.is_decimal(kind):
        return pa.string()
    if types.is_map(kind):
        return pa.map_(_text_type(kind.key_type, pa), _text_type(kind.item_type, pa))
    if types.is_struct(kind):
        return pa.struct([field.with_type(_text_type(field.type, pa)) for field in kind])
    if _is_list(kind, types):
        return pa.large_list(_text_type(kind.value_type, pa))
    return kind


def _plain(kind: Any, pa: Any) -> Plain | None:
    """Return a function from a value of `_text_type` to one that JSON knows, None where it is one already."""
    types = pa.types
    if types.is_dictionary(kind):
        return _plain(kind.value_type, pa)
    if types.is_floating(kind):
        return finite
    if types.is_duration(kind):
        second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]
        return lambda value: value / second
    if types.is_timestamp(kind) or types.is_time(kind):
        return _iso
    if types.is_map(kind):
        key, item = _plain(kind.key_type, pa) or _same, _plain(kind.item_type, pa) or _same
        return lambda value: {key(name): None if inner is None else item(inner) for name, inner in value.items()}
    if types.is_struct(kind):
        inner = {field.name: plain for field in kind if (plain := _plain(field.type, pa)) is not None}
        if not inner:
            return None
        return lambda value: {
            name: item if item is None or name not in inner else inner[name](item) for name, item in value.items()
        }
    if _is_list(kind, types):
        each = _plain(kind.value_type, pa)
        return None if each is None else lambda value: [None if item is None else each(item) for item in value]
    simple = types.is_string(kind) or types.is_large_string(kind) or types.is_integer(kind) or types.is_boolean(kind)
    # What is left is binary, in one of its types, or a type of a later Arrow.
    return None if simple or types.is_null(kind) else text_of_bytes


def _is_list(kind: Any, types: Any) -> bool:
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _same(value: Any) -> Any:
    return value


def finite(value: float) -> float | str | None:
    """Return a number as JSON can have it."""
    # JSON has neither; NaN is how numpy and pandas write that nothing is there.
    return value if math.isfinite(value) else None if math.isnan(value) else str(value)


def _iso(value: str) -> str:
    return _NO_FRACTION.sub(r"\1", value.replace(" ", "T", 1))


def text_of_bytes(value: Any) -> Any:
    """Return bytes as the text that they are, or else as base64; other values stay as they are."""
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()
