"""Values of rows that a program gives, as those of a file are read: numpy's, pandas', and Python's own.

None of these packages is imported. Imports `parquet`.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

from aimlasync.bulk.input.parquet import finite, text_of_bytes

_SIMPLE = frozenset((str, int, bool, type(None)))


def json_row(fields: Any) -> Any:
    """Return a row with its values as a file's are read; what is no dict stays as it is."""
    if not isinstance(fields, dict) or _SIMPLE.issuperset(map(type, fields.values())):
        return fields
    return {name: value if type(value) is str else json_value(value) for name, value in fields.items()}


def as_list(value: Any) -> Any:
    """Return an array as a list, and a scalar of one as its value; other values stay as they are."""
    if not hasattr(value, "tolist"):
        return value
    if type(value).__module__ == "numpy" and value.dtype.kind in "mM":
        # Of nanoseconds a list has whole numbers.
        value = value.astype(f"{value.dtype.kind}8[us]")
    return value.tolist()


def json_value(value: Any) -> Any:
    """Return a value as one that JSON knows, a missing one as None; objects of other kinds stay as they are."""
    # An array within an array, or a scalar of an array.
    value = as_list(value)
    if isinstance(value, dict):
        return {name: json_value(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_value(item) for item in value]
    # The missing values of pandas: NaN and NaT are not equal to themselves, and comparing NA gives NA.
    if type(value).__name__ in ("NAType", "NaTType") or value != value:
        return None
    return next((plain(value) for kind, plain in _PLAIN if isinstance(value, kind)), value)


# What JSON has no type for, as a Parquet file's values are read.
_PLAIN: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (float, finite),
    ((datetime.date, datetime.time), lambda value: value.isoformat()),
    (datetime.timedelta, lambda value: value.total_seconds()),
    ((Decimal, UUID), str),
    (bytes, text_of_bytes),
)
