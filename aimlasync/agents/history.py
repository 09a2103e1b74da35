"""Makes a reply of the model a part of a history that servers accept again.

What a server said goes back as it came: signatures, reasoning and fields of its own are checked by some vendors. Three
things are mended, since a server that reads the history would refuse every later request: arguments that are no JSON
object, an id that two calls share, and a name that no tool can have. Pure functions; no I/O. It may import `wire`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from aimlasync.wire.base import encode

_MESSAGE = {"type", "id", "role", "status", "content", "phase"}
# What is in no name that endpoints take.
_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9_-]")


def mended_arguments(text: str) -> str:
    """Return the arguments of a call as the text of a JSON object: as they came where they are one, "{}" for others.

    Objects with raw control characters in their strings are read, and written with escapes. So is an object in a JSON
    string, which some models send.
    """
    for read in (msgspec.json.decode, _read_loosely):
        try:
            value = read(text)
            if isinstance(value, dict):
                return text if read is msgspec.json.decode else encode(value).decode()
            if isinstance(value, str) and isinstance(inner := read(value), dict):
                return encode(inner).decode()
        except (ValueError, RecursionError):
            pass
    return "{}"


def mended_name(name: str) -> str:
    """Return the name of a call as one that endpoints take; models make up such as "functions.look"."""
    return _NOT_IN_NAME.sub("_", name[:64]) or "unknown"


def is_mendable(text: str, mended: str) -> bool:
    """Whether `mended` says all that `text` does."""
    return mended != "{}" or text.strip('" \t\r\n') in ("", "{}", "null")


def _read_loosely(text: str) -> Any:
    return json.loads(text, strict=False)


def call_ids(items: Iterable[Any], begun: str) -> Callable[[str, int], str]:
    """Return a function that makes the id of a call one that the history does not have yet.

    It takes the server's id and the number of the call in its turn; `begun` is how ids of ours begin.
    """
    known: set[Any] = set()
    for item in items:
        if isinstance(item, dict):
            if item.get("type") == "function_call":
                known.add(item.get("call_id"))
            known.update(call.get("id") for call in item.get("tool_calls") or () if isinstance(call, dict))

    def unique(id: str, number: int) -> str:
        made, again = id or f"{begun}_{number}", 0
        while made in known:
            made = f"{begun}_{number}" if not again else f"{begun}_{number}_{again}"
            again += 1
        known.add(made)
        return made

    return unique


def as_input_message(said: dict[str, Any]) -> dict[str, Any] | None:
    """Return an output message as an input message, None when it says nothing.

    One that has nothing but text needs no id and no status; any other goes back as it came.
    """
    parts = said.get("content") or []
    if not isinstance(parts, list) or not _MESSAGE.issuperset(said) or not all(map(_is_plain, parts)):
        return said
    text = "".join(part.get("text") or part.get("refusal") or "" for part in parts)
    if not text:
        return None
    message = {"type": "message", "role": "assistant", "content": text}
    if said.get("phase") is not None:
        message["phase"] = said["phase"]
    return message


def _is_plain(part: Any) -> bool:
    """Whether a part of a message is a text, or a refusal, and nothing else."""
    if not isinstance(part, dict):
        return False
    more = {name for name, value in part.items() if value not in (None, [])} - {"type"}
    return (part.get("type"), more) in (("output_text", {"text"}), ("refusal", {"refusal"})) or not more
