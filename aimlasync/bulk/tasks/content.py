"""A short digest of the columns that decide a row's answer, by which a row is found again after its table has changed.

Pure functions. It may import the rows of an input and `prompt`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from operator import itemgetter
from typing import Any

from msgspec import UNSET

from aimlasync.bulk.input.columns import value_of
from aimlasync.bulk.input.rows import Row
from aimlasync.bulk.tasks.prompt import as_text
from aimlasync.wire.canonical_json import canonical

_AS_THEY_ARE = frozenset((str, dict, list))
# To copy a digest that is begun takes less time than to begin one with a size of its own.
_begun = blake2b(digest_size=12).copy
# Names of a request that is written without the line around it.
_NAMES = frozenset(("custom_id", "id"))


def contents_of(columns: Sequence[str]) -> Callable[[Row], str]:
    """Return a function that gives the digest of a row's values in `columns`, of which there must be one.

    The order of members within a value does not count, but for the properties of a schema. A row that has none of the
    columns is a request that is written without the line around it: then it is all of the row.
    """
    # Of one column `itemgetter` gives no tuple.
    find = itemgetter(*columns) if len(columns) > 1 else lambda fields: (fields[columns[0]],)

    def content_of(row: Row) -> str:
        fields = row.fields
        try:
            values: Sequence[Any] = find(fields)
        except KeyError:
            values = _values_of(fields, columns)
        for value in values:
            if type(value) not in _AS_THEY_ARE:
                values = [value if type(value) in _AS_THEY_ARE else as_text(value) for value in values]
                break
        digest = _begun()
        digest.update(canonical(values))
        return digest.hexdigest()

    return content_of


def _values_of(fields: dict[str, Any], columns: Sequence[str]) -> list[Any]:
    values = [value_of(fields, column) for column in columns]
    if all(value is UNSET for value in values):
        return [{name: value for name, value in fields.items() if name not in _NAMES}]
    return values
