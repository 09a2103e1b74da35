"""JSON that a user wrote: an option, a file of labels, a schema, a cell.

Pure. Imports msgspec alone.
"""

from __future__ import annotations

from typing import Any

import msgspec

MAX_DEPTH = 100
"""Levels of lists and objects: what works on a value may be recursive, and nobody writes so many."""


def read_json(text: str | bytes) -> Any:
    """Return what a text says. Raises ValueError for what is no JSON, or is nested deeper than MAX_DEPTH."""
    try:
        value = msgspec.json.decode(text)
    except RecursionError:
        level = [None]
    else:
        level = [value]
        for _ in range(MAX_DEPTH + 1):
            level = [part for item in level for part in _parts(item)]
            if not level:
                break
    if level:
        raise ValueError(f"nested more than {MAX_DEPTH} levels deep")
    return value


def _parts(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
