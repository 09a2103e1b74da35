"""Claims about MCP: tools of a real server, over stdio and over HTTP, are tools like any other."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from aimlasync import agents
from aimlasync.simulator import Call
from tests.support.scripted import ENDPOINTS, MODEL, calls, scripted, told

mcp_package = pytest.importorskip("mcp.server.mcpserver", reason="pip install 'aimlasync[mcp]' runs these tests")

from aimlasync.agents import mcp  # noqa: E402  # only where the package is there

# Each test starts a server of its own over stdio, which takes a second: one loop has to do.
pytestmark = pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": False})])
SERVER = str(Path(__file__).parents[1] / "support" / "mcp_server.py")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The address of an MCP server in another process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, SERVER, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.kill()
        process.wait()


def connect(kind: str, url: str, **options: Any) -> Any:
    if kind == "stdio":
        # What a server writes to stderr is the caller's to see; these tests need none of it.
        return mcp.stdio("sh", "-c", f'exec "{sys.executable}" "{SERVER}" 2>/dev/null', **options)
    return mcp.http(url, headers={"Authorization": "Bearer secret"}, **options)


async def listening(url: str) -> None:
    port = int(url.split(":")[2].split("/")[0])
    for _ in range(400):
        try:
            await (await anyio.connect_tcp("127.0.0.1", port)).aclose()
        except OSError:
            await anyio.sleep(0.05)
        else:
            return
    raise AssertionError("the MCP server did not start")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("kind", ["stdio", "http"])
async def test_tools_of_a_server_are_tools_like_any_other(endpoint: Any, kind: str, url: str) -> None:
    await listening(url)

    async def weather(city: str) -> str:
        return f"sunny in {city}"

    turn = calls(
        Call.of("stock", item="pens"),
        Call.of("broken"),
        Call.of("shop_prices", items=["pen", "inks"]),
        Call.of("stock", item=3),
        Call("stock", '{"item"'),
        Call.of("weather", city="Rome"),
    )
    async with scripted(turn, "done") as (sim, client), connect(kind, url) as tools:
        run = await agents.run(client, model=MODEL, input="go", tools=[*tools, weather], endpoint=endpoint)
    assert run.output == "done"
    stock, broken, prices, wrong, half, own = told(run)
    assert (stock, own) == ("4 of pens in store 1", "sunny in Rome")
    assert broken.startswith("error: Error executing tool broken")
    assert '"pen"' in prices
    assert "valid string" in wrong
    assert "arguments of stock are wrong" in half
    spec = sim.ledger[0].body["tools"][0]
    spec = spec.get("function", spec)
    assert (spec["name"], spec["description"]) == ("stock", "How many of an item are in stock.")
    assert spec["strict"] is False
    assert spec["parameters"]["required"] == ["item"]


@pytest.mark.parametrize("kind", ["stdio", "http"])
async def test_a_part_of_the_tools_may_be_taken_under_other_names_and_bounds(kind: str, url: str) -> None:
    await listening(url)
    async with connect(kind, url, only=["stock"], prefix="shop_", timeout=5, approve=True) as tools:
        (stock,) = tools
    assert (stock.name, stock.timeout, stock.approve) == ("shop_stock", 5, True)


async def test_a_tool_that_the_server_does_not_have_is_an_error() -> None:
    # Errors leave the groups of the mcp package one in another.
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        async with connect("stdio", "", only=["stocks"]):
            pass
    error: BaseException = caught.value
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    assert "has no tool stocks" in str(error)


async def test_headers_go_unencrypted_to_this_machine_alone() -> None:
    with pytest.raises(ValueError, match="allow_http"):
        async with mcp.http("http://mcp.example/mcp", headers={"Authorization": "Bearer secret"}):
            pass
