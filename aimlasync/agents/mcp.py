"""Tools of MCP servers as tools of an agent: `async with mcp.stdio("python", "server.py") as tools`.

The `mcp` package speaks the protocol; here its tools become `Tool` objects and its results become text. A tool's schema
is the server's own, so it is not strict, and the server checks the arguments. Only this file imports `mcp`, and no
other file imports this one, so `mcp` stays optional (pip install 'aimlasync[mcp]').
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from aimlasync.agents.context import RunContext
from aimlasync.agents.errors import ToolError
from aimlasync.agents.tools import Approve, Tool
from aimlasync.endpoints.endpoint import is_loopback
from aimlasync.wire.base import encode

try:
    import httpx2
    from mcp import Client, StdioServerParameters
    from mcp.client.streamable_http import streamable_http_client
except ImportError:
    raise ImportError("tools of MCP servers need the package mcp, 2 or later: pip install 'aimlasync[mcp]'") from None

if TYPE_CHECKING:
    from pathlib import Path

# Both endpoints restrict a tool's name to these characters and this length; MCP allows more.
_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9_-]")
_MAX_NAME = 64
# Seconds, the defaults of the `mcp` package: a server may hold a response open while its tool works.
_TIMEOUT = 30.0
_READ_TIMEOUT = 300.0


@asynccontextmanager
async def stdio(
    command: str,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    only: Collection[str] | None = None,
    prefix: str = "",
    timeout: float | None = None,
    concurrency: int | None = None,
    approve: bool | Approve = False,
) -> AsyncIterator[list[Tool]]:
    """Start an MCP server as a subprocess and give its tools; leaving the block ends the process.

    `only` selects tools by the server's names, and `prefix` is put before each name. `timeout` (seconds),
    `concurrency` and `approve` hold for each tool as in `Tool`. `env` is added to the few variables that the `mcp`
    package passes on. Raises ValueError for a name in `only` that the server does not have.
    """
    started = StdioServerParameters(
        command=command, args=list(arguments), env=None if env is None else dict(env), cwd=cwd
    )
    async with Client(started) as client:
        yield await tools_of(
            client, only=only, prefix=prefix, timeout=timeout, concurrency=concurrency, approve=approve
        )


@asynccontextmanager
async def http(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    only: Collection[str] | None = None,
    prefix: str = "",
    timeout: float | None = None,
    concurrency: int | None = None,
    approve: bool | Approve = False,
    allow_http: bool = False,
) -> AsyncIterator[list[Tool]]:
    """Connect to an MCP server over HTTP (streamable) and give its tools; the options are those of `stdio`.

    Raises ValueError for an http:// address that is not on loopback, unless `allow_http` is set: headers hold keys.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" and not (allow_http or is_loopback(parts.hostname or "")):
        raise ValueError("the address of the MCP server is not encrypted: use https://, or pass allow_http=True")
    bounds = httpx2.Timeout(_TIMEOUT, read=_READ_TIMEOUT)
    async with (
        httpx2.AsyncClient(headers=dict(headers or {}), timeout=bounds) as connections,
        Client(streamable_http_client(url, http_client=connections)) as client,
    ):
        yield await tools_of(
            client, only=only, prefix=prefix, timeout=timeout, concurrency=concurrency, approve=approve
        )


async def tools_of(
    client: Client,
    *,
    only: Collection[str] | None = None,
    prefix: str = "",
    timeout: float | None = None,
    concurrency: int | None = None,
    approve: bool | Approve = False,
) -> list[Tool]:
    """Return the tools of a connected `mcp` client; the options are those of `stdio`.

    Raises ValueError for a name in `only` that the server does not have.
    """
    listed: list[Any] = []
    cursor: str | None = None
    while True:
        page = await client.list_tools(cursor=cursor)
        listed += page.tools
        cursor = page.next_cursor
        if not cursor:
            break
    missing = set(only or ()) - {tool.name for tool in listed}
    if missing:
        raise ValueError(f"the MCP server has no tool {', '.join(sorted(missing))}")
    return [
        Tool(
            _NOT_IN_NAME.sub("_", prefix + tool.name)[:_MAX_NAME],
            description=tool.description or tool.title or "",
            parameters={"type": "object", "properties": {}, **tool.input_schema},
            read=_read,
            do=_caller(client, tool.name),
            strict=False,
            timeout=timeout,
            concurrency=concurrency,
            approve=approve,
        )
        for tool in listed
        if only is None or tool.name in only
    ]


_arguments = msgspec.json.Decoder(dict[str, Any])


def _read(text: str) -> dict[str, Any]:
    return _arguments.decode(text or "{}")


def _caller(client: Client, name: str) -> Any:
    """Return a function that calls one tool of the server."""

    async def call(context: RunContext[Any], arguments: dict[str, Any]) -> str:
        result = await client.call_tool(name, arguments)
        text = _text_of(result)
        if result.is_error:
            raise ToolError(text or "the server gave no reason")
        return text

    return call


def _text_of(result: Any) -> str:
    """Return a result as text: its text parts, with other parts named by type, or its structured content."""
    parts: list[str] = []
    for part in result.content:
        text = getattr(part, "text", None) or getattr(getattr(part, "resource", None), "text", None)
        parts.append(text if isinstance(text, str) else f"[{part.type}]")
    if not parts and result.structured_content is not None:
        return encode(result.structured_content).decode()
    return "\n".join(parts)
