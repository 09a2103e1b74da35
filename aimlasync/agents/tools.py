"""Makes a tool of a Python function: a name, a description, a strict JSON schema, and a decoder of the arguments.

Schema and decoder are made once, together with the tool. A signature that has no schema raises a TypeError that names
the parameter, before any request is paid for. A strict schema requires every property; so a parameter with a default
may be null there, and null stands for the default. This module may import `context`, `run_state` and the package's
`schema` and `wire`; nothing here knows the agent loop.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import re
import sys
import typing
import weakref
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Protocol, cast, overload

import anyio.to_thread
import msgspec
import msgspec.inspect as mi

from aimlasync.agents.context import RunContext
from aimlasync.agents.run_state import ToolCall
from aimlasync.structured.schema import format_of
from aimlasync.wire.base import encode

Approve = Callable[[ToolCall], Awaitable[bool]]
"""Decides whether a tool call may be executed."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
# The attribute of a function that keeps the tool made of it.
_TOOL_ATTRIBUTE = "__aimlasync_tool__"


class Tool:
    """A tool that the model may call: a name, a JSON schema, a decoder of the arguments, and a function to await.

    `read` decodes the arguments' text, or raises ValueError (of which msgspec's errors are a kind) with what is wrong;
    `do` is awaited with the run's context and the decoded arguments. `timeout` is in seconds. `concurrency` bounds the
    calls that are executed at a time, over all runs of an event loop. `approve` asks before each call: True leaves the
    decision to the run's `approve=`, a function of the call decides itself. Raises ValueError for a name that endpoints
    do not take.
    """

    __slots__ = ("_semaphores", "approve", "chat", "concurrency", "do", "name", "read", "responses", "timeout")

    def __init__(
        self,
        name: str,
        *,
        description: str,
        parameters: dict[str, Any],
        read: Callable[[str], Any],
        do: Callable[[RunContext[Any], Any], Awaitable[Any]],
        strict: bool = True,
        timeout: float | None = None,
        concurrency: int | None = None,
        approve: bool | Approve = False,
    ) -> None:
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"a tool's name is 1 to 64 letters, digits, _ and -, not {name!r}; give another with name="
            )
        self.name = name
        self.read = read
        self.do = do
        self.timeout = timeout
        self.concurrency = concurrency
        self.approve = approve
        # One semaphore for each event loop, because a tool may be used on several.
        self._semaphores: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] | None = None
        if concurrency is not None:
            if concurrency < 1:
                raise ValueError(f"{name}: concurrency must be at least 1, not {concurrency}")
            self._semaphores = weakref.WeakKeyDictionary()
        function = {"name": name, "description": description, "parameters": parameters, "strict": strict}
        if not description:
            del function["description"]
        self.chat: dict[str, Any] = {"type": "function", "function": function}
        """The tool as a request to chat/completions has it."""
        self.responses: dict[str, Any] = {"type": "function", **function}
        """The tool as a request to responses has it."""

    async def __call__(self, context: RunContext[Any], arguments: Any) -> str:
        """Execute the tool within its concurrency and timeout, and return its result as text.

        Raises ToolTimeoutError when it takes longer than its timeout, and what `do` raises.
        """
        if self._semaphores is None:
            return await self._within_timeout(context, arguments)
        loop = asyncio.get_running_loop()
        semaphore = self._semaphores.get(loop)
        if semaphore is None:
            semaphore = self._semaphores[loop] = asyncio.Semaphore(cast(int, self.concurrency))
        async with semaphore:
            return await self._within_timeout(context, arguments)

    async def _within_timeout(self, context: RunContext[Any], arguments: Any) -> str:
        if self.timeout is None:
            return _text(await self.do(context, arguments))
        try:
            async with asyncio.timeout(self.timeout) as bound:
                return _text(await self.do(context, arguments))
        except TimeoutError as error:
            if not bound.expired():
                raise
            raise ToolTimeoutError(f"it took longer than {self.timeout} s") from error

    def __repr__(self) -> str:
        return f"<Tool {self.name}>"


class ToolTimeoutError(Exception):
    """A tool took longer than its own timeout."""


