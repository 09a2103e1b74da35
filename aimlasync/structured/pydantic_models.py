"""Strict JSON schemas and decoders of pydantic's models (version 2), which pydantic itself makes.

Imported only where the user's program has imported pydantic, so that nobody else needs it. Its schema is brought within
the strict subset that `schema` describes: a constraint outside of it is stated to the model in a description, and
pydantic enforces it when the answer is there. It may import the package's `schema`.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Generic, NoReturn, TypeVar

import msgspec
import pydantic
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.errors import PydanticUserError

from aimlasync.structured.numbers import TOO_DEEP

T = TypeVar("T")

_MARKS = ("__get_pydantic_core_schema__", "__pydantic_core_schema__")
_MODULES = ("pydantic", "annotated_types")

# Keywords of pydantic's schemas that the strict subset lacks -> how they are told to the model.
_SAID = {
    "minimum": "minimum {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "maximum {}",
    "exclusiveMaximum": "less than {}",
    "multipleOf": "multiple of {}",
    "pattern": "pattern {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "uniqueItems": "unique items",
    "format": "format {}",
    "contentEncoding": "encoding {}",
}
_WORDS = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


def is_pydantic(type_: Any) -> bool:
    """Whether a type is, or has in it, a model, a type or a field's constraint of pydantic."""
    return _is_pydantic(type_, set())


def _is_pydantic(type_: Any, seen: set[int]) -> bool:
    if id(type_) in seen:
        return False
    seen.add(id(type_))
    if isinstance(type_, type) and any(hasattr(type_, mark) for mark in _MARKS):
        # A struct may tell pydantic of itself, as those of a reply do.
        return not issubclass(type_, msgspec.Struct)
    if typing.get_origin(type_) is Annotated:
        of_pydantic = (type(each).__module__.partition(".")[0] in _MODULES for each in type_.__metadata__)
        return any(of_pydantic) or _is_pydantic(type_.__origin__, seen)
    # An alias (`type X = ...`) says nothing of what it stands for.
    parts = [*typing.get_args(type_), getattr(type_, "__value__", None)]
    # A TypedDict of typing_extensions is none for `typing`.
    if dataclasses.is_dataclass(type_) or hasattr(type_, "__total__"):
        try:
            parts += typing.get_type_hints(type_, include_extras=True).values()
        except (NameError, TypeError):
            return False
    return any(_is_pydantic(part, seen) for part in parts)


class Decoder(Generic[T]):
    """Decodes and validates the JSON of a type; `wrapped` is JSON that has it in its member `value`."""

    def __init__(self, adapter: TypeAdapter[T], *, wrapped: bool) -> None:
        self._adapter = adapter
        self._wrapped = wrapped

    def decode(self, text: str | bytes) -> T:
        """Return the value. Raises msgspec.DecodeError."""
        try:
            return self._adapter.validate_json(bytes(_wrapper.decode(text).value) if self._wrapped else text)
        except RecursionError:
            said = TOO_DEEP
        except pydantic.ValidationError as error:
            said = "; ".join(map(_problem, error.errors(include_url=False, include_input=False)[:3]))
        raise msgspec.ValidationError(said)


class _Wrapped(msgspec.Struct):
    value: msgspec.Raw


_wrapper = msgspec.json.Decoder(_Wrapped)


def _problem(error: Any) -> str:
    place = ".".join(map(str, error["loc"]))
    return f"{error['msg']} - at `{place}`" if place else str(error["msg"])


def schema_and_decoder(type_: Any) -> tuple[str, dict[str, Any], Decoder[Any]]:
    """Return (name, strict schema, decoder) of a type; the schema of what is no object has it in its member `value`.

    Raises TypeError, naming the field, for a type that strict JSON schema cannot express.
    """
    adapter, schema = _described(type_)
    name = getattr(type_, "__name__", None) or "answer"
    strict = _Strict(schema.pop("$defs", {}), name)
    root = strict.root(schema)
    wrapped = root.get("type") != "object"
    if wrapped:
        root = _closed({"value": root})
    if strict.defs:
        root["$defs"] = strict.defs
    return name, root, Decoder(adapter, wrapped=wrapped)


def _described(type_: Any) -> tuple[TypeAdapter[Any], dict[str, Any]]:
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(type_)
        return adapter, adapter.json_schema()
    except PydanticUserError as error:
        problem = str(error).partition("\n")[0]
    raise TypeError(f"{getattr(type_, '__name__', type_)} has no JSON schema: {problem}")


