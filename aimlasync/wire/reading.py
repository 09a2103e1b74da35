"""Reads JSON into structs where the exact types do not do: a field is unknown, or has a type that nobody promised.

A decoder of msgspec with the exact types is tried first; it is fast, and refuses what it would lose. `read` then reads
the plain value: where the types fit but for unknown fields, `wire.undeclared` does it, and otherwise a walk keeps every
field that fits. So `usage: null`, a number in a code or a missing index never costs the answer. It works on bytes and
values, without I/O. It may import `wire.json_text`, `wire.objects` and
`wire.undeclared`.
"""

from __future__ import annotations

import functools
import types
import typing
from codecs import BOM_UTF8
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any, TypeAlias, TypeVar, cast

import msgspec

from aimlasync.wire.json_text import cut_deep, encode, plain
from aimlasync.wire.objects import AnyJson, Object, Unknown, json_hook, open_up
from aimlasync.wire.undeclared import fitted

S = TypeVar("S", bound=msgspec.Struct)

Place: TypeAlias = tuple[Any, ...]
"""Where the JSON of a struct is: a document's bytes, then the keys and indices that lead from its root to the value."""


class Placed:
    """Base of the structs that know where their JSON is: `json_place` is the bytes of a whole document, or a `Place`.

    Bytes mean besides that the document has no unknown field.
    """

    # A slot, not a field: it is never encoded, and costs less than an entry of `__dict__`.
    __slots__ = ("json_place",)
    json_place: bytes | Place


def decode(raw: bytes, decoder: msgspec.json.Decoder[S], target: type[S]) -> S:
    """Decode `raw` by the exact types, or by `read` where they do not fit. Raises like `read`."""
    try:
        return decoder.decode(raw)
    except (ValueError, RecursionError):
        # The errors of msgspec are ValueErrors, as are those of invalid UTF-8.
        pass
    if raw.startswith(BOM_UTF8):
        return decode(raw[len(BOM_UTF8) :], decoder, target)
    return cast(S, read(raw, target))


def read(raw: bytes, wanted: Any, kinds: Mapping[str, type[Placed]] | None = None) -> Any:
    """Read a JSON object as `wanted`: a struct, or a union of the structs `kinds` told apart by a tag.

    What is nested too deep is null. Raises msgspec.DecodeError for invalid JSON, msgspec.ValidationError for what is no
    object.
    """
    raw = cut_deep(raw)
    value = plain(raw)
    if not isinstance(value, dict):
        raise msgspec.ValidationError(f"expected an object, got {type(value).__name__}")
    kind = wanted if kinds is None else kinds.get(str(value.get("type")))
    place = (raw,)
    if kind is not None and issubclass(kind, Placed) and (made := fitted(value, kind, place)) is not None:
        return made
    return _reader(wanted)(value, place)


def build(value: dict[str, Any], wanted: type[S], place: Place | None = None) -> S:
    """Return a struct of a plain object, of which `place` says where it is."""
    return cast(S, _read_struct(wanted, value, place))


def repair(value: Any, wanted: Any) -> Any:
    """Return `value` as type `wanted`, without the parts that do not fit; `LOST` when nothing fits."""
    return _reader(wanted)(value, None)


def add_fields(struct: msgspec.Struct, more: dict[str, Any]) -> None:
    """Set fields by their names on the wire, declared or not."""
    kind = type(struct)
    fields = fields_of(kind)
    for key, value in more.items():
        if key in fields:
            name, reader, _ = fields[key]
            if (fitted := reader(value, None)) is not LOST:
                setattr(struct, name, fitted)
        elif not hasattr(kind, key):
            # What has the name of a property or method of ours is in `to_dict` alone.
            struct.__dict__[key] = open_up(value)


LOST: Any = object()
"""The result for a value that cannot be read as the type; the field keeps its default."""


_Reader: TypeAlias = Callable[[Any, "Place | None"], Any]


@functools.cache
def fields_of(kind: type[msgspec.Struct]) -> dict[str, tuple[str, _Reader, tuple[type, ...]]]:
    """Return the fields of a struct by the name on the wire: the attribute, its reader, and types to keep."""
    return {
        field.encode_name: (field.name, _reader(field.type), _exact(field.type))
        for field in msgspec.structs.fields(kind)
    }


def _exact(wanted: Any) -> tuple[type, ...]:
    kinds = typing.get_args(wanted) if typing.get_origin(wanted) in (typing.Union, types.UnionType) else (wanted,)
    return tuple(kind for kind in kinds if kind in (str, int, float, bool, type(None)))


