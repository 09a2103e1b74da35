"""What holds for a client whose event loop has ended."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

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