@overload
def tool(
    function: Callable[..., Any],
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | None = None,
    concurrency: int | None = None,
    approve: bool | Approve = False,
    strict: bool = True,
    in_thread: bool | None = None,
) -> Tool: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | None = None,
    concurrency: int | None = None,
    approve: bool | Approve = False,
    strict: bool = True,
    in_thread: bool | None = None,
) -> Callable[[Callable[..., Any]], Tool]: ...
def tool(
    function: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | None = None,
    concurrency: int | None = None,
    approve: bool | Approve = False,
    strict: bool = True,
    in_thread: bool | None = None,
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a tool of a function with type hints; also a decorator, with or without arguments.

    The model is told the function's name, docstring and parameters; `Annotated[str, "which city"]` describes a
    parameter, and msgspec.Meta, or pydantic's Field, constrains it. A first parameter of type `RunContext` gets the
    run's context. A function that is not async runs in a worker thread; `in_thread=False` runs it on the event loop,
    which is for functions that neither block nor compute for long. `strict=False` allows types that strict JSON schema
    cannot express, such as dicts. The other options are those of `Tool`. Raises TypeError, naming the parameter, for a
    signature that has no schema.
    """
    if function is None:
        return functools.partial(
            tool,
            name=name,
            description=description,
            timeout=timeout,
            concurrency=concurrency,
            approve=approve,
            strict=strict,
            in_thread=in_thread,
        )
    bare = function.func if isinstance(function, functools.partial) else function
    name = name or str(getattr(bare, "__name__", type(bare).__name__))
    is_async = inspect.iscoroutinefunction(bare) or inspect.iscoroutinefunction(type(bare).__call__)
    signature = _Signature(function, bare, name)
    schema = signature.strict() if strict else signature.loose()

    async def on_loop(context: RunContext[Any], arguments: dict[str, Any]) -> Any:
        result = function(context, **arguments) if signature.wants_context else function(**arguments)
        return await result if inspect.isawaitable(result) else result

    async def on_thread(context: RunContext[Any], arguments: dict[str, Any]) -> Any:
        first = (context,) if signature.wants_context else ()
        # A thread cannot be stopped: a cancelled call stops waiting at once, and the thread's result is dropped.
        call = functools.partial(function, *first, **arguments)
        result = await anyio.to_thread.run_sync(call, abandon_on_cancel=True)
        return await result if inspect.isawaitable(result) else result

    return Tool(
        name,
        description=inspect.cleandoc(bare.__doc__ or "") if description is None else description,
        parameters=schema,
        read=signature.read,
        do=on_loop if is_async or in_thread is False else on_thread,
        strict=strict,
        timeout=timeout,
        concurrency=concurrency,
        approve=approve,
    )


def tool_of(given: Tool | Callable[..., Any]) -> Tool:
    """Return a tool as it is, or the tool of a function, which is made once for each function."""
    if isinstance(given, Tool):
        return given
    made = getattr(given, "__dict__", {}).get(_TOOL_ATTRIBUTE)
    if made is None:
        made = tool(given)
        try:
            setattr(given, _TOOL_ATTRIBUTE, made)
        except AttributeError:
            # A bound method or an object with slots takes no attribute: its tool is made anew each time.
            return made
    return cast(Tool, made)


class _Signature:
    """The parameters of a function, from which both schema and decoder are made."""

    def __init__(self, function: Callable[..., Any], bare: Callable[..., Any], name: str) -> None:
        try:
            target = bare if inspect.isroutine(bare) else type(bare).__call__
            hints = typing.get_type_hints(target, include_extras=True)
        except NameError as error:
            raise TypeError(f"{name}: a type hint cannot be resolved: {error}") from None
        self.wants_context = False
        # Parameters for which a null in the arguments stands for the default.
        self.null_is_default: list[str] = []
        fields: list[tuple[str, Any, Any]] = []
        for position, parameter in enumerate(inspect.signature(function).parameters.values()):
            hint = hints.get(parameter.name)
            if position == 0 and RunContext in (hint, typing.get_origin(hint)):
                self.wants_context = True
                continue
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise TypeError(f"{name}: {parameter} cannot be given by name, as a tool's parameters are")
            if parameter.name not in hints:
                raise TypeError(f"{name}: parameter {parameter.name} has no type hint")
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
            self.null_is_default.append(parameter.name)
            meta = msgspec.Meta(description=f"null for the default{_as_json(parameter.default)}")
            hint = Annotated[hint | None, meta]
        return parameter.name, hint, msgspec.UNSET

    def strict(self) -> dict[str, Any]:
        try:
            return self._arguments.strict()
        except TypeError as error:
            raise TypeError(f"{error} (or make it with strict=False)") from None

    def loose(self) -> dict[str, Any]:
        return self._arguments.loose()

    def read(self, text: str) -> dict[str, Any]:
        # Some servers send an empty text for a call without arguments.
        arguments = self._arguments.decode(text or "{}")
        for name in self.null_is_default:
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
        self._struct = msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=True)
        self._decoder = msgspec.json.Decoder(self._struct)

    def strict(self) -> dict[str, Any]:
        return format_of(self._struct).schema

    def loose(self) -> dict[str, Any]:
        (_,), parts = msgspec.json.schema_components((self._struct,), ref_template="#/$defs/{name}")
        schema: dict[str, Any] = parts.pop(self._struct.__name__)
        schema.pop("title", None)
        return {**schema, "$defs": parts} if parts else schema

    def decode(self, text: str, /) -> dict[str, Any]:
        arguments = msgspec.structs.asdict(self._decoder.decode(text))
        return {name: value for name, value in arguments.items() if value is not msgspec.UNSET}


def _arguments(name: str, fields: list[tuple[str, Any, Any]]) -> _Arguments:
    if "pydantic" in sys.modules:
        from aimlasync.structured.pydantic_models import Arguments, is_pydantic

        if any(is_pydantic(hint) for _, hint, _ in fields):
            return Arguments(name, [(field, hint, default is msgspec.NODEFAULT) for field, hint, default in fields])
    return _Struct(name, fields)


def _takes_none(hint: Any) -> bool:
    info = mi.type_info(hint)
    while isinstance(info, mi.Metadata):
        info = info.type
    return isinstance(info, (mi.NoneType, mi.AnyType)) or (isinstance(info, mi.UnionType) and info.includes_none)


def _as_json(default: Any) -> str:
    if default is None:
        return ""
    try:
        return f", {encode(default).decode()}"
    except TypeError:
        return ""


def _text(result: Any) -> str:
    return result if isinstance(result, str) else encode(result).decode()
