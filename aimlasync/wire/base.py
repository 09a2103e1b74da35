"""What every wire struct shares: one encoder, a decode that never loses an answer to a side field, a lossless way back.

Law: bytes and values only, no I/O.
Decoding first tries the exact types, which is what well-behaved servers need and what is fast.
If that fails on a type, `repair` walks the plain value again and keeps every field that fits, so that `usage: null`, a
number in a code or a missing index cost a few microseconds and never the answer.
"""

from __future__ import annotations

import json
import re
import types
import typing
from codecs import BOM_UTF8
from collections.abc import Iterable, Mapping
from io import IOBase
from typing import Any, TypeVar, cast

import msgspec

from aimlasync.info import Info

S = TypeVar("S", bound=msgspec.Struct)


class Wire(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Base of the wire structs: fields that were not sent keep their default, and are not sent back."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts and lists of what is set."""
        return cast(dict[str, Any], msgspec.to_builtins(self, enc_hook=_plain))

    def to_json(self) -> str:
        """Return `to_dict` as JSON text."""
        return encode(self.to_dict()).decode()

    def model_dump(self, **_: Any) -> dict[str, Any]:
        """Return `to_dict()`, by the name that AsyncOpenAI's users know; options are accepted and ignored."""
        return self.to_dict()

    def model_dump_json(self, **_: Any) -> str:
        """Return `to_json()`, by the name that AsyncOpenAI's users know; options are accepted and ignored."""
        return self.to_json()


class Received(Wire, dict=True):
    """A struct that keeps the bytes it was decoded from, so that nothing the server sent is lost."""

    @property
    def raw(self) -> bytes:
        """The JSON bytes as received; empty for a reply that was assembled from a stream."""
        return cast(bytes, self.__dict__.get("raw", b""))

    def to_dict(self) -> dict[str, Any]:
        """Return what the server sent, unknown fields included; for an assembled reply, what is set."""
        raw = self.raw
        return cast(dict[str, Any], plain(raw)) if raw else super().to_dict()


class Reply(Received):
    """A whole answer of one call."""

    @property
    def info(self) -> Info:
        """Endpoint, attempts, status, ids, cost and timing of the call."""
        return cast(Info, self.__dict__.get("info") or Info())


class MetaUsage(Wire):
    """Money spent by one call (AI/ML API, `meta.usage`)."""

    credits_used: float | None = None
    usd_spent: float | None = None


class Meta(Wire):
    """AI/ML API's own block at the end of a body or stream."""

    usage: MetaUsage | None = None


class Unknown:
    """An item, part or event of a type that this version does not know, kept as it came."""

    __slots__ = ("raw", "type")

    def __init__(self, type: str, raw: bytes) -> None:
        self.type = type
        self.raw = raw

    def to_dict(self) -> dict[str, Any]:
        """Return the object as the server sent it."""
        return cast(dict[str, Any], plain(self.raw))

    def __repr__(self) -> str:
        return f"Unknown(type={self.type!r}, raw={self.raw!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unknown) and (self.type, self.raw) == (other.type, other.raw)

    def __hash__(self) -> int:
        return hash((self.type, self.raw))


def _plain(value: Any) -> Any:
    """Turn what msgspec does not know into plain values: our Unknown, pydantic models, iterables such as generators."""
    if isinstance(value, Unknown):
        return value.to_dict()
    if isinstance(value, Mapping):
        return dict(value)
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        return dump(mode="json", exclude_unset=True)
    if isinstance(value, Iterable) and not isinstance(value, (IOBase, type)):
        return list(value)
    raise TypeError(f"cannot send a {type(value).__module__}.{type(value).__qualname__} as JSON")


_encoder = msgspec.json.Encoder(enc_hook=_plain)
encode = _encoder.encode
"""Encode any request or struct to JSON bytes."""


def decode(raw: bytes, decoder: msgspec.json.Decoder[S], target: type[S]) -> S:
    """Decode `raw` exactly, or tolerantly where a type does not fit.

    Raises msgspec.DecodeError for bytes that are no JSON, msgspec.ValidationError for JSON that is no object.
    """
    try:
        return decoder.decode(raw)
    except (ValueError, RecursionError):
        # msgspec's errors are ValueErrors, and so are those of invalid UTF-8.
        pass
    if raw.startswith(BOM_UTF8):
        return decode(raw[len(BOM_UTF8) :], decoder, target)
    value = plain(raw)
    if not isinstance(value, dict):
        raise msgspec.ValidationError(f"expected an object, got {type(value).__name__}")
    return cast(S, _struct(value, target))


_HALF = re.compile("[\ud800-\udfff]")


def plain(raw: bytes) -> Any:
    """Read JSON, also what msgspec refuses and servers send: NaN, Infinity, 1e999, half a surrogate pair, bad UTF-8, a
    byte order mark.

    Numbers of no value become null, characters of no value U+FFFD. Raises msgspec.DecodeError for what is no JSON.
    """
    try:
        return msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        pass
    try:
        value = json.loads(raw.decode("utf-8-sig", "replace"), parse_constant=lambda _: None, parse_float=_finite)
        return msgspec.json.decode(_HALF.sub("\ufffd", json.dumps(value, ensure_ascii=False)))
    except (ValueError, RecursionError) as error:
        problem = str(error)
    raise msgspec.DecodeError(problem)


def _finite(text: str) -> float | None:
    value = float(text)
    return value if abs(value) != float("inf") else None


# Marks a value that no reading fits: the field keeps its default.
_LOST: Any = object()


def repair(value: Any, wanted: Any) -> Any:
    """Read `value` as type `wanted`, losing only what does not fit; `_LOST` when nothing of it does."""
    try:
        return msgspec.convert(value, wanted, strict=False)
    except msgspec.ValidationError:
        pass
    origin = typing.get_origin(wanted)
    if origin in (typing.Union, types.UnionType):
        return _union(value, typing.get_args(wanted))
    if origin is list and isinstance(value, list):
        (item,) = typing.get_args(wanted)
        return [fitted for fitted in (repair(v, item) for v in value) if fitted is not _LOST]
    if isinstance(wanted, type) and issubclass(wanted, msgspec.Struct):
        if isinstance(value, dict):
            return _struct(value, wanted)
        if isinstance(value, str) and "message" in wanted.__struct_fields__:
            # An error that is a text where an object was promised.
            return wanted(message=value)
    if wanted is str:
        return _as_text(value)
    if wanted is int and isinstance(value, float) and value == value and abs(value) != float("inf"):
        return int(value)
    return _LOST


def _struct(value: dict[str, Any], wanted: type[msgspec.Struct]) -> msgspec.Struct:
    fields = {}
    for field in msgspec.structs.fields(wanted):
        if field.encode_name in value:
            fitted = repair(value[field.encode_name], field.type)
            if fitted is not _LOST:
                fields[field.name] = fitted
    return wanted(**fields)


def _union(value: Any, members: tuple[Any, ...]) -> Any:
    """Read a union: by its tag where the members are tagged, else by the first member that holds something."""
    tagged: dict[Any, type[msgspec.Struct]] = {}
    for member in members:
        config = getattr(member, "__struct_config__", None)
        if config is not None and config.tag is not None:
            tagged[config.tag] = member
    if tagged and isinstance(value, dict):
        kind = value.get("type")
        if isinstance(kind, str) and kind in tagged:
            return _struct(value, tagged[kind])
        return Unknown(kind if isinstance(kind, str) else "", encode(value))
    for member in members:
        if member is not type(None):
            fitted = repair(value, member)
            if fitted is not _LOST:
                return fitted
    return _LOST


def _as_text(value: Any) -> Any:
    """Read text that was sent as a number, or as a list of text parts."""
    if isinstance(value, bool):
        return _LOST
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, list):
        parts = [part.get("text") for part in value if isinstance(part, Mapping)]
        texts = [text for text in parts if isinstance(text, str)]
        return "".join(texts) if texts else _LOST
    if isinstance(value, dict):
        # Arguments, or an answer in JSON mode, that a server did not write as text.
        return encode(value).decode()
    return _LOST
