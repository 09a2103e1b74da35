"""Columns of a batch: a dict of lists or arrays, a frame of pandas or polars, an Arrow table or record batch.

`BatchChat` reads and adds columns through these functions. None of these packages is imported before a batch of
theirs is here. Imports the input's values and the kinds of a table's columns.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from aimlasync.bulk.input.parquet import column_values
from aimlasync.bulk.input.values import as_list, json_value
from aimlasync.bulk.output.parquet_table import Kind

Added = Kind | Literal["texts"]
"""What a column that is added holds."""


class Column(list[Any]):
    """A column of a dict: a list that keeps its type where Arrow reads it, also while all of its values are missing.

    `datasets.map` fixes the types of a dataset by its first batch.
    """

    def __init__(self, values: Iterable[Any], kind: Added) -> None:
        super().__init__(values)
        self.kind = kind

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (list(self), self.kind)

    def __arrow_array__(self, type: Any = None) -> Any:
        import pyarrow as pa

        return pa.array(list(self), _arrow_types(pa)[self.kind] if type is None else type)


def column_names(batch: Any) -> list[str]:
    """Return the names of the columns. Raises TypeError for what has none, and for a frame without its rows."""
    if not hasattr(batch, "__len__"):
        raise _no_batch(batch)
    # Of an Arrow table; of a frame of polars, since a dict has none; of all others.
    for names in (getattr(batch, "column_names", None), getattr(batch, "columns", None)):
        if names is not None:
            return [str(name) for name in names]
    if not hasattr(batch, "keys"):
        raise _no_batch(batch)
    return [str(name) for name in batch.keys()]  # noqa: SIM118


def _no_batch(given: Any) -> TypeError:
    return TypeError(f"a batch is a dict of lists, a frame or an Arrow table, not {type(given).__name__}")


def column_of(batch: Any, name: str) -> Any:
    """Return a column by its name in `column_names`."""
    try:
        return batch[name]
    except KeyError:
        # A frame of pandas that was made without names has numbers.
        return batch[next(key for key in batch.keys() if str(key) == name)]  # noqa: SIM118


def json_values(column: Any) -> list[Any]:
    """Return a column as values that JSON knows, missing ones None; objects of other kinds stay as they are.

    Raises TypeError for one value, whose letters would be a row each, and for what can be read once alone.
    """
    if type(column).__module__.startswith("pyarrow"):
        return column_values(column)
    listed = as_list(column)
    if isinstance(listed, (str, bytes, Mapping)) or not hasattr(listed, "__len__"):
        raise TypeError(f"a column of a batch is a list of values, one for each row, not {type(listed).__name__}")
    return [value if type(value) is str else json_value(value) for value in listed]


def with_columns(batch: Any, added: Mapping[str, tuple[Added, list[Any]]]) -> Any:
    """Return a batch of the same kind with more columns, each with its values in order and what kind they are of.

    Where batches have types so has the column, since all of its values may be missing in one batch.
    """
    if hasattr(batch, "append_column"):
        pa = sys.modules["pyarrow"]
        types = _arrow_types(pa)
        for column, (kind, values) in added.items():
            batch = batch.append_column(column, pa.array(values, types[kind]))
        return batch
    if hasattr(batch, "with_columns"):
        pl = sys.modules["polars"]
        types = {"text": pl.String, "int": pl.Int64, "float": pl.Float64, "bool": pl.Boolean}
        types["texts"] = pl.List(pl.String)
        return batch.with_columns(
            [pl.Series(column, values, types[kind]) for column, (kind, values) in added.items()],
        )
    columns: dict[str, Any] = {column: Column(values, kind) for column, (kind, values) in added.items()}
    if hasattr(batch, "assign"):
        pandas = sys.modules[type(batch).__module__.partition(".")[0]]
        # The types of pandas that can have missing values.
        types = {"text": "string", "texts": "object", "int": "Int64", "float": "float64", "bool": "boolean"}
        for column, (kind, values) in added.items():
            columns[column] = pandas.Series(values, index=batch.index, dtype=types[kind])
        return batch.assign(**columns)
    return {**batch, **columns}


def _arrow_types(pa: Any) -> dict[Added, Any]:
    return {
        "text": pa.string(),
        "texts": pa.list_(pa.string()),
        "int": pa.int64(),
        "float": pa.float64(),
        "bool": pa.bool_(),
    }
