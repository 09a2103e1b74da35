"""The strict JSON schema of a Python type, and the decoder of answers of that type.

``Format.schema`` stays within OpenAI's strict subset: every object is closed, every property is required, the root is
an object, and the keywords are ``type properties required additionalProperties items enum anyOf $ref $defs
description``. A constraint outside the subset is stated to the model in a ``description``, and msgspec enforces it in
``Format.decode``. A type outside the subset is a ``TypeError`` that names the field, raised before any request is sent.
Source: OpenAI, "Structured outputs: supported schemas" (developers.openai.com/api/docs/guides/structured-outputs).
OpenAI's base models also take ``format``, ``pattern``, ``minimum`` and the like; fine-tuned models and some
OpenAI-compatible servers refuse them. Types of pydantic go to
`pydantic_models`, which is loaded where pydantic is. It may import this package.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Any, Generic, NoReturn, Protocol, Self, TypeVar, overload

import msgspec
import msgspec.inspect as mi

from aimlasync.structured.numbers import WholeNumbers

__all__ = ["Format", "format_of"]

T = TypeVar("T")

_Object = mi.StructType | mi.TypedDictType | mi.DataclassType

_SCALARS: dict[type[mi.Type], tuple[str, str]] = {
    mi.NoneType: ("null", ""),
    mi.BoolType: ("boolean", ""),
    mi.IntType: ("integer", ""),
    mi.FloatType: ("number", ""),
    mi.StrType: ("string", ""),
    mi.BytesType: ("string", "encoding base64"),
    mi.ByteArrayType: ("string", "encoding base64"),
    mi.MemoryViewType: ("string", "encoding base64"),
    mi.DateTimeType: ("string", "format date-time"),
    mi.TimeType: ("string", "format time"),
    mi.DateType: ("string", "format date"),
    mi.TimeDeltaType: ("string", "format duration"),
    mi.UUIDType: ("string", "format uuid"),
    mi.DecimalType: ("string", "format decimal"),
}
_LIMITS = {
    "ge": "minimum {}",
    "gt": "more than {}",
    "le": "maximum {}",
    "lt": "less than {}",
    "multiple_of": "multiple of {}",
    "pattern": "pattern {}",
    "min_length": "at least {} {}",
    "max_length": "at most {} {}",
}
# The constraints among the keywords of Meta(extra_json_schema=...), which msgspec does not know and so cannot enforce.
_BY_HAND = re.compile(r"(min|max|exclusive)\w+|multipleOf|pattern|format|uniqueItems|enum|const")
_INSTEAD: dict[type[mi.Type], str] = {
    mi.DictType: "a list of key/value structs",
    mi.TupleType: "a struct, or tuple[X, ...]",
    mi.NamedTupleType: "a struct (a NamedTuple is a JSON array of mixed types)",
    mi.StructType: "a struct without array_like",
    mi.AnyType: "the exact type",
    mi.RawType: "the exact type",
}


class Decoder(Protocol):
    """Makes a value of the JSON of an answer."""

    def decode(self, text: str | bytes, /) -> Any:
        """Return the value. Raises msgspec.DecodeError."""


@dataclass(frozen=True, slots=True, eq=False)
class Format(Generic[T]):
    """One type's strict schema, as each endpoint takes it, and its decoder; it is shared: do not change ``schema``."""

    name: str
    schema: dict[str, Any]
    _decoder: Decoder
    _wrapped: bool

    def decode(self, text: str | bytes) -> T:
        """Return the answer as a ``T``.

        Raises ``msgspec.DecodeError`` for invalid JSON, its subclass ``ValidationError`` for JSON that is no ``T``.
        """
        answer = self._decoder.decode(text)
        value: T = answer.value if self._wrapped else answer
        return value

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def chat(self) -> dict[str, Any]:
        """Return the ``response_format`` of chat/completions."""
        return {"type": "json_schema", "json_schema": {"name": self.name, "schema": self.schema, "strict": True}}

    def responses(self) -> dict[str, Any]:
        """Return the ``text.format`` of responses."""
        return {"type": "json_schema", "name": self.name, "schema": self.schema, "strict": True}


