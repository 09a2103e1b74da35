"""An MCP server for tests: over stdio, or over HTTP on the port that is its argument."""

from __future__ import annotations

import sys

from mcp.server.mcpserver import MCPServer


def stock(item: str, store: int = 1) -> str:
    """How many of an item are in stock."""
    return f"{len(item)} of {item} in store {store}"


async def prices(items: list[str]) -> dict[str, int]:
    """What items cost."""
    return {item: len(item) for item in items}


def broken() -> str:
    """Never works."""
    raise ValueError("out of order")


server = MCPServer("shop")
server.add_tool(stock)
server.add_tool(prices, name="shop.prices")
server.add_tool(broken)
if len(sys.argv) > 1:
    server.run("streamable-http", port=int(sys.argv[1]))
else:
    server.run("stdio")
