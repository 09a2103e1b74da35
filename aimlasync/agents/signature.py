"""The signature of a tool's function: the JSON schema of its parameters, and the decoder of their values.

Both are made once. A strict schema requires every property; so a parameter with a default may be null there, and null
stands for the default. It may import `context`, the package's `structured` and `wire`.
"""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from collections.abc import Callable
from typing import Annotated, Any, Protocol

import msgspec
import msgspec.inspect as mi

from aimlasync.agents.context import RunContext
from aimlasync.structured.numbers import WholeNumbers
from aimlasync.structured.schema import format_of
from aimlasync.wire.base import encode


class Signature:
    """The parameters of a function, from which both schema and decoder are made.

    `bare` is the function without what functools.partial binds. Raises TypeError, naming the parameter, for a signature
    that has no schema.
    """

    def __init__(self, function: Callable[..., Any], bare: Callable[..., Any], name: str) -> None:
        try:
            target = bare if inspect.isroutine(bare) else type(bare).__call__
            hints = typing.get_type_hints(target, include_extras=True)
        except NameError as error:
            raise TypeError(f"{name}: a type hint cannot be resolved: {error}") from None
        self.wants_context = False
        """Whether the first parameter takes the run's context; it is none of the schema's."""
        # Parameters for which a null in the arguments stands for the default.
        self._null_is_default: list[str] = []
        fields: list[tuple[str, Any, Any]] = []
        for position, parameter in enumerate(inspect.signature(function).parameters.values()):
            hint = hints.get(parameter.name)
            if position == 0 and RunContext in (hint, typing.get_origin(hint)):
                self.wants_context = True
                continue
            if any(RunContext in (part, typing.get_origin(part)) for part in (hint, *typing.get_args(hint))):
                raise TypeError(f"{name}: {parameter.name} is a RunContext, which a tool takes as its first parameter")
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise TypeError(f"{name}: {parameter} cannot be given by name, as a tool's parameters are")
            if parameter.name not in hints:
                raise TypeError(f"{name}: parameter {parameter.name} has no type hint")
            try:
                if not _is_pydantic(hint):
                    msgspec.json.Decoder(hint)
            except TypeError as error:
                raise TypeError(f"{name}.{parameter.name}: {str(error).splitlines()[0]}") from None
            fields.append(self._field(parameter, hint))
        self._arguments = _arguments(name, fields)

    def _field(self, parameter: inspect.Parameter, hint: Any) -> tuple[str, Any, Any]:
        if typing.get_origin(hint) is Annotated:
            bare, *annotations = typing.get_args(hint)
            metas = [msgspec.Meta(description=one) if isinstance(one, str) else one for one in annotations]
            hint = functools.reduce(lambda inner, meta: Annotated[inner, meta], metas, bare)
        if parameter.default is parameter.empty:
            return parameter.name, hint, msgspec.NODEFAULT
        if not _takes_none(hint):
            self._null_is_default.append(parameter.name)
            meta = msgspec.Meta(description=f"null for the default{_as_json(parameter.default)}")
            hint = Annotated[hint | None, meta]
        return parameter.name, hint, msgspec.UNSET

    def strict(self) -> dict[str, Any]:
        """Return the strict schema. Raises TypeError, naming the parameter."""
        try:
            return self._arguments.strict()
        except TypeError as error:
            problem = str(error)
        try:
            self.loose()
        except TypeError:
            raise TypeError(problem) from None
        raise TypeError(f"{problem} (or make it with strict=False)")

    def loose(self) -> dict[str, Any]:
        """Return a schema that may have what the strict one cannot. Raises TypeError, naming the parameter."""
        return self._arguments.loose()

    def read(self, text: str) -> dict[str, Any]:
        """Return the arguments in a text of JSON, those that have a value. Raises ValueError."""
        # Some servers send an empty text for a call without arguments.
        arguments = self._arguments.decode(text or "{}")
        for name in self._null_is_default:
            if name in arguments and arguments[name] is None:
                del arguments[name]
        return arguments


class _Arguments(Protocol):
    """The parameters of a function: their schema, and what decodes them."""

    def strict(self) -> dict[str, Any]:
        """Return the strict schema. Raises TypeError, naming the parameter."""

    def loose(self) -> dict[str, Any]:
        """Return a schema that may have what the strict one cannot."""

    def decode(self, text: str, /) -> dict[str, Any]:
        """Return the arguments that are given. Raises ValueError."""


class _Struct:
    """The parameters as a msgspec Struct."""

    def __init__(self, name: str, fields: list[tuple[str, Any, Any]]) -> None:
        # A class mangles a name that begins with two underscores.
        inner = {
            (f"{name.lstrip('_')}_{n}" if name[:2] == "__" else name): name for n, (name, _, _) in enumerate(fields)
        }
        self._names = inner
        self._struct = msgspec.defstruct(
            name,
            [(each, hint, default) for each, (_, hint, default) in zip(inner, fields, strict=True)],
            kw_only=True,
            forbid_unknown_fields=True,
            rename=inner,
        )
        self._decoder = WholeNumbers(self._struct)

    def strict(self) -> dict[str, Any]:
        return format_of(self._struct).schema

    def loose(self) -> dict[str, Any]:
        try:
            (_,), parts = msgspec.json.schema_components((self._struct,), ref_template="#/$defs/{name}")
        except TypeError:
            raise TypeError(f"{self._struct.__name__}: {self._odd_parameters()}") from None
        schema: dict[str, Any] = parts.pop(self._struct.__name__)
        schema.pop("title", None)
        return {**schema, "$defs": parts} if parts else schema

    def _odd_parameters(self) -> str:
        """Say which parameters have a type without a JSON schema."""
        odd = []
        for field in msgspec.structs.fields(self._struct):
            try:
                msgspec.json.schema(field.type)
            except TypeError:
                odd.append(field.name)
        return f"no JSON schema has the type of {', '.join(odd)}; use a struct, an enum, a list or a scalar"

    def decode(self, text: str, /) -> dict[str, Any]:
        read = self._decoder.decode(text)
        arguments = ((name, getattr(read, inner)) for inner, name in self._names.items())
        return {name: value for name, value in arguments if value is not msgspec.UNSET}


def _arguments(name: str, fields: list[tuple[str, Any, Any]]) -> _Arguments:
    if any(_is_pydantic(hint) for _, hint, _ in fields):
        from aimlasync.structured.pydantic_models import Arguments

        return Arguments(name, [(field, hint, default is msgspec.NODEFAULT) for field, hint, default in fields])
    return _Struct(name, fields)


def _is_pydantic(hint: Any) -> bool:
    if "pydantic" not in sys.modules:
        return False
    from aimlasync.structured.pydantic_models import is_pydantic

    return is_pydantic(hint)


def _takes_none(hint: Any) -> bool:
    if _is_pydantic(hint):
        bare = typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint
        return type(None) in typing.get_args(bare)
    info = mi.type_info(hint)
    while isinstance(info, mi.Metadata):
        info = info.type
    return isinstance(info, (mi.NoneType, mi.AnyType)) or (isinstance(info, mi.UnionType) and info.includes_none)


def _as_json(default: Any) -> str:
    if default is None:
        return ""
    try:
        return f", {encode(default).decode()}"
    except (TypeError, ValueError):
        return ""
