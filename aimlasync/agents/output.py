"""The last text of a run as a value of the type asked for, also when the model wrote a little more than that.

Law: pure. What is cheap to repair is repaired (a code fence, words before or after the JSON); what is not is the
caller's to ask for again.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from aimlasync.structured.schema import Format

_FENCE = re.compile(r"```[a-zA-Z]*\s*\n(.*?)```", re.DOTALL)
_scan = json.JSONDecoder().raw_decode


def read_answer(text: str, form: Format[Any]) -> Any:
    """Return the value in `text`. Raises msgspec.DecodeError, saying what is wrong with the text as it is."""
    try:
        return form.decode(text)
    except msgspec.DecodeError as error:
        problem = error
    fenced = _FENCE.search(text)
    for candidate in (fenced.group(1) if fenced else None, _json_in(text)):
        if candidate is not None:
            try:
                return form.decode(candidate)
            except msgspec.DecodeError as error:
                # What is wrong inside says more than that there is something outside.
                problem = error
    raise problem


def _json_in(text: str) -> str | None:
    """The first JSON object of a text."""
    start = text.find("{")
    if start < 0:
        return None
    try:
        _, end = _scan(text, start)
    except (ValueError, RecursionError):
        return None
    return text[start:end]
