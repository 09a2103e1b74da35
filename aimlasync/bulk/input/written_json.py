"""JSON that a user wrote: an option, a file of labels, a schema, a cell.

Pure. It may import `wire.json_text`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from aimlasync.wire.json_text import is_deeper

MAX_DEPTH = 100
"""Levels of lists and objects: what works on a value may be recursive, and nobody writes so many."""


def read_json(text: str | bytes) -> Any:
    """Return what a text says. Raises ValueError for what is no JSON, or is nested deeper than MAX_DEPTH."""
    try:
        value = msgspec.json.decode(text)
        is_too_deep = is_deeper(value, MAX_DEPTH + 1)
    except RecursionError:
        is_too_deep = True
    if is_too_deep:
        raise ValueError(f"nested more than {MAX_DEPTH} levels deep")
    return value
