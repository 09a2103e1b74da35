"""Tools of MCP servers as tools of an agent: `async with mcp.stdio("python", "server.py") as tools`.

The `mcp` package speaks the protocol; here its tools become `Tool` objects and its results become text. A tool's schema
is the server's own, so it is not strict, and the server checks the arguments. Whatever a server does, it ends: the
connection and the list of tools within `connect` seconds, a call within `timeout`, and a result is cut at `max_result`.
A connection that is lost fails the calls on it, which the server may have executed, and is made again for the next one.
Only this file imports `mcp`, and no other file imports this one, so `mcp` stays optional (pip install
'aimlasync[mcp]').
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack
from urllib.parse import urlsplit

import anyio
import msgspec

from aimlasync.agents.context import RunContext
from aimlasync.agents.errors import ToolError
from aimlasync.agents.images import MARK, Image
from aimlasync.agents.tools import MAX_RESULT, Approve, Tool
from aimlasync.endpoints.urls import is_loopback
from aimlasync.logs import log_of
from aimlasync.wire.base import encode

try:
    import httpx2
    from mcp import Client, MCPError, StdioServerParameters
    from mcp.client.streamable_http import streamable_http_client
    from mcp_types import CONNECTION_CLOSED
except ImportError:
    raise ImportError("tools of MCP servers need the package mcp, 2 or later: pip install 'aimlasync[mcp]'") from None

if TYPE_CHECKING:
    from pathlib import Path

# Both endpoints restrict a tool's name to these characters and this length; MCP allows more.
_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9_-]")
_MAX_NAME = 64
_MAX_TOOLS = 1000
# Seconds. The defaults of the `mcp` package over HTTP; over stdio it has none.
_CONNECT = 30.0
_TIMEOUT = 300.0

# What the `mcp` package says of a server that has forgotten the session.
_SESSION_ENDED = "Session terminated"

T = TypeVar("T")

_log = log_of("aimlasync.agents")


class ToolOptions(TypedDict, total=False):
    """Which tools of a server are taken, and what holds for each."""

    only: Collection[str] | None
    """The names of the tools to take, as the server has them; None for all."""
    prefix: str
    """Put before each name, where two servers use the same."""
    timeout: float | None
    """Seconds for a call, 300 by default; None for no bound."""
    concurrency: int | None
    """Calls of a tool at a time; None for any number."""
    approve: bool | Approve
    """As in `Tool`."""
    max_result: int | None
    """Characters of a result, 1,000,000 by default; a longer one is cut. None for no bound."""
    images: bool
    """Whether the model gets the images of results, for models that see images; they are only named by default."""


@asynccontextmanager
async def stdio(
    command: str,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    connect: float | None = _CONNECT,
    **options: Unpack[ToolOptions],
) -> AsyncIterator[list[Tool]]:
    """Start an MCP server as a subprocess and give its tools; leaving the block ends the process.

    `env` is added to the few variables that the `mcp` package passes on. `connect` is in seconds, for the handshake and
    the list of tools. `options` (`only`, `prefix`, `timeout`, `concurrency`, `approve`, `max_result`, `images`) are
    those of `ToolOptions`. Raises ConnectionError when the server cannot be used, ValueError for a name in `only` that
    it does not have.
    """
    started = StdioServerParameters(
        command=command, args=list(arguments), env=None if env is None else dict(env), cwd=cwd
    )
    async with _connected(f"the MCP server {command}", lambda: Client(started), connect, options) as tools:
        yield tools


@asynccontextmanager
async def http(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    allow_http: bool = False,
    connect: float | None = _CONNECT,
    **options: Unpack[ToolOptions],
) -> AsyncIterator[list[Tool]]:
    """Connect to an MCP server over HTTP (streamable) and give its tools; the options are those of `stdio`.

    Raises ConnectionError when the server cannot be used; ValueError for a name in `only` that it does not have, and
    for an http:// address that is not on loopback, unless `allow_http` is set: headers hold keys.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" and not (allow_http or is_loopback(parts.hostname or "")):
        raise ValueError("the address of the MCP server is not encrypted: use https://, or pass allow_http=True")
    # A server may hold a response open while its tool works.
    bounds = httpx2.Timeout(_CONNECT, read=options.get("timeout", _TIMEOUT))
    async with httpx2.AsyncClient(headers=dict(headers or {}), timeout=bounds) as connections:

        def make() -> Client:
            return Client(streamable_http_client(url, http_client=connections))

        async with _connected(f"the MCP server at {parts.hostname}", make, connect, options) as tools:
            yield tools


