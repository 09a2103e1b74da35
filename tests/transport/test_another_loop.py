"""What holds for a client whose event loop has ended."""

from __future__ import annotations

import asyncio
import gc
import socket
from typing import Any

import aiohttp
import pytest

from aimlasync import AsyncClient
from aimlasync.simulator import serve_in_thread

MODEL = "openai/gpt-4.1-nano-2025-04-14"
HELLO: list[Any] = [{"role": "user", "content": "Hello"}]


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("is_open", [False, True], ids=["idle connection", "open stream"])
def test_a_client_is_closed_after_its_loop_has_ended(is_open: bool) -> None:
    with serve_in_thread() as server:
        kept: list[object] = []

        async def use() -> AsyncClient:
            client = AsyncClient(api_key="test", base_url=server.base_url)
            await client.chat.completions.create(model=MODEL, messages=HELLO)
            if is_open:
                stream = await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
                await anext(stream)
                kept.append(stream)
            return client

        client = asyncio.run(use())

        async def use_again(client: AsyncClient) -> None:
            with pytest.raises(RuntimeError, match="this client belongs to another event loop"):
                await client.chat.completions.create(model=MODEL, messages=HELLO)
            await client.close()
            await client.close()

        asyncio.run(use_again(client))
        assert client.is_closed
        kept.clear()
        del client
        gc.collect()


class _Held(aiohttp.abc.AbstractResolver):
    """Finds no address, and says when it begins to look for one."""

    looks = asyncio.Event()

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> Any:
        self.looks.set()
        await asyncio.Event().wait()

    async def close(self) -> None:
        pass


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("waits_for", ["address", "reply"])
def test_a_client_is_closed_after_its_loop_was_closed_under_a_call(
    waits_for: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aiohttp, "DefaultResolver", _Held)
    monkeypatch.setattr(_Held, "looks", asyncio.Event())
    calls: list[asyncio.Task[Any]] = []
    client = _left_behind(waits_for, calls)
    asyncio.run(client.close())
    assert client.is_closed
    assert not calls[0].done()
    calls.clear()
    del client
    gc.collect()


def _left_behind(waits_for: str, calls: list[asyncio.Task[Any]]) -> AsyncClient:
    loop = asyncio.new_event_loop()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        host = f"127.0.0.1:{server.getsockname()[1]}" if waits_for == "reply" else "slow.example"
        client = AsyncClient(api_key="test", base_url=f"http://{host}/v1", allow_http=True)

        async def begin() -> None:
            calls.append(loop.create_task(client.chat.completions.create(model=MODEL, messages=HELLO)))
            if waits_for == "address":
                await _Held.looks.wait()
                return
            connection, _ = await loop.sock_accept(server)
            with connection:
                await loop.sock_recv(connection, 1)

        loop.run_until_complete(begin())
        loop.close()
    return client
