"""Which column of a table holds the text, and the text of a row.

Pure. A column is guessed only where one alone fits. Imports the rows of an input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET

from aimlasync.bulk.input.columns import column_of, value_of
from aimlasync.bulk.input.rows import InputError, Row
from aimlasync.bulk.tasks.prompt import as_text, listed

# Enough rows to tell prose from ids, dates and categories.
SAMPLE = 50


def text_column(reader_columns: Sequence[str], sample: Sequence[Row], wanted: str | None, name: str) -> str:
    """Return the column that holds the text: `wanted`, else "text" or "Text", else the only one that reads like prose.

    Raises InputError, with the columns there are.
    """
    columns = [column for column in reader_columns if column]
    if wanted is not None:
        if column_of(columns, wanted) is None:
            raise InputError(name, f"no column {wanted!r}; there are: {listed(columns, wanted)}")
        return wanted
    called = ["text"] if "text" in columns else [column for column in columns if column.casefold() == "text"]
    if len(called) == 1:
        return called[0]
    prose = columns if len(columns) == 1 else [column for column in columns if _is_prose(column, sample)]
    if len(prose) == 1:
        return prose[0]
    raise InputError(name, f"which column is the text? Say so with --text; there are: {listed(columns)}")


def _is_prose(column: str, sample: Sequence[Row]) -> bool:
    values = [value for row in sample if isinstance(value := row.fields.get(column), str) and value.strip()]
    return bool(values) and 2 * sum(map(_reads_like_prose, values)) >= len(values)


def _reads_like_prose(value: str) -> bool:
    # Four words, or a line of a script without spaces.
    return len(value.split()) >= 4 or (not value.isascii() and len(value) >= 8)


def needed_value(row: Row, column: str, name: str) -> Any:
    """Return the value of a column that every row needs. Raises InputError for a row without it."""
    value = value_of(row.fields, column)
    if value is UNSET:
        there = listed(list(row.fields), column)
        raise InputError(name, f"no {column!r} in this row; every row needs it; it has: {there}", line=row.line)
    return value


def row_text(row: Row, column: str, name: str) -> str:
    """Return the text of a row, "" when it has none. Raises InputError for a value that is no text."""
    value = needed_value(row, column, name)
    if isinstance(value, (dict, list)):
        raise InputError(name, f"{column!r} is not text; name another column with --text", line=row.line)
    return as_text(value)
