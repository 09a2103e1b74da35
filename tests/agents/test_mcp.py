"""Claims about MCP: tools of a real server, over stdio and over HTTP, are tools like any other."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
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
    found = f"http://127.0.0.1:{port}/mcp"
    with server_at(found):
        yield found


@contextmanager
def server_at(url: str) -> Iterator[subprocess.Popen[bytes]]:
    port = url.split(":")[2].split("/")[0]
    process = subprocess.Popen([sys.executable, SERVER, port], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
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
    with pytest.raises(ValueError, match=r"has no tool stocks; it has: stock, shop\.prices, broken"):
        async with connect("stdio", "", only=["stocks"]):
            pass


async def test_headers_go_unencrypted_to_this_machine_alone() -> None:
    with pytest.raises(ValueError, match="allow_http"):
        async with mcp.http("http://mcp.example/mcp", headers={"Authorization": "Bearer secret"}):
            pass


# --- servers that do what they should not --------------------------------------------------------------------------

ODD = str(Path(__file__).parents[1] / "support" / "mcp_odd.py")


def odd(kind: str, **options: Any) -> Any:
    return mcp.stdio(sys.executable, ODD, kind, **options)


async def test_tools_whose_names_become_equal_are_told_apart(caplog: pytest.LogCaptureFixture) -> None:
    async with odd("names") as tools:
        names = [tool.name for tool in tools]
        turn = calls(*[Call.of(name) for name in names])
        async with scripted(turn, "done") as (_, client):
            run = await agents.run(client, model=MODEL, input="go", tools=tools)
    assert len(set(names)) == len(names) == 7
    assert (names[2], names[6]) == ("a_b", "ok")
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in names)
    # Each is the tool that the server knows under the name that it had.
    said = told(run)
    assert said[:3] == ["this is a.b", "this is a/b", "this is a_b"]
    assert [text[-1] for text in said[3:5]] == ["1", "2"]
    assert caplog.text.count("left out") == 2
    async with odd("names", only=["a/b", "ok"], prefix="x.") as tools:
        # Alone it needs no checksum.
        assert [tool.name for tool in tools] == ["x_a_b", "x_ok"]


@pytest.mark.parametrize("kind", ["endless", "same"])
async def test_a_list_of_tools_without_an_end_is_an_error(kind: str) -> None:
    with pytest.raises(ConnectionError, match="no end"):
        async with odd(kind, connect=300.0):
            pass


async def test_a_server_that_does_not_answer_is_an_error_in_time() -> None:
    with pytest.raises(ConnectionError, match=r"did not answer within 0\.5 s"):
        async with odd("mute", connect=0.5):
            pass


async def test_a_server_that_cannot_be_started_or_reached_is_one_line() -> None:
    with pytest.raises(ConnectionError, match="no-such-program cannot be used: FileNotFoundError"):
        async with mcp.stdio("no-such-program"):
            pass
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1 cannot be used"):
        async with mcp.http(f"http://127.0.0.1:{port}/mcp"):
            pass


async def test_what_a_call_of_a_server_takes_is_bounded() -> None:
    async with odd("slow", timeout=0.2) as tools, scripted(Call.of("slow"), "done") as (_, client):
        run = await agents.run(client, model=MODEL, input="go", tools=tools)
    assert told(run) == ["error: it took longer than 0.2 s"]
    async with odd("long") as tools, scripted(Call.of("long"), "done") as (_, client):
        run = await agents.run(client, model=MODEL, input="go", tools=tools)
    assert told(run)[0].endswith("[cut: these are the first 1000000 of 3000000 characters; ask for less]")


async def test_what_a_server_says_of_a_refused_call_is_for_the_model() -> None:
    async with odd("raises") as tools, scripted(Call.of("raises"), "done") as (_, client):
        run = await agents.run(client, model=MODEL, input="go", tools=tools)
    assert told(run) == ["error: the server refused the call: item must be positive"]


@pytest.mark.parametrize("images", [False, True])
async def test_structured_content_that_the_texts_lack_is_told(images: bool) -> None:
    async with odd("parts", images=images) as tools:
        turn = calls(*[Call.of(tool.name) for tool in tools])
        async with scripted(turn, "done") as (_, client):
            run = await agents.run(client, model=MODEL, input="go", tools=tools)
    summary, alone, *others = told(run)
    assert summary == '2 items\n{"items":[{"id":1},{"id":2}]}'
    assert alone == '{"items":[]}'
    assert others == ['{ "items": [] }', "sunny", "4", "a\n2"]


async def test_the_images_of_a_server_are_named_or_shown() -> None:
    for shows in (False, True):
        async with odd("image", images=shows) as tools, scripted(Call.of("image"), "done") as (_, client):
            run = await agents.run(client, model=MODEL, input="go", tools=tools)
        assert told(run) == ["a cat:\n[image]\n[audio]"]
        shown = [item["content"][1:] for item in run.items if isinstance(item.get("content"), list)]
        url = "data:image/jpeg;base64,aGk="
        assert shown == ([[{"type": "image_url", "image_url": {"url": url}}]] if shows else [])


async def test_a_server_that_dies_fails_its_calls_and_not_the_run() -> None:
    async with odd("dies") as tools, scripted(Call.of("dies"), "done") as (_, client):
        run = await agents.run(client, model=MODEL, input="go", tools=tools)
    assert (run.output, told(run)) == ("done", ["error: the server refused the call: Connection closed"])


async def test_a_server_that_died_is_started_again_for_the_next_call(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    block = mcp.stdio(sys.executable, ODD, "mortal", str(tmp_path / "died"))
    before = asyncio.all_tasks()
    turn = calls(Call.of("mortal"), Call.of("mortal"))
    async with block as tools, scripted(turn, turn, "done") as (_, client):
        run = await agents.run(client, model=MODEL, input="go", tools=tools)
    # Both were on the connection that was lost, and nobody knows what became of them; then one of two connects.
    lost, works = "error: the server refused the call: Connection closed", "this is mortal"
    assert told(run) == [lost, lost, works, works]
    assert caplog.text.count("was lost, and is made again") == 1
    assert asyncio.all_tasks() == before
    # Nor does a tool that is kept longer than its block start one.
    with pytest.raises(agents.ToolError, match="cannot be reached now"):
        await tools[0](agents.RunContext(None, None, None), {})  # type: ignore[arg-type]
    assert asyncio.all_tasks() == before


async def test_a_server_that_is_away_fails_calls_until_it_is_back_and_not_the_block() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/mcp"

    async def call(tool: agents.Tool) -> str:
        return str(await tool(agents.RunContext(None, None, None), {"item": "abc"}))  # type: ignore[arg-type]

    with server_at(url) as process:
        await listening(url)
        async with mcp.http(url, only=["stock"]) as (tool,):
            assert await call(tool) == "3 of abc in store 1"
            process.kill()
            process.wait()
            for why in ("Connection closed", "cannot be reached now"):
                with pytest.raises(agents.ToolError, match=why):
                    await call(tool)
            with server_at(url):
                await listening(url)
                assert await call(tool) == "3 of abc in store 1"
            with pytest.raises(agents.ToolError, match="Connection closed"):
                await call(tool)


async def test_the_block_may_be_left_by_another_task_and_several_in_any_order() -> None:
    one, two = odd("names"), odd("names")

    async def leave(block: Any) -> None:
        await block.__aexit__(None, None, None)

    tools = await asyncio.create_task(one.__aenter__())
    await asyncio.wait_for(two.__aenter__(), 60)
    async with scripted(Call.of("ok"), "done") as (_, client):
        run = await agents.run(client, model=MODEL, input="go", tools=tools)
    assert told(run) == ["this is ok"]
    await asyncio.create_task(leave(one))
    await asyncio.create_task(leave(two))
    before = asyncio.all_tasks()
    async with AsyncExitStack() as stack:
        await asyncio.gather(*[stack.enter_async_context(odd("names")) for _ in range(2)])
    assert asyncio.all_tasks() == before


async def test_a_connection_that_is_given_up_ends_its_server() -> None:
    before = asyncio.all_tasks()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5), odd("mute"):
            pass
    assert asyncio.all_tasks() == before


async def test_an_error_in_the_block_leaves_it_as_itself() -> None:
    for mine in (LookupError("mine"), ExceptionGroup("mine", [LookupError()]), asyncio.CancelledError()):
        with pytest.raises(type(mine)) as caught:
            async with odd("names"):
                raise mine
        assert caught.value is mine
