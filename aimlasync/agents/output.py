"""Decodes the last text of a run into the type that was asked for.

Models often wrap their JSON in a code fence or write words around it, so both are removed when the text as it is does
not decode. Anything else that is wrong is the agent loop's to ask for again. Pure functions; this module may import the
package's `schema` alone.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from aimlasync.structured.schema import Format

_FENCE = re.compile(r"```[a-zA-Z]*\s*\n(.*?)```", re.DOTALL)
_scan = json.JSONDecoder().raw_decode


def decode_output(text: str, form: Format[Any]) -> Any:
    """Return the value in `text`. Raises msgspec.DecodeError, saying what is wrong with it."""
    try:
        return form.decode(text)
    except msgspec.DecodeError as error:
        problem = error
    fenced = _FENCE.search(text)
    for candidate in (fenced.group(1) if fenced else None, _first_object(text)):
        if candidate is not None:
            try:
                return form.decode(candidate)
            except msgspec.DecodeError as error:
                # A problem within the JSON tells the model more than "there are words around it".
                problem = error
    raise problem


def _first_object(text: str) -> str | None:
    """Return the first JSON object of a text."""
    start = text.find("{")
    if start < 0:
        return None
    try:
        _, end = _scan(text, start)
    except (ValueError, RecursionError):
        return None
    return text[start:end]
