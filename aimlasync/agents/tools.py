"""Makes a tool of a Python function: a name, a description, a strict JSON schema, and a decoder of the arguments.

Schema and decoder are made once, together with the tool, of its `signature`. A signature that has no schema raises a
TypeError that names the parameter, before any request is paid for. This module may import `context`, `results`,
`run_state` and `signature`; nothing here knows the agent loop.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import re
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol, Self, cast, overload

import anyio
import anyio.lowlevel
import anyio.to_thread

from aimlasync.agents.context import RunContext
from aimlasync.agents.images import WithImages, without_images
from aimlasync.agents.results import read_async_iterator, read_iterator, text_of
from aimlasync.agents.run_state import ToolCall
from aimlasync.agents.signature import Signature
from aimlasync.config import check_at_least
from aimlasync.spelling import spelled

Approve = Callable[[ToolCall], bool | Awaitable[bool]]
"""Decides whether a tool call may be executed; awaited if need be."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_BAD_NAME = "a tool's name is 1 to 64 letters, digits, _ and -, not {0!r}; give another with name="
MAX_RESULT = 1_000_000
"""Characters of a tool's result that the model gets, unless the tool says otherwise."""

MAX_THREADS = 256
"""Tools that run in threads at the same time, over all runs of an event loop; further ones wait."""

_limiter: anyio.lowlevel.RunVar[anyio.CapacityLimiter] = anyio.lowlevel.RunVar("aimlasync_tool_threads")

# The attribute of a function that keeps the tool made of it.
_TOOL_ATTRIBUTE = "__aimlasync_tool__"