@overload
def format_of(type: type[T]) -> Format[T]: ...
@overload
def format_of(type: Any) -> Format[Any]: ...
def format_of(type: Any) -> Format[Any]:
    """Return the ``Format`` of a type, built once per type. Raises ``TypeError`` for a type without a strict schema."""
    try:
        hash(type)
    except TypeError:  # e.g. Annotated[str, ["note"]]
        return _build(type)
    return _cached(type)


def _build(type: Any) -> Format[Any]:
    if "pydantic" in sys.modules:
        from aimlasync.structured.pydantic_models import is_pydantic, schema_and_decoder

        if is_pydantic(type):
            name, schema, decoder = schema_and_decoder(type)
            return Format(_slug(name), schema, decoder, False)
    try:
        info = mi.type_info(type)
    except TypeError as error:
        if isinstance(type, (str, Mapping, Sequence)):
            what = f"{type!r} is no type; give one, such as a Struct, a dataclass or list[str]"
            raise TypeError(f"{what} (a format that is written as a dict goes to create)") from None
        raise error
    except NameError as error:
        what = f"{getattr(type, '__name__', type)}: a type hint cannot be resolved: {error}"
        raise TypeError(f"{what}; define it at the top of the module") from None
    schema, wrapped = _Walk().root(info)
    target = msgspec.defstruct("Wrapped", [("value", type)]) if wrapped else type
    return Format(_slug(_show(info)), schema, WholeNumbers(target), wrapped)


# A bounded cache instead of a weak one: `list[Ticket]` is a new object at every call site, so a weak key would be
# collected before its first hit.
_cached = lru_cache(maxsize=256)(_build)


class _Walk:
    def __init__(self) -> None:
        self.names: dict[Any, str] = {}
        self.defs: dict[str, dict[str, Any]] = {}
        self.open: frozenset[Any] = frozenset()

    def root(self, info: mi.Type) -> tuple[dict[str, Any], bool]:
        t, text, said = _peel(info)
        wrapped = not isinstance(t, _Object)
        if isinstance(t, _Object):
            schema = _described(self.object(t, _show(t)), text or _doc(t.cls), said)
        else:
            schema = _closed({"value": self.schema(info, _show(t))})
        if self.defs:
            schema["$defs"] = self.defs
        return schema, wrapped

    def schema(self, info: mi.Type, path: str) -> dict[str, Any]:
        t, text, said = _peel(info)
        unit = "characters"
        out: dict[str, Any]
        if isinstance(t, _Object):
            # A $ref may have no siblings, so a field with a description inlines the object; inside itself the object
            # can only be a bare $ref.
            if t.cls in self.open or not (text or said):
                return {"$ref": f"#/$defs/{self.define(t, path)}"}
            out = self.object(t, path)
        elif isinstance(t, mi.EnumType):
            out, text = _choice(member.value for member in t.cls), text or _doc(t.cls)
        elif isinstance(t, mi.LiteralType):
            out = _choice(t.values)
        elif isinstance(t, mi.UnionType):
            out = {"anyOf": [self.schema(member, path) for member in t.types]}
        elif isinstance(t, mi.CollectionType):
            out, unit = {"type": "array", "items": self.schema(t.item_type, f"{path}[]")}, "items"
            if isinstance(t, mi.SetType | mi.FrozenSetType):
                said.append("unique items")
        elif type(t) in _SCALARS:
            kind, form = _SCALARS[type(t)]
            out, unit = {"type": kind}, "bytes" if "base64" in form else unit
            said += [form] if form else []
        else:
            _refuse(t, path)
        limits = ((phrase, getattr(t, name, None)) for name, phrase in _LIMITS.items())
        said += [phrase.format(limit, unit) for phrase, limit in limits if limit is not None]
        if (tz := getattr(t, "tz", None)) is not None:
            said.append("with UTC offset" if tz else "without UTC offset")
        return _described(out, text, said)

    def define(self, t: _Object, path: str) -> str:
        if t.cls not in self.names:
            base = _slug(_show(t))
            spellings = (base if n == 1 else f"{base}_{n}" for n in count(1))
            # It is named before its fields are walked, since they may refer to it.
            name = self.names[t.cls] = next(new for new in spellings if new not in self.names.values())
            self.defs[name] = _described(self.object(t, path), _doc(t.cls), [])
        return self.names[t.cls]

    def object(self, t: _Object, path: str) -> dict[str, Any]:
        properties: dict[str, Any] = {}
        if isinstance(t, mi.StructType):
            if t.array_like:
                _refuse(t, path)
            if t.tag_field is not None:
                properties[t.tag_field] = _choice([t.tag])
        outer, self.open = self.open, self.open | {t.cls}
        for field in _in_order(t):
            properties[field.encode_name] = self.schema(field.type, f"{path}.{field.name}")
        self.open = outer
        return _closed(properties)


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _in_order(t: _Object) -> Iterable[mi.Field]:
    # The model writes properties in the schema's order, so the declared order must stay ("reasoning" before "answer").
    # msgspec.inspect sorts a TypedDict by name and moves a dataclass's defaults to the end.
    origin = getattr(t.cls, "__origin__", t.cls)
    attribute = {mi.TypedDictType: "__annotations__", mi.DataclassType: "__dataclass_fields__"}.get(type(t), "")
    order = {name: n for n, name in enumerate(getattr(origin, attribute, ()))}
    return sorted(t.fields, key=lambda field: order.get(field.name, 0))


