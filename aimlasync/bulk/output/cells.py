"""A value as the text of a cell: JSON for what is no text, nothing for null. Pure; imports msgspec alone."""

from __future__ import annotations

from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode


def text_of(value: Any) -> str:
    """Return a value as the text of a cell."""
    if isinstance(value, str):
        return value
    return "" if value is None or value is msgspec.UNSET else _encode(value).decode()


def text_or_none(value: Any) -> str | None:
    """Return a value as text, None for null and for no value."""
    return None if value is None or value is msgspec.UNSET else text_of(value)
