"""Rows of a Parquet input, one at a time.

pyarrow is imported here, and only when a Parquet file is read or written. Memory is a batch of rows and the pages that
they came in, whatever the size of the file. Values are those that JSON knows; others become text: dates, times and
decimals as Arrow prints them, with all their digits; binary values as UTF-8 where they are that (older writers mark no
text as text) and base64 where not.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any, BinaryIO

from aimlasync.bulk.input.rows import InputError, Row

# Rows of a batch, and bytes read ahead of each column: a row group may hold the whole file.
_BATCH = 1000
_AHEAD = 2**18


def pyarrow(name: str) -> Any:
    """Return pyarrow with its Parquet part. Raises InputError about `name` when it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InputError(name, "Parquet needs pyarrow; install it with: pip install 'aimlasync[parquet]'") from None
    return pyarrow


class ParquetReader:
    """Iterates the rows of one file, once; `columns` is known with the first row."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        self.columns: list[str] = []
        self._file = file

    def __iter__(self) -> Iterator[Row]:
        pa = pyarrow(self.name)
        number = 0
        try:
            # Threads and buffering ahead would each hold whole row groups in memory.
            table = pa.parquet.ParquetFile(self._file, buffer_size=_AHEAD, pre_buffer=False)
            self.columns = names = self._checked(table.schema_arrow.names)
            types = [_plain_type(field.type, pa) for field in table.schema_arrow]
            for batch in table.iter_batches(_BATCH, use_threads=False):
                columns = [_values(column.cast(kind), pa) for column, kind in zip(batch.columns, types, strict=True)]
                for values in zip(*columns, strict=True):
                    number += 1
                    yield Row(number, number, dict(zip(names, values, strict=True)))
        except (pa.ArrowException, OSError, KeyError) as error:
            said = str(error).partition("\n")[0].rstrip(".")
            what = f"cannot be read as Parquet ({said}); is it whole? Write it again, or as JSONL"
            raise InputError(self.name, what, line=number + 1 if number else None) from None
        if not number:
            raise InputError(self.name, "no rows; there is nothing to do")

    def _checked(self, names: list[str]) -> list[str]:
        for name in names:
            if names.count(name) > 1:
                raise InputError(self.name, f"two columns are named {name!r}; rename one")
        return names


def column_values(column: Any) -> list[Any]:
    """Return the values of an Arrow array as a reader gives them."""
    pa = pyarrow("batch")
    return _values(column.cast(_plain_type(column.type, pa)), pa)


def _plain_type(kind: Any, pa: Any) -> Any:
    """Return the type with text for what JSON has no type for; Arrow casts, as Python's times end at microseconds."""
    types = pa.types
    if types.is_dictionary(kind):
        return _plain_type(kind.value_type, pa)
    if types.is_temporal(kind) or types.is_decimal(kind):
        return pa.string()
    if types.is_map(kind):
        return pa.map_(_plain_type(kind.key_type, pa), _plain_type(kind.item_type, pa))
    if types.is_struct(kind):
        return pa.struct([field.with_type(_plain_type(field.type, pa)) for field in kind])
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return pa.large_list(_plain_type(kind.value_type, pa))
    return kind


def _values(column: Any, pa: Any) -> list[Any]:
    types, kind = pa.types, column.type
    values: list[Any] = column.to_pylist(maps_as_pydicts="strict")
    if types.is_string(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        return values
    return [_plain(value) for value in values]


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return base64.b64encode(value).decode()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    return value