def _choice(values: Iterable[Any]) -> dict[str, Any]:
    kinds: dict[str, list[Any]] = {}
    words = {str: "string", int: "integer", bool: "boolean", type(None): "null"}
    for value in values:
        kinds.setdefault(words[type(value)], []).append(value)
    parts = [{"type": kind} if kind == "null" else {"type": kind, "enum": some} for kind, some in kinds.items()]
    return parts[0] if len(parts) == 1 else {"anyOf": parts}


def _peel(t: mi.Type) -> tuple[mi.Type, str, list[str]]:
    """Return the type without its metadata, the user's description, and the constraints that the user wrote by hand."""
    extra: dict[str, Any] = {}
    while isinstance(t, mi.Metadata):
        extra = {**(t.extra_json_schema or {}), **extra}
        t = t.type
    said = [f"{key} {value}" for key, value in extra.items() if _BY_HAND.fullmatch(key)]
    return t, extra.get("description", ""), said


def _described(schema: dict[str, Any], text: str, said: list[str]) -> dict[str, Any]:
    note = "; ".join(said)
    if text or note:
        schema["description"] = f"{text} ({note})" if text and note else text or note
    return schema


def _doc(cls: Any) -> str:
    cls = getattr(cls, "__origin__", cls)
    doc = inspect.cleandoc(cls.__doc__ or "")
    # Without a docstring, a dataclass gets its signature; Struct, TypedDict and Enum get None.
    return "" if doc.startswith(f"{cls.__name__}(") and doc.endswith(")") else doc


def _refuse(t: mi.Type, path: str) -> NoReturn:
    shown, instead = _show(t), _INSTEAD.get(type(t), "a struct, an enum, a list or a scalar")
    where = "" if path == shown else f"{path}: "
    raise TypeError(f"{where}{shown} has no strict JSON schema; use {instead}")


def _show(t: Any) -> str:
    if isinstance(t, mi.Metadata):
        return _show(t.type)
    if hasattr(t, "cls"):
        args = ", ".join(getattr(arg, "__name__", str(arg)) for arg in getattr(t.cls, "__args__", ()))
        origin = getattr(t.cls, "__origin__", t.cls)
        name: str = getattr(origin, "__name__", str(origin))
        return f"{name}[{args}]" if args else name
    word = type(t).__name__.removesuffix("Type")
    if isinstance(t, mi.DictType):
        return f"dict[{_show(t.key_type)}, {_show(t.value_type)}]"
    if isinstance(t, mi.CollectionType):
        item = _show(t.item_type)
        return f"tuple[{item}, ...]" if isinstance(t, mi.VarTupleType) else f"{word.lower()}[{item}]"
    if isinstance(t, mi.TupleType):
        return f"tuple[{', '.join(map(_show, t.item_types)) or '()'}]"
    if isinstance(t, mi.UnionType):
        return " | ".join(map(_show, t.types))
    return word if word in ("None", "Any", "Raw") else word.lower()


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_")[:64] or "answer"