@asynccontextmanager
async def _connected(
    server: str, make: Callable[[], AbstractAsyncContextManager[Client]], connect: float | None, options: ToolOptions
) -> AsyncIterator[list[Tool]]:
    """Connect to a server and give its tools. An error leaves it as itself, not in the groups of the `mcp` package.

    The block may be left by another task than entered it (a fixture, an exit stack), and several in any order.
    """
    connection = _Connection(server, make, connect)

    async def begin(client: Client) -> list[Tool]:
        return _tools(await _listed(client), connection.call_tool, **options)

    tools = await connection.open(begin)
    try:
        yield tools
    finally:
        connection.is_over = True
        await connection.close()


class _Connection:
    """A connection to a server. Its mutable state: the task that holds it, and its client, None once that is lost.

    A task of its own enters the connection and leaves it, as the cancel scopes of the `mcp` package demand.
    """

    def __init__(
        self, server: str, make: Callable[[], AbstractAsyncContextManager[Client]], connect: float | None
    ) -> None:
        self.is_over = False
        """Whether its block was left: no tool that was kept connects again."""
        self._server = server
        self._make = make
        self._connect = connect
        self._client: Client | None = None
        self._holding: asyncio.Task[None] | None = None
        self._is_left = asyncio.Event()
        # One call makes it again, and the others wait for that.
        self._opening = asyncio.Lock()

    async def open(self, begin: Callable[[Client], Awaitable[T]]) -> T:
        """Connect, and return what `begin` makes of the client. Raises ConnectionError, and what `begin` raises."""
        begun: asyncio.Future[tuple[Client, T]] = asyncio.get_running_loop().create_future()
        self._is_left = is_left = asyncio.Event()

        async def hold() -> None:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(self._connect):
                    client = await stack.enter_async_context(self._make())
                    begun.set_result((client, await begin(client)))
                await is_left.wait()

        self._holding = holding = asyncio.create_task(hold(), name=self._server)
        first: list[asyncio.Future[Any]] = [holding, begun]
        try:
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            holding.cancel()
            # What it ends in is not what the caller must see.
            await _error_of(holding)
            raise
        if begun.done():
            self._client, result = begun.result()
            return result
        error = await _error_of(holding)
        if not isinstance(error, Exception) or isinstance(error, (ValueError, TypeError)):
            raise error or asyncio.CancelledError
        if isinstance(error, TimeoutError):
            raise ConnectionError(f"{self._server} did not answer within {self._connect} s") from error
        raise ConnectionError(f"{self._server} cannot be used: {type(error).__name__}: {error}") from error

    async def close(self) -> None:
        """Leave the connection; an error in which it ends is logged, since what was asked is answered."""
        self._client = None
        if self._holding is not None:
            self._is_left.set()
            holding, self._holding = self._holding, None
            if (error := await _error_of(holding)) is not None:
                _log.info("%s was lost: %s: %s", self._server, type(error).__name__, error)

    async def call_tool(self, name: str, arguments: dict[str, Any]) -> Any:
        """Call a tool, over a new connection if this one was lost before. Raises MCPError, and ConnectionError."""
        async with self._opening:
            if self.is_over:
                raise ConnectionError(f"the block of {self._server} was left")
            if self._client is None or self._holding is None or self._holding.done():
                await self.close()
                _log.warning("the connection to %s was lost, and is made again", self._server)
                await self.open(_nothing)
            client = self._client
        assert client is not None
        try:
            return await client.call_tool(name, arguments)
        except MCPError as error:
            if client is self._client and (error.code == CONNECTION_CLOSED or _SESSION_ENDED in str(error)):
                self._client = None
            raise


async def _nothing(_: Client) -> None:
    pass


async def _error_of(task: asyncio.Task[None]) -> BaseException | None:
    """Wait for the end of a task, and return what it raised."""
    with anyio.CancelScope(shield=True):
        await asyncio.wait([task])
    if task.cancelled():
        return asyncio.CancelledError()
    error = task.exception()
    return None if error is None else _first(error)


