"""Whether a request is plain text, as most are: what weighs images and files is loaded, and run, for the others alone.

It has no I/O and imports nothing of this library.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def is_plain_text(body: Mapping[str, Any]) -> bool:
    """Whether a request of either endpoint holds nothing beside text."""
    return ("messages" not in body or is_text(body["messages"])) and ("input" not in body or is_text(body["input"]))


def is_text(items: object) -> bool:
    """Whether this is a text, or messages that are each a role and a text and nothing else, as most are."""
    if type(items) is not list:
        if items is None or type(items) is str:
            return True
        if not isinstance(items, (list, tuple)):
            return False
    for item in items:
        if type(item) is not dict or len(item) != 2 or "role" not in item or type(item.get("content")) is not str:
            return False
    return True
