"""A call that waits for its answer is few objects: with thousands in flight, the garbage collector looks at each."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Coroutine
from types import CoroutineType, GeneratorType
from typing import Any

import pytest

from aimlasync import AsyncClient, Limits
from aimlasync.client.chat_stream import ChatStream
from aimlasync.transport import connection_pool
from tests.support.servers import Script, listening, raw_server

HELLO = [{"role": "user", "content": "Hello"}]
MODEL = "a-model-of-this-test"
CALLS = 20


class Silent:
    """A server that reads requests and answers none."""

    def __init__(self) -> None:
        self.requests = asyncio.Semaphore(0)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.requests.release()
        await reader.read()
        writer.close()


def tracked() -> Counter[str]:
    """What the collector looks at, by name: objects of this library and of aiohttp, our frames, and requests."""
    gc.collect()
    found = Counter[str]()
    for each in gc.get_objects():
        if isinstance(each, (CoroutineType, GeneratorType)):
            frame = each.cr_frame if isinstance(each, CoroutineType) else each.gi_frame
            if frame is not None and str(frame.f_globals["__name__"]).startswith("aimlasync."):
                found[frame.f_code.co_qualname] += 1
        elif isinstance(each, dict):
            if each.get("model") == MODEL:
                found["request"] += 1
        elif str(type(each).__module__).startswith(("aimlasync.", "aiohttp.")):
            found[type(each).__name__] += 1
    return found


AT_A_CONNECTION = {
    "Call": 1,
    "Attempt": 1,
    "Reply": 1,
    "Connection": 1,
    "Completions.create": 1,
    "Pipeline.run": 1,
    "Reply.__await__": 1,
}
IN_LINE = {name: count for name, count in AT_A_CONNECTION.items() if name != "Connection"}


def asked(client: AsyncClient, api: str) -> Coroutine[Any, Any, object]:
    if api == "Completions":
        return client.chat.completions.create(model=MODEL, messages=HELLO)
    return client.responses.create(model=MODEL, input=HELLO)


@pytest.mark.parametrize("api", ["Completions", "Responses"])
async def test_what_the_collector_looks_at_of_a_call_that_waits(api: str) -> None:
    silent = Silent()
    limits = Limits(concurrency=CALLS + 1)
    async with (
        listening(silent.accept) as port,
        AsyncClient(api_key="k", base_url=f"http://127.0.0.1:{port}/v1", limits=limits) as client,
    ):

        async def waiting(calls: int) -> list[asyncio.Task[object]]:
            tasks = [asyncio.create_task(asked(client, api)) for _ in range(calls)]
            for _ in tasks:
                await silent.requests.acquire()
            return tasks

        # The first one loads and makes what all others use.
        tasks = await waiting(1)
        before = tracked()
        tasks += await waiting(CALLS)
        seen = tracked() - before
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    found = {name.replace("Responses.", "Completions."): count / CALLS for name, count in seen.items()}
    assert found == AT_A_CONNECTION


async def test_a_stream_that_is_read_holds_no_request() -> None:
    said = b'data: {"choices": [{"index": 0, "delta": {"content": "hi"}}]}\n\n'
    async with (
        raw_server(Script([said], end="stall")) as server,
        AsyncClient(api_key="k", base_url=server.base_url, limits=Limits(concurrency=CALLS + 1)) as client,
    ):

        async def opened() -> ChatStream:
            return await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)

        streams = [await opened()]
        before = tracked()
        streams += [await opened() for _ in range(CALLS)]
        seen = tracked() - before
        for stream in streams:
            await stream.close()
    assert (seen["ChatStream"], seen["request"]) == (CALLS, 0)


async def test_a_call_that_waits_for_a_connection_is_no_more_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = Silent()
    limits = Limits(concurrency=CALLS + 1)
    async with (
        listening(silent.accept) as port,
        AsyncClient(api_key="k", base_url=f"http://127.0.0.1:{port}/v1", limits=limits) as client,
    ):
        first = asyncio.create_task(client.chat.completions.create(model=MODEL, messages=HELLO))
        await silent.requests.acquire()
        before = tracked()
        monkeypatch.setattr(connection_pool, "_DIALS", 0)
        tasks = [asyncio.create_task(client.chat.completions.create(model=MODEL, messages=HELLO)) for _ in range(CALLS)]
        await asyncio.sleep(0)
        seen = tracked() - before
        for task in (first, *tasks):
            task.cancel()
        await asyncio.gather(first, *tasks, return_exceptions=True)
    assert {name: count / CALLS for name, count in seen.items()} == IN_LINE