def _first(error: BaseException) -> BaseException:
    """Return the first error of a group that is not a group itself."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def tools_of(client: Client, **options: Unpack[ToolOptions]) -> list[Tool]:
    """Return the tools of a connected `mcp` client; `options` are those of `ToolOptions`.

    Raises ValueError for a name in `only` that the server does not have, ConnectionError for a list without an end.
    """
    return _tools(await _listed(client), client.call_tool, **options)


def _tools(
    listed: dict[str, Any], call_tool: Callable[..., Awaitable[Any]], **options: Unpack[ToolOptions]
) -> list[Tool]:
    only, prefix = options.get("only"), options.get("prefix", "")
    missing = set(only or ()) - set(listed)
    if missing:
        raise ValueError(
            f"the MCP server has no tool {', '.join(sorted(missing))}; it has: {', '.join(listed) or 'none'}"
        )
    taken = [name for name in listed if only is None or name in only]
    return [
        Tool(
            short,
            description=listed[name].description or listed[name].title or "",
            parameters={"type": "object", "properties": {}, **listed[name].input_schema},
            read=_read,
            do=_caller(call_tool, name, options.get("images", False)),
            strict=False,
            timeout=options.get("timeout", _TIMEOUT),
            concurrency=options.get("concurrency"),
            approve=options.get("approve", False),
            max_result=options.get("max_result", MAX_RESULT),
        )
        for name, short in zip(taken, _short_names([prefix + name for name in taken]), strict=True)
    ]


async def _listed(client: Client) -> dict[str, Any]:
    """Return the tools of a server by their names; those that nobody could call are left out."""
    listed: dict[str, Any] = {}
    cursors: set[str | None] = set()
    cursor: str | None = None
    while cursor not in cursors and len(listed) < _MAX_TOOLS:
        cursors.add(cursor)
        page = await client.list_tools(cursor=cursor)
        for tool in page.tools:
            if not tool.name or tool.name in listed:
                _log.warning("an MCP server lists a tool without a name of its own, which is left out: %r", tool.name)
            else:
                listed[tool.name] = tool
        cursor = page.next_cursor
        if not cursor:
            return listed
    raise ConnectionError(f"its list of tools has no end, after {len(listed)} tools")


def _short_names(names: list[str]) -> list[str]:
    """Return names that both endpoints take; where one had to be cut, or two became equal, a checksum tells them apart.

    A name that endpoints take stays as it is, and what another becomes does not depend on the order.
    """
    plain = [_NOT_IN_NAME.sub("_", name) for name in names]
    short = []
    for name, changed in zip(names, plain, strict=True):
        if len(changed) > _MAX_NAME or (changed != name and plain.count(changed) > 1):
            changed = f"{changed[: _MAX_NAME - 9]}_{zlib.crc32(name.encode('utf-8', 'replace')):08x}"
        short.append(changed)
    return short


_arguments = msgspec.json.Decoder(dict[str, Any])


def _read(text: str) -> dict[str, Any]:
    return _arguments.decode(text or "{}")


def _caller(call_tool: Callable[..., Awaitable[Any]], name: str, takes_images: bool) -> Any:
    """Return a function that calls one tool of the server."""

    async def call(context: RunContext[Any], arguments: dict[str, Any]) -> str | list[Any]:
        try:
            result = await call_tool(name, arguments)
        except MCPError as error:
            # The server's own words, as for instance that the arguments are wrong.
            raise ToolError(f"the server refused the call: {error}") from error
        except ConnectionError as error:
            raise ToolError("the server of this tool cannot be reached now") from error
        parts = _parts_of(result)
        texts = "\n".join(MARK if isinstance(part, Image) else part for part in parts)
        if result.is_error:
            raise ToolError(texts or "the server gave no reason")
        return parts if takes_images and any(isinstance(part, Image) for part in parts) else texts

    return call


def _parts_of(result: Any) -> list[str | Image]:
    """Return the texts and images of a result, other parts named by type, and structured content that these lack."""
    parts: list[str | Image] = []
    for part in result.content:
        text = getattr(part, "text", None) or getattr(getattr(part, "resource", None), "text", None)
        if part.type == "image":
            parts.append(Image(f"data:{part.mime_type};base64,{part.data}"))
        else:
            parts.append(text if isinstance(text, str) else f"[{part.type}]")
    structured = result.structured_content
    if structured is not None and not _is_in(structured, [part for part in parts if isinstance(part, str)]):
        parts.append(encode(structured).decode())
    return parts


def _is_in(structured: Any, parts: list[str]) -> bool:
    """Return whether text parts say what structured content does, as the protocol asks of servers.

    Content that is no object is wrapped as {"result": ...}, and the items of a list may have a part each.
    """
    values = [_value(part) for part in parts]
    inner = structured.get("result") if isinstance(structured, dict) and len(structured) == 1 else structured
    return structured in values or inner in values or inner in parts or inner in (values, parts)


def _value(text: str) -> Any:
    """Return the value of a text of JSON, the text itself where it is none."""
    try:
        return msgspec.json.decode(text)
    except ValueError:
        return text
