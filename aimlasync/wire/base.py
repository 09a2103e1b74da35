"""The base of all wire structs: one encoder, a tolerant decoder, and a lossless way back to JSON.

`decode` first tries the exact types, which is fast and enough for well-behaved servers. If a type does not fit,
`repair` walks the plain value and keeps every field that fits. So `usage: null`, a number in a code or a missing index
costs a few microseconds and never the answer. It works on bytes and values, without I/O. It may import `info`.
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
    """Base of the wire structs. A field that was not sent has its default, and a default is not encoded."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts and lists of the fields that are set."""
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
    """A struct that keeps the bytes that it was decoded from, unknown fields included."""

    @property
    def raw(self) -> bytes:
        """The JSON bytes as received; empty for a reply that was assembled from a stream."""
        return cast(bytes, self.__dict__.get("raw", b""))

    def to_dict(self) -> dict[str, Any]:
        """Return what the server sent, unknown fields included; for an assembled reply, the fields that are set."""
        raw = self.raw
        return cast(dict[str, Any], plain(raw)) if raw else super().to_dict()


class Reply(Received):
    """A whole reply of one call."""

    @property
    def info(self) -> Info:
        """Endpoint, attempts, status, ids, cost and timing of the call."""
        return cast(Info, self.__dict__.get("info") or Info())


class MetaUsage(Wire):
    """Money spent by one call (AI/ML API, `meta.usage`)."""

    credits_used: float | None = None
    usd_spent: float | None = None
    tokens_used: float | None = None
    """In replies of 2025: the credits, whatever its name says."""


class Meta(Wire):
    """AI/ML API's own block at the end of a body or stream."""

    usage: MetaUsage | None = None


class Unknown:
    """An item, part or event of an unknown `type`, kept as the server sent it."""

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
    """Convert values that msgspec cannot encode: `Unknown`, mappings, pydantic models, iterables such as generators."""
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
    """Decode `raw` by the exact types, or tolerantly where a type does not fit.

    Raises msgspec.DecodeError for invalid JSON, msgspec.ValidationError for JSON that is no object.
    """
    try:
        return decoder.decode(raw)
    except (ValueError, RecursionError):
        # The errors of msgspec are ValueErrors, as are those of invalid UTF-8.
        pass
    if raw.startswith(BOM_UTF8):
        return decode(raw[len(BOM_UTF8) :], decoder, target)
    value = plain(raw)
    if not isinstance(value, dict):
        raise msgspec.ValidationError(f"expected an object, got {type(value).__name__}")
    return cast(S, _struct(value, target))


_HALF = re.compile("[\ud800-\udfff]")


def plain(raw: bytes) -> Any:
    """Read JSON, including the invalid JSON that servers send.

    NaN, Infinity and 1e999 become null; invalid UTF-8 and half a surrogate pair become U+FFFD; a byte order mark is
    skipped; UTF-16 and UTF-32 are told by their first bytes. Raises msgspec.DecodeError for anything else that is no
    JSON.
    """
    try:
        return msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        pass
    try:
        value = json.loads(
            raw.decode(json.detect_encoding(raw), "replace"), parse_constant=lambda _: None, parse_float=_finite
        )
        return msgspec.json.decode(_HALF.sub("\ufffd", json.dumps(value, ensure_ascii=False)))
    except (ValueError, RecursionError) as error:
        problem = str(error)
    raise msgspec.DecodeError(problem)


def _finite(text: str) -> float | None:
    value = float(text)
    return value if abs(value) != float("inf") else None


# The result of `repair` for a value that cannot be read as the type; the field keeps its default.
_LOST: Any = object()


def repair(value: Any, wanted: Any) -> Any:
    """Return `value` as type `wanted`, without the parts that do not fit; `_LOST` when nothing fits."""
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
            # An error that is a text where the API promises an object.
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
    """Read a union by its tag where the members are tagged, else as the first member that fits."""
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
        # Arguments, or an answer in JSON mode, that the server sent as an object instead of text.
        return encode(value).decode()
    return _LOST
