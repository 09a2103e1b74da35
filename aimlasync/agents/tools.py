"""A Python function as a tool: its name, its description, its strict schema, and its arguments back as Python values.

Law: schema and decoder are made once, when the tool is; a signature that cannot be one is a TypeError that names the
parameter, before any request is paid for. No I/O but what the function does.

A strict schema requires every property, so a parameter with a default may be null there, and null means the default.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import re
import typing
import weakref
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, cast, overload

import anyio.to_thread
import msgspec
import msgspec.inspect as mi

from aimlasync.agents.run_state import Run, ToolCall
from aimlasync.structured.schema import format_of
from aimlasync.wire.base import encode

if TYPE_CHECKING:
    from aimlasync.agents.loop import Loop
    from aimlasync.client.client import AsyncClient

T = TypeVar("T")

Approve = Callable[[ToolCall], Awaitable[bool]]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
# What `run(tools=[function])` made of a function stays with it.
_MADE = "__aimlasync_tool__"


class RunContext(Generic[T]):
    """What a tool may know of the run that calls it, and the model never sees: its first parameter, if it wants one."""

    __slots__ = ("_loop", "call", "context")

    def __init__(self, context: T, call: ToolCall, loop: Loop) -> None:
        self.context = context
        """What was given as `context=`."""
        self.call = call
        self._loop = loop

    @property
    def run(self) -> Run:
        """The run so far."""
        return self._loop.run

    @property
    def client(self) -> AsyncClient:
        """The client that the run uses."""
        return self._loop.client


class Tool:
    """Something the model may call: a name, a schema, a way to read its arguments and a way to do it.

    `read` turns the arguments' text into a value, or raises ValueError (msgspec's errors are such) with what is wrong;
    `do` is awaited with the run's context and that value. `timeout` is in seconds; at most `concurrency` calls are at
    work at a time, over all runs of an event loop. `approve` asks before each call: True leaves it to the run's
    `approve=`, a function of the call answers itself. Raises ValueError for a name that endpoints do not take.
    """

    __slots__ = ("_places", "approve", "chat", "concurrency", "do", "name", "read", "responses", "timeout")

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
        # One for each event loop: a tool outlives the loop that it was first used on.
        self._places: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] | None = None
        if concurrency is not None:
            if concurrency < 1:
                raise ValueError(f"{name}: concurrency must be at least 1, not {concurrency}")
            self._places = weakref.WeakKeyDictionary()
        told = {"name": name, "description": description, "parameters": parameters, "strict": strict}
        if not description:
            del told["description"]
        self.chat: dict[str, Any] = {"type": "function", "function": told}
        self.responses: dict[str, Any] = {"type": "function", **told}

    async def __call__(self, context: RunContext[Any], value: Any) -> str:
        """Do it, within its bounds, and return its result as text."""
        if self._places is None:
            return await self._bounded(context, value)
        loop = asyncio.get_running_loop()
        places = self._places.get(loop)
        if places is None:
            places = self._places[loop] = asyncio.Semaphore(cast(int, self.concurrency))
        async with places:
            return await self._bounded(context, value)

    async def _bounded(self, context: RunContext[Any], value: Any) -> str:
        if self.timeout is None:
            return _text(await self.do(context, value))
        try:
            async with asyncio.timeout(self.timeout) as bound:
                return _text(await self.do(context, value))
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

    Its name, docstring and parameters are what the model is told; `Annotated[str, "which city"]` describes one of them,
    and msgspec.Meta constrains it. A first parameter of type `RunContext` gets the run's context. A function that is
    not async runs in a worker thread unless `in_thread` is False, for one that neither waits nor works long.
    `strict=False` takes types that strict JSON schema cannot express, such as dicts. The other options are those of
    `Tool`. Raises TypeError, naming the parameter, for a signature that cannot be a tool's.
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

    async def here(context: RunContext[Any], value: dict[str, Any]) -> Any:
        result = function(context, **value) if signature.wants_context else function(**value)
        return await result if inspect.isawaitable(result) else result

    async def elsewhere(context: RunContext[Any], value: dict[str, Any]) -> Any:
        given = (context,) if signature.wants_context else ()
        # A thread cannot be stopped: who is cancelled leaves at once, and its result is dropped.
        result = await anyio.to_thread.run_sync(functools.partial(function, *given, **value), abandon_on_cancel=True)
        return await result if inspect.isawaitable(result) else result

    return Tool(
        name,
        description=inspect.cleandoc(bare.__doc__ or "") if description is None else description,
        parameters=schema,
        read=signature.read,
        do=here if is_async or in_thread is False else elsewhere,
        strict=strict,
        timeout=timeout,
        concurrency=concurrency,
        approve=approve,
    )


def tool_of(given: Tool | Callable[..., Any]) -> Tool:
    """Return a tool as it is, or the one made of a function, once for each function."""
    if isinstance(given, Tool):
        return given
    made = getattr(given, "__dict__", {}).get(_MADE)
    if made is None:
        made = tool(given)
        try:
            setattr(given, _MADE, made)
        except AttributeError:
            # A bound method, or an object with slots: it is made anew each time.
            return made
    return cast(Tool, made)


class _Signature:
    """The parameters of a function as a msgspec Struct: the source of the schema, and what decodes the arguments."""

    def __init__(self, function: Callable[..., Any], bare: Callable[..., Any], name: str) -> None:
        try:
            target = bare if inspect.isroutine(bare) else type(bare).__call__
            hints = typing.get_type_hints(target, include_extras=True)
        except NameError as error:
            raise TypeError(f"{name}: a type hint cannot be resolved: {error}") from None
        self.wants_context = False
        # Parameters that are left to their default when the model says null.
        self.nulls: list[str] = []
        fields: list[tuple[str, Any, Any]] = []
        for at, parameter in enumerate(inspect.signature(function).parameters.values()):
            hint = hints.get(parameter.name)
            if at == 0 and RunContext in (hint, typing.get_origin(hint)):
                self.wants_context = True
                continue
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise TypeError(f"{name}: {parameter} cannot be given by name, as a tool's parameters are")
            if parameter.name not in hints:
                raise TypeError(f"{name}: parameter {parameter.name} has no type hint")
            fields.append(self._field(parameter, hint))
        self.struct = msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=True)
        self._decoder = msgspec.json.Decoder(self.struct)

    def _field(self, parameter: inspect.Parameter, hint: Any) -> tuple[str, Any, Any]:
        if typing.get_origin(hint) is Annotated:
            bare, *extras = typing.get_args(hint)
            notes = [msgspec.Meta(description=one) if isinstance(one, str) else one for one in extras]
            hint = functools.reduce(lambda inner, note: Annotated[inner, note], notes, bare)
        if parameter.default is parameter.empty:
            return parameter.name, hint, msgspec.NODEFAULT
        if not _takes_none(hint):
            self.nulls.append(parameter.name)
            note = msgspec.Meta(description=f"null for the default{_shown(parameter.default)}")
            hint = Annotated[hint | None, note]
        return parameter.name, hint, msgspec.UNSET

    def strict(self) -> dict[str, Any]:
        try:
            return format_of(self.struct).schema
        except TypeError as error:
            raise TypeError(f"{error} (or make it with strict=False)") from None

    def loose(self) -> dict[str, Any]:
        (_,), parts = msgspec.json.schema_components((self.struct,), ref_template="#/$defs/{name}")
        schema: dict[str, Any] = parts.pop(self.struct.__name__)
        schema.pop("title", None)
        return {**schema, "$defs": parts} if parts else schema

    def read(self, text: str) -> dict[str, Any]:
        # Some servers send nothing where there is nothing to give.
        value = msgspec.structs.asdict(self._decoder.decode(text or "{}"))
        for name in self.nulls:
            if value[name] is None:
                del value[name]
        return {name: one for name, one in value.items() if one is not msgspec.UNSET}


def _takes_none(hint: Any) -> bool:
    info = mi.type_info(hint)
    while isinstance(info, mi.Metadata):
        info = info.type
    return isinstance(info, (mi.NoneType, mi.AnyType)) or (isinstance(info, mi.UnionType) and info.includes_none)


def _shown(default: Any) -> str:
    if default is None:
        return ""
    try:
        return f", {encode(default).decode()}"
    except TypeError:
        return ""


def _text(result: Any) -> str:
    return result if isinstance(result, str) else encode(result).decode()
