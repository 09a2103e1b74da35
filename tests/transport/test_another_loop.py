"""What holds for a client whose event loop has ended."""

from __future__ import annotations

import asyncio
import gc
import socket
import subprocess
import sys
from typing import Any

import aiohttp
import pytest

from aimlasync import AimlasyncError, AsyncClient, Endpoint, Limits, OverloadedError
from aimlasync.quota.server import ServedQuota
from aimlasync.simulator import serve_in_thread
from tests.support.servers import Script, raw_server, until

MODEL = "openai/gpt-4.1-nano-2025-04-14"
HELLO: list[Any] = [{"role": "user", "content": "Hello"}]


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("is_open", [False, True], ids=["idle connection", "open stream"])
def test_a_client_is_used_and_closed_after_its_loop_has_ended(is_open: bool) -> None:
    with serve_in_thread() as server:
        kept: list[object] = []
        client = AsyncClient(api_key="test", base_url=server.base_url, limits=Limits(concurrency=1))
        copy = client.with_options(timeout=60)

        async def use(client: AsyncClient) -> None:
            await client.chat.completions.create(model=MODEL, messages=HELLO)
            if is_open:
                stream = await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
                await anext(stream)
                kept.append(stream)

        asyncio.run(use(client))
        # The copy has the same life. A stream that the first loop left open holds none of the one permit.
        asyncio.run(use(copy))
        (told,) = client.statistics()
        assert (told.answered, told.queued, told.attempts) == ((4, 0, 4) if is_open else (2, 0, 2))
        asyncio.run(client.close())
        assert client.is_closed
        kept.clear()
        del client, copy, told
        gc.collect()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_another_loop_does_not_begin_a_new_minute() -> None:
    with serve_in_thread() as server:
        client = AsyncClient(
            api_key="test", base_url=server.base_url, limits=Limits(requests_per_minute=2), max_wait=0.001
        )

        async def use() -> None:
            await client.chat.completions.create(model=MODEL, messages=HELLO)

        asyncio.run(use())
        asyncio.run(use())
        with pytest.raises(OverloadedError):
            asyncio.run(use())
        gc.collect()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_client_of_a_shared_quota_belongs_to_one_loop() -> None:
    quota = ServedQuota("9:secret", timeout=0.01)
    limits = Limits(requests_per_minute=60)
    endpoint = Endpoint(base_url="http://127.0.0.1:9/v1", api_key="k", quota=quota, limits=limits)
    client = AsyncClient(endpoints=[endpoint], max_wait=0.001)

    async def use() -> None:
        await client.chat.completions.create(model=MODEL, messages=HELLO)

    with pytest.raises(AimlasyncError):
        asyncio.run(use())
    with pytest.raises(RuntimeError, match="another event loop"):
        asyncio.run(use())


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_client_with_a_proxy_goes_on_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    with serve_in_thread() as server:
        client = AsyncClient(
            api_key="test",
            base_url="http://model.invalid/v1",
            proxy=server.base_url.removesuffix("/v1"),
            allow_http=True,
        )

        async def use() -> None:
            await client.chat.completions.create(model=MODEL, messages=HELLO)

        for _ in range(3):
            asyncio.run(use())
            gc.collect()
        asyncio.run(client.close())
        gc.collect()
    assert not caplog.records


_FORKS = """
import asyncio, os, sys
from aimlasync import AsyncClient
client = AsyncClient(api_key="test", base_url=sys.argv[1])
ids, said = os.pipe()
async def ask():
    reply = await client.chat.completions.create(model=sys.argv[2], messages=[{"role": "user", "content": "Hello"}])
    os.write(said, reply.info.request_id.encode() + b" ")
    return bool(reply.text)
def forked():
    child = os.fork()
    if child == 0:
        os._exit(0 if asyncio.run(ask()) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
forked()
loop = asyncio.new_event_loop()
assert loop.run_until_complete(ask())
forked()
forked()
assert loop.run_until_complete(ask())
assert len(set(os.read(ids, 4096).split())) == 5
loop.run_until_complete(client.close())
loop.close()
"""


def test_a_forked_process_goes_on_with_connections_and_request_ids_of_its_own() -> None:
    with serve_in_thread() as server:
        subprocess.run([sys.executable, "-c", _FORKS, server.base_url, MODEL], check=True, timeout=300)


async def test_the_connections_of_a_client_that_nobody_closed_are_closed_with_it() -> None:
    answer = b'{"choices": [{"message": {"content": "Hi"}}]}'
    async with raw_server(Script([answer], content_type="application/json", end="keep")) as server:
        client: AsyncClient | None = AsyncClient(api_key="test", base_url=server.base_url)
        assert client is not None
        await client.chat.completions.create(model=MODEL, messages=HELLO)
        assert server.open_connections == 1
        client = None
        gc.collect()
        await until(lambda: server.open_connections == 0)


async def test_a_stream_outlives_a_client_that_nobody_closed() -> None:
    with serve_in_thread() as server:
        ask = AsyncClient(api_key="test", base_url=server.base_url).chat.completions.create
        stream = await ask(model=MODEL, messages=HELLO, stream=True)
        del ask
        gc.collect()
        # The connections that nobody needs are closed in the next turn of the loop.
        await asyncio.sleep(0)
        assert (await stream.collect()).text


def test_without_asyncios_loop_a_call_says_what_it_needs() -> None:
    call = AsyncClient(api_key="test", base_url="http://127.0.0.1:9/v1").chat.completions.create(
        model=MODEL, messages=HELLO
    )
    with pytest.raises(RuntimeError, match="aimlasync runs on asyncio alone"):
        call.send(None)


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


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_client_is_drained_after_its_loop_was_closed_under_calls_that_wait() -> None:
    loop = asyncio.new_event_loop()
    client = AsyncClient(api_key="test", base_url="http://127.0.0.1:9/v1")
    client._pipeline.balancer.upstreams[0].limiter.pause(loop.time() + 10)

    async def begin(client: AsyncClient) -> list[asyncio.Task[Any]]:
        calls = [loop.create_task(client.chat.completions.create(model=MODEL, messages=HELLO)) for _ in range(2)]
        await until(lambda: client.queued == 2)
        return calls

    calls = loop.run_until_complete(begin(client))
    loop.close()

    async def end(client: AsyncClient) -> None:
        client.drain()
        await client.close()

    asyncio.run(end(client))
    assert not any(call.done() for call in calls)
    calls.clear()
    del client
    gc.collect()
