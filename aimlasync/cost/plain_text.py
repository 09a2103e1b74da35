"""Whether a request is plain text, as most are: what weighs images and files is loaded, and run, for the others alone.

It has no I/O and imports nothing of this library.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def is_plain_text(body: Mapping[str, Any]) -> bool:
    """Whether a request of either endpoint holds nothing beside text."""
    for member in ("messages", "input"):
        items = body.get(member)
        if items is not None and type(items) is not str and not (isinstance(items, (list, tuple)) and is_text(items)):
            return False
    return True


def is_text(items: Iterable[Any]) -> bool:
    """Whether all items are messages with a role and a text, and nothing else, as most are."""
    for item in items:
        if type(item) is not dict or len(item) != 2 or "role" not in item or type(item.get("content")) is not str:
            return False
    return True
