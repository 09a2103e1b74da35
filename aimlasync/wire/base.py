"""The base of all wire structs: a lossless way from JSON and back to it.

A struct of a reply keeps what it does not declare. Its unknown fields are attributes, and `to_dict` returns what the
server sent, with what the caller changed since. It works on bytes and values, without I/O. It may import `info` and
the `wire` modules of reading and writing JSON.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self, cast, overload

import msgspec

from aimlasync.info import Info
from aimlasync.wire.as_sent import as_sent, beside
from aimlasync.wire.json_text import encode, plain, plain_value
from aimlasync.wire.objects import Json, Object, Unknown
from aimlasync.wire.pydantic_names import PydanticNames
from aimlasync.wire.reading import Place, Placed, decode, read, repair

__all__ = ["Json", "Meta", "MetaUsage", "Object", "Open", "Received", "Reply", "Unknown", "UsageExtras", "Wire"]
__all__ += ["decode", "encode", "plain", "read", "repair"]


class Wire(PydanticNames, msgspec.Struct, kw_only=True, omit_defaults=True):
    """Base of the wire structs. A field that was not sent has its default, and a default is not encoded."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts and lists of the fields that are set."""
        return cast(dict[str, Any], msgspec.to_builtins(self, enc_hook=plain_value))

    @property
    def model_extra(self) -> dict[str, Any]:
        """What was sent beside the fields of AsyncOpenAI's model."""
        from aimlasync.wire.dumped import extra

        return extra(self)

    @property
    def model_fields_set(self) -> set[str]:
        """The names of the fields that were sent or set."""
        return set(self.to_dict())

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy, a deep one on request, with other values for the fields in `update`."""
        made = copy.deepcopy(self) if deep else copy.copy(self)
        for name, value in (update or {}).items():
            setattr(made, name, value)
        return made

    json = PydanticNames.model_dump_json
    copy = model_copy


# In the class, the name would stand for the method in every annotation.
setattr(Wire, "dict", PydanticNames.model_dump)  # noqa: B010


class Open(Placed, Wire, dict=True, forbid_unknown_fields=True):
    """Base of the structs of a reply: what the server sent besides the declared fields is read by attribute too.

    A decoder of msgspec refuses what it would lose; `from_json`, and the functions `decode_...`, take everything.
    """

    DERIVED: ClassVar[frozenset[str]] = frozenset()
    """Fields that are computed where the server leaves them out; `to_dict` then does too."""

    def to_dict(self) -> dict[str, Any]:
        """Return what the server sent, at any depth, with what was changed since; otherwise the fields that are set."""
        return as_sent(self)

    @classmethod
    def from_json(cls, data: bytes | str) -> Self:
        """Return what `to_json` saved. Raises msgspec.DecodeError for data that is no JSON object."""
        made = cast(Self, read(data.encode() if isinstance(data, str) else bytes(data), cls))
        made.settle()
        return made

    @classmethod
    def model_validate(cls, obj: Any, **_: Any) -> Self:
        """Return `obj` if it is one, else the struct of an object of JSON. Raises ValueError for anything else."""
        if isinstance(obj, cls):
            return obj
        if not isinstance(obj, Mapping):
            raise ValueError(f"{cls.__name__} is made of a JSON object, not of a {type(obj).__name__}")
        return cls.from_json(encode(obj))

    @classmethod
    def model_validate_json(cls, json_data: bytes | str, **_: Any) -> Self:
        """Return what `to_json` or `model_dump_json` saved. Raises ValueError for data that is no JSON object."""
        return cls.from_json(json_data)

    @classmethod
    def parse_obj(cls, obj: Any) -> Self:
        """Return what `model_validate` returns."""
        return cls.model_validate(obj)

    @classmethod
    def model_construct(cls, _fields_set: set[str] | None = None, /, **values: Any) -> Self:
        """Return the struct of these fields, whose values may be dicts."""
        return cls.from_json(encode(values))

    @classmethod
    def construct(cls, _fields_set: set[str] | None = None, /, **values: Any) -> Self:
        """Return what `model_construct` returns."""
        return cls.model_construct(**values)

    @classmethod
    def parse_raw(cls, b: str | bytes) -> Self:
        """Return what `model_validate_json` returns."""
        return cls.model_validate_json(b)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from aimlasync.wire.pydantic_fields import schema_of

        return schema_of(cls)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> Any:
        return {"type": "object", "title": cls.__name__}

    def settle(self) -> None:
        """Compute what a server may leave out, after the fields were read."""

    def __iter__(self) -> Iterator[Any]:
        """Iterate the pairs of `to_dict`, so that `dict(reply)` and FastAPI's encoder see every field."""
        return iter(self.to_dict().items())

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return msgspec.Struct.__eq__(self, other) and beside(self) == beside(other)

    def __repr__(self) -> str:
        # Most fields are those of one vendor, and None at all others.
        known = {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not None}
        fields = known | beside(self)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in fields.items())})"

    def __reduce__(self) -> tuple[Any, ...]:
        values = tuple(getattr(self, name) for name in self.__struct_fields__)
        return _rebuilt, (type(self), values, getattr(self, "json_place", None), dict(self.__dict__))

    def __copy__(self) -> Self:
        make, arguments = self.__reduce__()
        return cast(Self, make(*arguments))