class Tool:
    """A tool that the model may call: a name, a JSON schema, a decoder of the arguments, and a function to await.

    `read` decodes the arguments' text, or raises ValueError (of which msgspec's errors are a kind) with what is wrong;
    `do` is awaited with the run's context and the decoded arguments. `timeout` is in seconds. `concurrency` bounds the
    calls that are executed at a time, over all runs of an event loop. `approve` asks before each call: True leaves the
    decision to the run's `approve=`, a function of the call decides itself. `max_result` is in characters: a longer
    result is cut, and the model is told so. Raises ValueError for a name that endpoints do not take.
    """

    __slots__ = (
        "_semaphores",
        "approve",
        "chat",
        "concurrency",
        "do",
        "function",
        "max_result",
        "name",
        "read",
        "responses",
        "timeout",
    )

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
        max_result: int | None = MAX_RESULT,
    ) -> None:
        if not _NAME.fullmatch(name):
            raise ValueError(_BAD_NAME.format(name))
        self.name = name
        self.read = read
        self.do = do
        self.timeout = timeout
        self.concurrency = concurrency
        self.approve = approve
        self.max_result = max_result
        # One semaphore for each event loop, because a tool may be used on several.
        self._semaphores: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] | None = None
        if concurrency is not None:
            self._semaphores = weakref.WeakKeyDictionary()
        check_at_least(1, **{f"{name}: concurrency": concurrency, f"{name}: max_result": max_result})
        check_at_least(0, **{f"{name}: timeout": timeout})
        self.function: Callable[..., Any] = do
        """The Python function that the tool was made of; `do` of a tool of an MCP server."""
        function = {"name": name, "description": description, "parameters": parameters, "strict": strict}
        if not description:
            del function["description"]
        self.chat: dict[str, Any] = {"type": "function", "function": function}
        """The tool as a request to chat/completions has it."""
        self.responses: dict[str, Any] = {"type": "function", **function}
        """The tool as a request to responses has it."""

    @property
    def is_strict(self) -> bool:
        """Whether the model is held to the schema of the arguments."""
        return bool(self.responses["strict"])

    def but(self, *, name: str | None = None, strict: bool | None = None) -> Self:
        """Return this tool with another name or `strict`; both share their concurrency.

        Raises ValueError for a name that endpoints do not take, and for `strict=True` where the tool was made without:
        its schema is not one that can be held to.
        """
        if name is not None and not _NAME.fullmatch(name):
            raise ValueError(_BAD_NAME.format(name))
        if strict and not self.is_strict:
            raise ValueError(f"{self.name} was made with strict=False, so it cannot be strict")
        other = copy.copy(self)
        other.name = name or self.name
        function = {**self.chat["function"], "name": other.name, "strict": self.is_strict if strict is None else strict}
        other.chat = {**self.chat, "function": function}
        other.responses = {**self.responses, **function}
        return other

    async def __call__(self, context: RunContext[Any], arguments: Any) -> str | WithImages:
        """Execute the tool within its concurrency and timeout, and return its result as text, with its images.

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

    async def _within_timeout(self, context: RunContext[Any], arguments: Any) -> str | WithImages:
        if self.timeout is None:
            return self._told(await self.do(context, arguments))
        try:
            async with asyncio.timeout(self.timeout) as bound:
                return self._told(await self.do(context, arguments))
        except TimeoutError as error:
            if not bound.expired():
                raise
            raise ToolTimeoutError(f"it took longer than {self.timeout} s") from error

    def _told(self, result: Any) -> str | WithImages:
        rest, images = without_images(result)
        text = text_of(rest, self.max_result)
        return WithImages(text, images) if images else text

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # Of what holds an agent. The function is the same, and so is its concurrency.
        return copy.copy(self)

    def __repr__(self) -> str:
        return f"<Tool {self.name}>"


class Function(Protocol):
    """A function, as mypy knows one of a list of functions whose signatures differ."""

    @property
    def __name__(self) -> str: ...


ToolOrFunction = Tool | Callable[..., Any] | Function


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
    max_result: int | None = MAX_RESULT,
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
    max_result: int | None = MAX_RESULT,
    strict: bool = True,
    in_thread: bool | None = None,
) -> Callable[[Callable[..., Any]], Tool]: ...
@spelled
def tool(
    function: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | None = None,
    concurrency: int | None = None,
    approve: bool | Approve = False,
    max_result: int | None = MAX_RESULT,
    strict: bool = True,
    in_thread: bool | None = None,
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a tool of a function with type hints; also a decorator, with or without arguments.

    The model is told the function's name, docstring and parameters; `Annotated[str, "which city"]` describes a
    parameter, and msgspec.Meta, or pydantic's Field, constrains it. A first parameter of type `RunContext` gets the
    run's context. A function that is not async runs in a worker thread; `in_thread=False` runs it on the event loop,
    which is for functions that neither block nor compute for long. What it returns is the result: a text, or anything
    that has a form as JSON; of a generator the items. `strict=False` allows types that strict JSON schema cannot
    express, such as dicts. The other options are those of `Tool`. Raises TypeError, naming the parameter, for a
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
            max_result=max_result,
            strict=strict,
            in_thread=in_thread,
        )
    if isinstance(function, Tool):
        raise TypeError(f"{function.name} is a tool already; its .but(name=...) gives it another name")
    bare = function.func if isinstance(function, functools.partial) else function
    name = name or str(getattr(bare, "__name__", type(bare).__name__))
    is_async = any(map(_is_async, (bare, type(bare).__call__)))
    signature = Signature(function, bare, name)
    schema = signature.strict() if strict else signature.loose()

    async def on_loop(context: RunContext[Any], arguments: dict[str, Any]) -> Any:
        result = function(context, **arguments) if signature.wants_context else function(**arguments)
        return await _whole(result)

    async def on_thread(context: RunContext[Any], arguments: dict[str, Any]) -> Any:
        first = (context,) if signature.wants_context else ()

        def call() -> Any:
            return read_iterator(function(*first, **arguments))

        # A thread cannot be stopped: a cancelled call stops waiting at once, and the thread's result is dropped.
        return await _whole(await anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=_threads()))

    made = Tool(
        name,
        description=inspect.cleandoc(bare.__doc__ or "") if description is None else description,
        parameters=schema,
        read=signature.read,
        do=on_loop if is_async or in_thread is False else on_thread,
        strict=strict,
        timeout=timeout,
        concurrency=concurrency,
        approve=approve,
        max_result=max_result,
    )
    made.function = function
    return made


def _threads() -> anyio.CapacityLimiter:
    """Return the bound of the tools' threads in this event loop.

    It is none of the 40 threads that web frameworks have for their synchronous handlers: these may wait for an agent.
    """
    try:
        return _limiter.get()
    except LookupError:
        _limiter.set(made := anyio.CapacityLimiter(MAX_THREADS))
        return made


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


async def _whole(result: Any) -> Any:
    """Return a result that need not be awaited, nor read step by step."""
    if inspect.isawaitable(result):
        result = await result
    return await read_async_iterator(result) if isinstance(result, AsyncIterator) else result


def all_loose(specs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return tools as requests have them, of either endpoint, all with `strict` false."""
    return [
        {**spec, "function": {**spec["function"], "strict": False}} if "function" in spec else {**spec, "strict": False}
        for spec in specs
    ]


def tool_of(given: ToolOrFunction) -> Tool:
    """Return a tool as it is, or the tool of a function, which is made once for each function.

    Raises TypeError for anything else.
    """
    if isinstance(given, Tool):
        return given
    if not callable(given):
        raise TypeError(f"a tool is a function with type hints, or a Tool, not {type(given).__name__}")
    made = getattr(given, "__dict__", {}).get(_TOOL_ATTRIBUTE)
    if made is None:
        made = tool(given)
        try:
            setattr(given, _TOOL_ATTRIBUTE, made)
        except AttributeError:
            # A bound method or an object with slots takes no attribute: its tool is made anew each time.
            return made
    return cast(Tool, made)
