"""A short digest of the columns that decide a row's answer, by which a row is found again after its table has changed.

Pure functions. It may import the rows of an input and `prompt`.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import UNSET

from aimlasync.bulk.input.columns import value_of
from aimlasync.bulk.input.rows import Row
from aimlasync.bulk.tasks.prompt import as_text

_encode = msgspec.json.Encoder(order="deterministic").encode
_AS_THEY_ARE = (str, dict, list)
# Names of a request that is written without the line around it.
_NAMES = frozenset(("custom_id", "id"))


def content_of(row: Row, columns: Sequence[str]) -> str:
    """Return the digest of a row's values in `columns`; the order of members within a value does not count.

    A row that has none of them is a request that is written without the line around it: then it is all of the row.
    """
    fields, values = row.fields, []
    try:
        for column in columns:
            value = fields[column]
            values.append(value if type(value) in _AS_THEY_ARE else as_text(value))
    except KeyError:
        values = _values_of(fields, columns)
    return blake2b(_encode(values), digest_size=12).hexdigest()


def _values_of(fields: dict[str, Any], columns: Sequence[str]) -> list[Any]:
    values, missing = [], 0
    for column in columns:
        if (value := value_of(fields, column)) is UNSET:
            missing += 1
        values.append(value if type(value) in _AS_THEY_ARE else as_text(value))
    if missing and missing == len(values):
        return [{name: value for name, value in fields.items() if name not in _NAMES}]
    return values
