"""A client in a process that lives for long: readers that meet, loops that stand still, callbacks that fail."""

from __future__ import annotations

import asyncio

import pytest

from aimlasync import AsyncClient, Retry, Timeout
from tests.support.servers import Script, raw_server

HELLO = [{"role": "user", "content": "Hello"}]
PIECE = b'data: {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": null}]}\n\n'
LAST = b'data: {"choices": [{"index": 0, "delta": {"content": "z"}, "finish_reason": "stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize("read", ["iterate", "text", "collect", "read_some"])
async def test_a_second_reader_of_a_stream_is_told_so_and_the_first_reads_on(read: str) -> None:
    async with raw_server(Script([PIECE, PIECE, LAST, DONE], end="keep")) as server:
        options = {"retry": Retry(attempts=1), "timeout": Timeout(total=60)}
        async with AsyncClient(api_key="k", base_url=server.base_url, **options) as client:
            stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
            while stream._ready:
                await anext(stream)
            first = asyncio.ensure_future(stream.collect())
            # It waits for a read now.
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="another task is reading this stream"):
                if read == "iterate":
                    await anext(stream)
                elif read == "text":
                    await anext(stream.text)
                elif read == "collect":
                    await stream.collect()
                else:
                    await stream.read_some()
            assert (await first).text == "aaz"
