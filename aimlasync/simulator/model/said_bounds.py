"""Reads the bounds that the description of a schema says: the strict subset of JSON schema has no keywords for them.

A model reads "minimum 1; at most 3 items" and "format date" there. Pure, and without imports from the package.
"""

from __future__ import annotations

import re
from typing import Any

_NUMBERS = {
    "minimum": "minimum",
    "more than": "exclusiveMinimum",
    "maximum": "maximum",
    "less than": "exclusiveMaximum",
    "multiple of": "multipleOf",
}
_SIZES = {"at least characters": "minLength", "at most characters": "maxLength"}
_SIZES |= {"at least items": "minItems", "at most items": "maxItems"}
_SAID = re.compile(
    rf"\b(?:({'|'.join(_NUMBERS)}) (-?\d+(?:\.\d+)?)(?![\w.]*\w)"
    r"|(at least|at most) (\d{1,4}) (characters|items)\b|(?:format|encoding) ([a-z0-9-]+))"
)


def bounds(description: Any) -> dict[str, Any]:
    """Return the keywords that a description says: `minimum`, `maxItems`, `format` and their like."""
    found: dict[str, Any] = {}
    for bound, number, size, count, unit, form in _SAID.findall(description) if isinstance(description, str) else ():
        if bound:
            found[_NUMBERS[bound]] = float(number) if "." in number else int(number)
        elif size:
            found[_SIZES[f"{size} {unit}"]] = int(count)
        else:
            found["format"] = form
    return found