def _rebuilt(kind: type[Open], values: tuple[Any, ...], sent: bytes | Place | None, more: dict[str, Any]) -> Open:
    made = kind(**dict(zip(kind.__struct_fields__, values, strict=True)))
    if sent is not None:
        made.json_place = sent
    made.__dict__.update(more)
    return made


class Received(Open):
    """A struct that was decoded from bytes of its own: a reply, a chunk or an event."""

    @property
    def raw(self) -> bytes:
        """The JSON bytes as received; empty for a reply that was assembled from a stream."""
        sent = getattr(self, "json_place", b"")
        if type(sent) is bytes:
            return sent
        return cast(bytes, sent[0]) if len(sent) == 1 else b""


class _InfoOfNoCall:
    """The info of a reply that came of no call. That of a call is in `__dict__`, where it is found before this."""

    @overload
    def __get__(self, reply: None, owner: Any) -> Self: ...
    @overload
    def __get__(self, reply: object, owner: Any) -> Info: ...
    def __get__(self, reply: object, owner: Any) -> Self | Info:
        return self if reply is None else Info()


class Reply(Received):
    """A whole reply of one call."""

    @property
    def is_exact(self) -> bool:
        """Whether the bytes in `raw` are valid JSON of nothing but declared fields with their exact types."""
        return type(getattr(self, "json_place", None)) is bytes

    info = _InfoOfNoCall()
    """Endpoint, attempts, status, ids, cost and timing of the call."""

    @property
    def _request_id(self) -> str | None:
        """The server's id of the request, by the name that AsyncOpenAI's users know."""
        return self.info.server_request_id


class MetaUsage(Open):
    """Money spent by one call (AI/ML API, `meta.usage`)."""

    credits_used: float | None = None
    usd_spent: float | None = None
    tokens_used: float | None = None
    """In replies of 2025: the credits, whatever its name says."""


class Meta(Open):
    """AI/ML API's own block at the end of a body or stream."""

    usage: MetaUsage | None = None


class UsageExtras(Open):
    """What some servers add to the `usage` of either endpoint; `cost.tokens` says what it means."""

    cost: Json = None
    """US dollars, or an object of them (OpenRouter, Perplexity and others)."""
    cost_details: Json = None
    is_byok: Json = None
    """Whether the call went over the user's own key for the model; `cost` is then the gateway's fee (OpenRouter)."""
    estimated_cost: Json = None
    """US dollars (DeepInfra)."""
    cost_in_usd_ticks: Json = None
    """Ten-billionths of a US dollar (xAI)."""
    cost_usd: Json = None
    """US dollars, where `cost` is not stated; so is `cost_usd_total`."""
    cost_usd_total: Json = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    prompt_cache_hit_tokens: int | None = None
    prompt_cache_miss_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation: Json = None
