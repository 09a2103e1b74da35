"""Columns of a batch: a dict of lists or arrays, a pandas frame, or an Arrow table.

`BatchChat` reads and adds columns through these functions. Neither pandas nor pyarrow is imported before a batch of
theirs is here. Imports the input's Parquet values and the kinds of a table's columns.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Literal

from aimlasync.bulk.input.parquet import column_values
from aimlasync.bulk.output.parquet_table import Kind


def column_names(batch: Any) -> list[str]:
    """Return the names of the columns."""
    names = getattr(batch, "column_names", None)
    return [str(name) for name in (batch.keys() if names is None else names)]


def json_values(column: Any) -> list[Any]:
    """Return a column as values that JSON knows, missing ones None; other values stay as they are."""
    if type(column).__module__.startswith("pyarrow"):
        return column_values(column)
    return [_plain(value) for value in (column.tolist() if hasattr(column, "tolist") else column)]


def _plain(value: Any) -> Any:
    if type(value) is str:
        return value
    if hasattr(value, "tolist"):
        # An array within an array, or a scalar of an array.
        value = value.tolist()
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    # The missing values of pandas: NaN and NaT are not equal to themselves, and comparing NA gives NA.
    return None if type(value).__name__ in ("NAType", "NaTType") or value != value else value


def with_columns(batch: Any, added: Mapping[str, tuple[Kind | Literal["texts"], list[Any]]]) -> Any:
    """Return a batch of the same kind with more columns, each with its values in order and what kind they are of.

    Where batches have types so has the column, since all of its values may be missing in one batch.
    """
    if hasattr(batch, "append_column"):
        pa = sys.modules["pyarrow"]
        types = {"text": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
        types["texts"] = pa.list_(pa.string())
        for column, (kind, values) in added.items():
            batch = batch.append_column(column, pa.array(values, types[kind]))
        return batch
    columns: dict[str, Any] = {column: values for column, (_, values) in added.items()}
    if hasattr(batch, "assign"):
        pandas = sys.modules[type(batch).__module__.partition(".")[0]]
        # Int64 and boolean are the types of pandas that can have missing values.
        types = {"text": "object", "texts": "object", "int": "Int64", "float": "float64", "bool": "boolean"}
        for column, (kind, values) in added.items():
            columns[column] = pandas.Series(values, index=batch.index, dtype=types[kind])
        return batch.assign(**columns)
    return {**batch, **columns}