@functools.cache
def _reader(wanted: Any) -> _Reader:
    if wanted is Any:
        return lambda value, _: value
    if wanted is AnyJson or wanted is Object:
        return lambda value, _: open_up(value)
    origin = typing.get_origin(wanted)
    if origin in (typing.Union, types.UnionType):
        return _union_reader(typing.get_args(wanted))
    if origin is list:
        return _list_reader(_reader(*typing.get_args(wanted)), wanted)
    if isinstance(wanted, type) and issubclass(wanted, msgspec.Struct):
        # Its fields are looked up when there is a value: a struct may hold its own kind.
        return functools.partial(_read_struct, wanted)
    return functools.partial(_read_value, wanted)


def _read_value(wanted: Any, value: Any, _: Place | None) -> Any:
    if type(value) is wanted:
        return value
    try:
        made = msgspec.convert(value, wanted, strict=False, dec_hook=json_hook)
    except msgspec.ValidationError:
        pass
    else:
        # "NaN" and "Infinity" are read as floats.
        return LOST if wanted is float and not isfinite(made) else made
    if wanted is str:
        return _as_text(value)
    if wanted is int and isinstance(value, float) and isfinite(value):
        return int(value)
    return LOST


def _list_reader(item: _Reader, wanted: Any) -> _Reader:
    members = typing.get_args(*typing.get_args(wanted))
    is_of_objects = any(
        isinstance(one, type) and issubclass(one, msgspec.Struct) for one in (*typing.get_args(wanted), *members)
    )
    text = next((one for one in members if "text" in getattr(one, "__struct_fields__", ())), None)

    def read_list(value: Any, place: Place | None) -> Any:
        if isinstance(value, str) and text is not None:
            # A text where the API promises a list of parts.
            return [text(text=value)]
        if value and isinstance(value, dict) and is_of_objects:
            # One object where the API promises a list of them.
            value, place = [value], None
        if not isinstance(value, list):
            return _read_value(wanted, value, place)
        if place is None:
            found = [item(one, None) for one in value]
        else:
            found = [item(one, (*place, number)) for number, one in enumerate(value)]
        return [one for one in found if one is not LOST]

    return read_list


def _read_struct(wanted: type[msgspec.Struct], value: Any, place: Place | None) -> Any:
    fields = fields_of(wanted)
    if not isinstance(value, dict):
        if isinstance(value, str) and "message" in fields and str in fields["message"][2]:
            # An error that is a text where the API promises an object.
            return wanted(message=value)
        return LOST
    found: dict[str, Any] = {}
    more: list[str] = []
    for key, item in value.items():
        field = fields.get(key)
        if field is None:
            more.append(key)
        elif type(item) in field[2]:
            found[field[0]] = item
        elif (fitted := field[1](item, place and (*place, key))) is not LOST:
            found[field[0]] = fitted
    made = wanted(**found)
    if isinstance(made, Placed):
        if place is not None:
            made.json_place = place
        tag = wanted.__struct_config__.tag_field
        if more:
            add_fields(made, {key: value[key] for key in more if key != tag})
    return made


def _union_reader(members: tuple[Any, ...]) -> _Reader:
    """Read a union by its tag where the members are tagged, else as the first member that fits."""
    rest = [member for member in members if member is not type(None)]
    takes_none = len(rest) < len(members)
    tags = tagged(members)
    readers = [_reader(member) for member in rest]

    def read_union(value: Any, place: Place | None) -> Any:
        if value is None and takes_none:
            return None
        if tags and isinstance(value, dict):
            kind = value.get("type")
            if isinstance(kind, str) and kind in tags:
                return _read_struct(tags[kind], value, place)
            return Unknown(kind if isinstance(kind, str) else "", encode(value))
        for reader in readers:
            fitted = reader(value, place)
            if fitted is not LOST:
                return fitted
        return LOST

    return read_union


def tagged(members: tuple[Any, ...]) -> dict[Any, type[Any]]:
    """Return the structs of a union by their tags."""
    found: dict[Any, type[Any]] = {}
    for member in members:
        config = getattr(member, "__struct_config__", None)
        if config is not None and config.tag is not None:
            found[config.tag] = member
    return found


def _as_text(value: Any) -> Any:
    """Read text that was sent as a number, or as a list of texts or text parts."""
    if isinstance(value, bool):
        return LOST
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, list):
        parts = [part.get("text") if isinstance(part, Mapping) else part for part in value]
        texts = [text for text in parts if isinstance(text, str)]
        return "".join(texts) if texts else LOST
    if isinstance(value, dict):
        # Arguments, or an answer in JSON mode, that the server sent as an object instead of text.
        return encode(value).decode()
    return LOST
