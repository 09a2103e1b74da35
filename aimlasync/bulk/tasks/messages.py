"""The messages of a request: a text with images, or a whole conversation that a column holds.

Imports the rows of an input and this room.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from aimlasync.bulk.input.rows import InputError, Row
from aimlasync.bulk.tasks.request import Api
from aimlasync.bulk.tasks.text_column import needed_value


def conversation(row: Row, column: str, name: str) -> list[dict[str, Any]]:
    """Return the messages in a column: a list of them, or the JSON of one. Raises InputError for anything else."""
    value = needed_value(row, column, name)
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except (ValueError, RecursionError):
            value = None
    elif not isinstance(row.raw, bytes):
        value = without_nulls(value)
    if not isinstance(value, list) or not value or not all(isinstance(turn, dict) and "role" in turn for turn in value):
        example = '[{"role": "user", "content": "Hello"}]'
        raise InputError(name, f"{column!r} is no list of messages, such as {example}", line=row.line)
    return value


def user_content(text: str, images: Sequence[str], endpoint: Api) -> str | list[dict[str, Any]]:
    """Return the content of a user's message: the text alone, or its parts with the URLs of images."""
    if not images:
        return text
    parts: list[dict[str, Any]] = []
    if endpoint == "responses":
        if text:
            parts.append({"type": "input_text", "text": text})
        return [*parts, *({"type": "input_image", "image_url": url} for url in images)]
    if text:
        parts.append({"type": "text", "text": text})
    return [*parts, *({"type": "image_url", "image_url": {"url": url}} for url in images)]


def without_nulls(value: Any) -> Any:
    """Return a value without null members: in a column, objects have the members of all rows, null where missing."""
    if isinstance(value, dict):
        return {name: without_nulls(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value
