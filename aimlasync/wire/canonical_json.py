"""JSON by which equal requests are found: the order of an object's members does not count, but that of a schema's does.

A model fills in a schema in the order of its properties, so their order decides the answer: reasoning before the
verdict, or after it. It works on values, without I/O, and imports `json_text`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from aimlasync.wire.json_text import encode

PROPERTIES = "properties"
"""The word of JSON Schema whose members have an order that counts."""

_MARK = b'"properties":{'

_LEAVES = frozenset((str, int, float, bool, type(None)))

_sorted = msgspec.json.Encoder(order="deterministic").encode


def canonical(value: Any) -> bytes:
    """Return the JSON of a value with sorted members, and behind it the order of each schema's properties.

    Properties that are in the order of their names add nothing.
    """
    encoded = _sorted(value)
    # `in` takes seven times as long: it first raises an error within, since the mark is no number.
    if encoded.find(_MARK) < 0:
        return encoded
    orders = [list(names) for names in _orders(value)]
    return encoded if all(names == sorted(names) for names in orders) else encoded + encode(orders)


def _orders(value: Any) -> Iterator[dict[str, Any]]:
    """Give each object of properties, in an order that does not depend on that of the members around it."""
    open_ = [value]
    while open_:
        part = open_.pop()
        if isinstance(part, dict):
            for name in sorted(part):
                inner = part[name]
                if name == PROPERTIES and isinstance(inner, dict):
                    yield inner
                    # One of them may have that name too.
                    open_ += [inner[each] for each in sorted(inner)]
                elif type(inner) not in _LEAVES:
                    open_.append(inner)
        elif isinstance(part, (list, tuple)):
            open_ += [inner for inner in part if type(inner) not in _LEAVES]
        elif type(part) not in _LEAVES:
            # A struct, or what else can be sent.
            open_.append(msgspec.json.decode(encode(part)))
