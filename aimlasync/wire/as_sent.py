"""From a struct back to JSON: what the server sent, and what the caller changed since.

The JSON of a received struct is found by its `Place`. Fields that still have the value that it says are taken from it,
so nulls, defaults, spellings and unknown fields come out as they came. It has no I/O. It may import `wire.json_text`,
`wire.objects` and `wire.reading`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import msgspec

from aimlasync.wire.json_text import plain, plain_value
from aimlasync.wire.objects import Unknown
from aimlasync.wire.reading import Place, Placed, build, fields_of

_SIMPLE = (str, int, float, bool, type(None))
_ABSENT: Any = object()


def as_sent(struct: Any) -> dict[str, Any]:
    """Return a struct as plain dicts and lists."""
    sent = getattr(struct, "json_place", None)
    if sent is not None:
        place = (sent,) if type(sent) is bytes else sent
        said = _found(place)
        if said is not None:
            return _updated(struct, said, place)
    return _fields(struct)


def dump(value: Any) -> Any:
    """Return any value as plain JSON values, each struct in it as it was sent."""
    kind = type(value)
    if kind in _SIMPLE:
        return value
    if isinstance(value, Placed):
        return as_sent(value)
    if isinstance(value, Unknown):
        return value.to_dict()
    if isinstance(value, dict):
        return {key: dump(one) for key, one in value.items()}
    if kind is list or kind is tuple:
        return [dump(one) for one in value]
    return msgspec.to_builtins(value, enc_hook=plain_value)


def sendable(items: Any, name: str = "input") -> Any:
    """Return messages or input items without structs of a reply in them, which an encoder would send incompletely.

    A generator is read once; a text is returned as it is where `name` is "input". Raises TypeError for what is no list,
    above all for one message: iterating a dict would send its keys; and for bytes as a content, which would go as
    base64.
    """
    if type(items) is not list:
        if isinstance(items, str) and name == "input":
            return items
        if isinstance(items, (str, bytes, bytearray, Mapping)) or not isinstance(items, Iterable):
            kind = "a text or a list of items" if name == "input" else "a list"
            message = {"role": "user", "content": "Hello"}
            raise TypeError(f"{name} must be {kind}, such as [{message}], not {type(items).__name__}")
        if not isinstance(items, (list, tuple)):
            items = list(items)
    try:
        for item in items:
            if type(item) is dict:
                for value in item.values():
                    if type(value) is not str:
                        if isinstance(value, (bytes, bytearray, memoryview)):
                            key = next(key for key, each in item.items() if each is value)
                            raise TypeError(f"{key} in {name} is text, not {type(value).__name__}: decode it")
                        if _holds_received(value):
                            return dump(items)
            elif _holds_received(item):
                return dump(items)
    except RecursionError:
        # The encoder says that it contains itself.
        pass
    return items


def beside(struct: Any) -> dict[str, Any]:
    """Return the fields of a struct that its class does not declare; they share `__dict__` with properties' values."""
    kind = type(struct)
    return {name: value for name, value in struct.__dict__.items() if not hasattr(kind, name)}


def _holds_received(value: Any) -> bool:
    if isinstance(value, Placed):
        return True
    if isinstance(value, dict):
        return any(map(_holds_received, value.values()))
    return isinstance(value, (list, tuple)) and any(map(_holds_received, value))


def _found(place: Place) -> dict[str, Any] | None:
    value = plain(place[0])
    try:
        for step in place[1:]:
            value = value[step]
    except (LookupError, TypeError):
        # The server left it out: the struct is a default.
        return None
    return value if isinstance(value, dict) else None


def _fields(struct: Any) -> dict[str, Any]:
    """Return the fields of a struct that was not received, without those that have their defaults."""
    made = cast(dict[str, Any], msgspec.to_builtins(struct, enc_hook=plain_value))
    kind: Any = type(struct)
    for key, (name, *_) in fields_of(kind).items():
        if key in made and type(made[key]) not in _SIMPLE:
            made[key] = dump(getattr(struct, name))
    made.update(dump(beside(struct)))
    return made


def _updated(struct: Any, said: dict[str, Any], place: Place) -> dict[str, Any]:
    """Change `said`, the JSON that a struct was decoded from, where the struct has changed; return it."""
    kind: Any = type(struct)
    fields = fields_of(kind)
    fresh: Any = None
    computed: set[str] = set()
    for key, (name, *_) in fields.items():
        now, was = getattr(struct, name), said.get(key, _ABSENT)
        if was is _ABSENT:
            if now is None or name in kind.DERIVED:
                continue
        elif (same := _same(now, was, (*place, key))) is not _ABSENT:
            said[key] = same
            continue
        # It has another value, or one that the JSON has in another form.
        if fresh is None:
            fresh = build(said.copy(), kind)
            # What is said of these could not be read, so they are computed.
            computed = {name for name in kind.DERIVED if not getattr(fresh, name)}
            fresh.settle()
        if name in computed:
            continue
        then = getattr(fresh, name)
        if now != then:
            said[key] = dump(now)
    more, tag = beside(struct), kind.__struct_config__.tag_field
    for key in [key for key in said if key not in fields and key not in more and key != tag]:
        if not hasattr(kind, key):
            del said[key]
    said.update(dump(more))
    return said


def _same(now: Any, was: Any, place: Place) -> Any:
    """Return the JSON for a value that is decoded from `was`, `_ABSENT` where it may be another one."""
    if type(now) in _SIMPLE:
        return was if type(now) is type(was) and now == was else _ABSENT
    if isinstance(now, Placed):
        if getattr(now, "json_place", place) != place:
            return as_sent(now)
        return _updated(now, was, place) if isinstance(was, dict) else _ABSENT
    if type(now) is list:
        if type(was) is not list or len(now) != len(was):
            return _ABSENT
        found = [_same(one, said, (*place, number)) for number, (one, said) in enumerate(zip(now, was, strict=True))]
        return _ABSENT if any(one is _ABSENT for one in found) else found
    if isinstance(now, Unknown):
        return now.to_dict()
    return was if now == was else _ABSENT
