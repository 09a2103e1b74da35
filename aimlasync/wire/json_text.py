"""JSON in and out: requests as bytes, and the invalid JSON that servers send as values.

It works on bytes and values, without I/O, and imports nothing of this library.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from io import IOBase
from types import FunctionType, MethodType
from typing import Any, Protocol, get_origin

import msgspec


class Dumpable(Protocol):
    """A model of pydantic, or what else has its `model_dump`."""

    def model_dump(self) -> dict[str, Any]:
        """Return the fields."""
        ...


def plain_value(value: Any) -> Any:
    """Convert values that msgspec cannot encode.

    They are texts and numbers of classes of their own, mappings, pydantic models and what has their `model_dump`,
    numbers of numpy, and iterables such as generators.
    """
    for kind in (str, float, int):
        if isinstance(value, kind):
            # Markup of a template engine is a text, and not a list of its letters.
            return kind.__str__(value) if kind is str else kind(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, type) or get_origin(value) is not None:
        name = value.__qualname__ if isinstance(value, type) else value
        raise TypeError(
            f"cannot send the type {name} as JSON; parse() takes one, as response_format= of chat, text_format= of "
            "responses"
        )
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json", exclude_unset=True)
    if getattr(value, "shape", None) == () and (number := getattr(value, "item", None)) is not None:
        return number()
    if isinstance(value, Iterable) and not isinstance(value, IOBase):
        return list(value)
    if isinstance(value, (FunctionType, MethodType)):
        raise TypeError(f"cannot send the function {value.__qualname__} as JSON; agents.run() takes functions as tools")
    raise TypeError(f"cannot send a {type(value).__module__}.{type(value).__qualname__} as JSON")


_encoder = msgspec.json.Encoder(enc_hook=plain_value)
encode = _encoder.encode
"""Encode any request or struct to JSON bytes."""


_HALF = re.compile("[\ud800-\udfff]")


def without_halves(text: str) -> str:
    """Return a text with U+FFFD for each half of a surrogate pair, which no encoding has."""
    return _HALF.sub("\ufffd", text)


DEEPEST = 200
"""Levels of lists and objects that are read: what works on a value may be recursive, and no server means so many."""

_BRACKETS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[{]++|[\]}]++', re.DOTALL)


def is_deeper(value: Any, levels: int) -> bool:
    """Return whether there is anything in so many lists and objects, one in another. It is not recursive."""
    level = [value]
    for _ in range(levels):
        level = [part for item in level for part in _parts(item)]
        if not level:
            return False
    return True


def _parts(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def cut_deep(raw: bytes) -> bytes:
    """Return JSON with null for what is nested in more than DEEPEST levels; JSON that was cut there remains invalid.

    How many levels msgspec reads depends on the interpreter: some hundred, or thousands.
    """
    # How many brackets there are, by what is left without them: `count` looks at each byte and takes six times as long.
    if len(raw) - len(raw.replace(b"[", b"").replace(b"{", b"")) <= DEEPEST:
        return raw
    pieces: list[bytes] = []
    at = level = 0
    for found in _BRACKETS.finditer(raw):
        run = found[0]
        if run[0] in b"[{":
            if level <= DEEPEST < level + len(run):
                pieces.append(raw[at : found.start() + DEEPEST - level])
                at = len(raw)
            level += len(run)
        elif run[0] in b"]}":
            if level - len(run) <= DEEPEST < level:
                pieces.append(b"null")
                at = found.start() + level - DEEPEST
            level -= len(run)
    return b"".join((*pieces, raw[at:])) if pieces else raw


def plain(raw: bytes) -> Any:
    """Read JSON, including the invalid JSON that servers send.

    NaN, Infinity and 1e999 become null; invalid UTF-8 and half a surrogate pair become U+FFFD; control characters stand
    for themselves; a byte order mark is skipped; UTF-16 and UTF-32 are told by their first bytes. Raises
    msgspec.DecodeError for anything else that is no JSON.
    """
    try:
        return msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        pass
    try:
        value = json.loads(
            raw.decode(json.detect_encoding(raw), "replace"),
            parse_constant=lambda _: None,
            parse_float=_finite,
            strict=False,
        )
        return msgspec.json.decode(without_halves(json.dumps(value, ensure_ascii=False)))
    except (ValueError, RecursionError) as error:
        problem = str(error)
    raise msgspec.DecodeError(problem)


def _finite(text: str) -> float | None:
    value = float(text)
    return value if abs(value) != float("inf") else None