class Arguments:
    """The parameters of a function as a model of pydantic: a schema, and a decoder of the arguments.

    `fields` are (name, type hint, whether it must be given).
    """

    def __init__(self, name: str, fields: Iterable[tuple[str, Any, bool]]) -> None:
        # Fields have names of their own, since a model takes none that begin with an underscore or are its methods'.
        self._names: dict[str, str] = {}
        made: dict[str, Any] = {}
        for number, (parameter, hint, required) in enumerate(fields):
            self._names[f"p{number}"] = parameter
            made[f"p{number}"] = (_hint(hint), ... if required else None)
        config = ConfigDict(extra="forbid", alias_generator=self._names.__getitem__)
        self._model: type[BaseModel] = pydantic.create_model(name, __config__=config, **made)

    def strict(self) -> dict[str, Any]:
        """Return the strict schema. Raises TypeError, naming the parameter."""
        return schema_and_decoder(self._model)[1]

    def loose(self) -> dict[str, Any]:
        """Return pydantic's own schema. Raises TypeError for a type that has none."""
        schema = _described(self._model)[1]
        schema.pop("title", None)
        return schema

    def decode(self, text: str) -> dict[str, Any]:
        """Return the arguments that are given. Raises msgspec.ValidationError."""
        try:
            read = self._model.model_validate_json(text)
        except pydantic.ValidationError as error:
            said = "; ".join(map(_problem, error.errors(include_url=False, include_input=False)[:3]))
        else:
            return {name: getattr(read, field) for field, name in self._names.items() if field in read.model_fields_set}
        raise msgspec.ValidationError(said)


def _hint(hint: Any) -> Any:
    """Return a type hint whose description by msgspec is one by pydantic."""
    if typing.get_origin(hint) is not Annotated:
        return hint
    metas = [
        Field(description=each.description) if isinstance(each, msgspec.Meta) else each for each in hint.__metadata__
    ]
    result = hint.__origin__
    for meta in metas:
        result = Annotated[result, meta]
    return result


class _Strict:
    """Makes one schema strict. Mutable: the definitions that are made, and those that are being made."""

    def __init__(self, given: Mapping[str, Any], name: str) -> None:
        self._given = given
        self._name = name
        self.defs: dict[str, Any] = {}
        self._open: list[str] = []

    def root(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return the schema of the type itself, which may be no reference."""
        if (name := self._referred(schema)) is None:
            return self._node(schema, self._name)
        self._open.append(name)
        whole = self._node(self._given[name], self._name)
        self._open.pop()
        return whole

    def _referred(self, schema: Mapping[str, Any]) -> str | None:
        reference = schema.get("$ref")
        if isinstance(reference, str):
            return reference.rpartition("/")[2]
        # Older versions of pydantic write a reference that has siblings so.
        one = schema.get("allOf")
        return self._referred(one[0]) if isinstance(one, list) and len(one) == 1 else None

    def _reference(self, name: str, schema: Mapping[str, Any], path: str) -> dict[str, Any]:
        # A $ref may have no siblings, so that a field with a description has the object itself; inside itself an
        # object can only be a bare $ref.
        text = schema.get("description")
        if text and name not in self._open:
            self._open.append(name)
            whole = self._node({**self._given[name], "description": text}, path)
            self._open.pop()
            return whole
        if name not in self.defs:
            # It is named before its fields are walked, since they may refer to it.
            self.defs[name] = {}
            self._open.append(name)
            self.defs[name] = self._node(self._given[name], path)
            self._open.pop()
        return {"$ref": f"#/$defs/{name}"}

    def _node(self, schema: Any, path: str) -> dict[str, Any]:
        if not isinstance(schema, dict):
            _refuse(path, "a schema of its own")
        if (name := self._referred(schema)) is not None:
            return self._reference(name, schema, path)
        kind = schema.get("type")
        members = schema.get("anyOf") or schema.get("oneOf")
        out: dict[str, Any]
        if members:
            out = {"anyOf": [self._node(member, path) for member in members]}
        elif "const" in schema:
            out = _choice([schema["const"]])
        elif "enum" in schema:
            out = _choice(schema["enum"])
        elif kind == "object":
            if "properties" not in schema and schema.get("additionalProperties", True) is not False:
                _refuse(path, "a dict", "a list of key/value models")
            properties = schema.get("properties", {})
            out = _closed({key: self._node(part, f"{path}.{key}") for key, part in properties.items()})
        elif kind == "array":
            if "prefixItems" in schema or not schema.get("items"):
                _refuse(path, "a tuple, or a list of anything", "a model, or list[X]")
            out = {"type": "array", "items": self._node(schema["items"], f"{path}[]")}
        elif kind is None:
            _refuse(path, "any type", "the exact type")
        else:
            out = {"type": kind}
        said = [phrase.format(schema[name]) for name, phrase in _SAID.items() if schema.get(name) not in (None, False)]
        text, note = schema.get("description", ""), "; ".join(said)
        if text or note:
            out["description"] = f"{text} ({note})" if text and note else text or note
        return out


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _choice(values: Iterable[Any]) -> dict[str, Any]:
    kinds: dict[str, list[Any]] = {}
    for value in values:
        kinds.setdefault(_WORDS.get(type(value), "string"), []).append(value)
    parts: list[dict[str, Any]] = [
        {"type": kind} if kind == "null" else {"type": kind, "enum": some} for kind, some in kinds.items()
    ]
    return parts[0] if len(parts) == 1 else {"anyOf": parts}


def _refuse(path: str, what: str, instead: str = "a model, an enum, a list or a scalar") -> NoReturn:
    raise TypeError(f"{path}: {what} has no strict JSON schema; use {instead}")
