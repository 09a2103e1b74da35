"""Columns by their names, also those within a column: `meta.title`, `tags.0`.

Pure. A column whose whole name it is comes first. Imports msgspec alone.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from msgspec import UNSET


def value_of(fields: Any, name: str) -> Any:
    """Return the value in a row's column `name`, or within one of its columns; UNSET where there is none.

    What is within null is null.
    """
    if isinstance(fields, dict):
        if name in fields:
            return fields[name]
        end = name.find(".")
        while end >= 0:
            if name[:end] in fields:
                return value_of(fields[name[:end]], name[end + 1 :])
            end = name.find(".", end + 1)
        return UNSET
    if isinstance(fields, list):
        head, _, rest = name.partition(".")
        if not head.isdecimal() or int(head) >= len(fields):
            return UNSET
        return value_of(fields[int(head)], rest) if rest else fields[int(head)]
    return None if fields is None else UNSET


def column_of(columns: Collection[str], name: str) -> str | None:
    """Return which of `columns` a name stands for or is within, None for a name of none."""
    if name in columns:
        return name
    end = name.find(".")
    while end >= 0:
        if name[:end] in columns:
            return name[:end]
        end = name.find(".", end + 1)
    return None
