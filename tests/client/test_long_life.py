"""A client in a process that lives for long: readers that meet, loops that stand still, callbacks that fail."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from aimlasync import APITimeoutError, AsyncClient, Endpoint, InternalServerError, Limits, Retry, Timeout
from aimlasync.client.chat_stream import ChatStream
from aimlasync.client.passthrough import Forwarded
from aimlasync.relay import Relay
from tests.support.servers import RawServer, Script, listening, raw_server, turns

HELLO = [{"role": "user", "content": "Hello"}]
PIECE = b'data: {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": null}]}\n\n'
LAST = b'data: {"choices": [{"index": 0, "delta": {"content": "z"}, "finish_reason": "stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
STREAM = Script([PIECE, PIECE, LAST, DONE], end="keep")
BODY = json.dumps({"choices": [{"message": {"content": "aaz"}, "finish_reason": "stop"}]}).encode()
ANSWER = Script([BODY], content_type="application/json", end="keep")
BROKEN = Script([b"{}"], status=500, content_type="application/json", end="keep")


def connect(*servers: RawServer, **options: Any) -> AsyncClient:
    options.setdefault("retry", Retry(attempts=1))
    options.setdefault("timeout", Timeout(total=60, connect=60))
    endpoints = [Endpoint(base_url=each.base_url, api_key="k", name=f"e{each.port}") for each in servers]
    return AsyncClient(endpoints=endpoints, **options)


async def open_chat(client: AsyncClient) -> ChatStream:
    stream: ChatStream = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
    return stream


async def whole(client: AsyncClient) -> str:
    return (await client.chat.completions.create(model="m", messages=HELLO)).text


async def streamed(client: AsyncClient) -> str:
    return (await (await open_chat(client)).collect()).text


READS: dict[str, Callable[[ChatStream], Awaitable[object]]] = {
    "iterate": lambda stream: anext(stream),
    "text": lambda stream: anext(stream.text),
    "collect": lambda stream: stream.collect(),
    "read_some": lambda stream: stream.read_some(),
}


@pytest.mark.parametrize("read", READS)
async def test_a_second_reader_of_a_stream_is_told_so_and_the_first_reads_on(read: str) -> None:
    async with raw_server(STREAM) as server, connect(server) as client:
        stream = await open_chat(client)
        while stream._ready:
            await anext(stream)
        first = asyncio.ensure_future(stream.collect())
        # It waits for a read now.
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task is reading this stream"):
            await READS[read](stream)
        assert (await first).text == "aaz"


async def test_a_second_reader_of_a_forwarded_answer_is_told_so_and_the_first_reads_on() -> None:
    go_on = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await until_blank(reader)
        answer = http(b"a" * 10, "text/plain")
        writer.write(answer[:-5])
        await go_on.wait()
        writer.write(answer[-5:])
        await reader.read()

    async def read(answer: Forwarded) -> bytes:
        return b"".join([piece async for piece in answer])

    async with listening(slow) as port, AsyncClient("k", f"http://127.0.0.1:{port}/v1") as client:
        answer = await client.forward("GET", "files/7")
        pieces = aiter(answer)
        assert await anext(pieces) == b"a" * 5
        first = asyncio.ensure_future(anext(pieces))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task is reading this answer"):
            await read(answer)
        go_on.set()
        assert await first == b"a" * 5


# A process that was suspended, or a loop that something blocked


def http(body: bytes, kind: str = "application/json") -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (kind.encode(), len(body), body)


EVENTS = http(PIECE + PIECE + LAST + DONE, "text/event-stream")
HEAD, FIRST = EVENTS.index(PIECE), EVENTS.index(PIECE) + len(PIECE)


async def until_blank(reader: asyncio.StreamReader) -> bytes:
    """The head of a request, empty when the client has left."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


async def iterated(client: AsyncClient, seen: Callable[[], None]) -> str:
    text = ""
    async for piece in (await open_chat(client)).text:
        text += piece
        seen()
    return text


async def forwarded(client: AsyncClient, seen: Callable[[], None]) -> str:
    data = b""
    async for piece in await client.forward("GET", "files/7"):
        data += piece
        seen()
    return data.decode()[-3:]


@pytest.mark.parametrize(
    ("timeout", "call", "answer", "before"),
    [
        (Timeout(total=30), whole, http(BODY), 0),
        (Timeout(total=None, attempt=30), whole, http(BODY), 0),
        (Timeout(total=30), streamed, EVENTS, 0),
        (Timeout(total=None, first_token=30), streamed, EVENTS, 0),
        (Timeout(total=None, first_token=30), streamed, EVENTS, HEAD),
        (Timeout(total=30), iterated, EVENTS, FIRST),
        (Timeout(total=None, idle=30), iterated, EVENTS, FIRST),
        (Timeout(total=None, idle=30), forwarded, http(b"1" * 9 + b"aaz", "text/plain"), 70),
    ],
)
def test_what_arrived_while_the_loop_stood_still_is_not_too_late(
    timeout: Timeout, call: Callable[..., Awaitable[str]], answer: bytes, before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, skew = time.monotonic, 0.0
    monkeypatch.setattr(time, "monotonic", lambda: clock() + skew)

    async def main() -> str:
        seen = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal skew
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer[:before])
            if call in (iterated, forwarded):
                await seen.wait()
            else:
                # The head, if anything: when that is read, nobody is told.
                await turns(60 if before else 0)
            skew += 60.0
            writer.write(answer[before:-5])
            # Longer than the turn in which the timer rings, which must not drop the connection.
            await turns(10)
            writer.write(answer[-5:])
            await reader.read()

        async with listening(serve) as port:
            url = f"http://127.0.0.1:{port}/v1"
            async with AsyncClient("k", url, timeout=timeout, retry=Retry(attempts=1)) as client:
                return await (call(client, seen.set) if call in (iterated, forwarded) else call(client))

    assert asyncio.run(main()) == "aaz"


# What an application adds


class Breaks(Exception):
    """Of what an application adds."""


POINTS = ["began", "headers", "stumbled", "arrived", "answered", "failed"]


class Fails:
    """An observer, and the watch of each of its calls, that fails at one point."""

    def __init__(self, point: str) -> None:
        self.point = point

    def began(self, *_: object) -> Any:
        self.at("began")
        return self

    @property
    def headers(self) -> dict[str, str]:
        self.at("headers")
        return {}

    def stumbled(self, *_: object) -> None:
        self.at("stumbled")

    def arrived(self, *_: object) -> None:
        self.at("arrived")

    def answered(self, *_: object) -> None:
        self.at("answered")

    def failed(self, *_: object) -> None:
        self.at("failed")

    def at(self, point: str) -> None:
        if point == self.point:
            raise Breaks(point)


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("call", [whole, streamed])
async def test_an_observer_that_fails_changes_no_call(
    point: str, call: Callable[[AsyncClient], Awaitable[str]], caplog: pytest.LogCaptureFixture
) -> None:
    answer = ANSWER if call is whole else STREAM
    retry = Retry(attempts=2, base=0.001)
    async with raw_server(BROKEN, answer, BROKEN) as server, connect(server, retry=retry) as client:
        client.observe(Fails(point))
        assert await call(client) == "aaz"
        with pytest.raises(InternalServerError):
            await call(client)
        limiter = client._pipeline.balancer.upstreams[0].limiter
        assert limiter.in_flight == 0
    if point != "arrived" or call is streamed:
        assert "an observer failed" in caplog.text
        assert "Breaks" in caplog.text


@pytest.fixture
def full_disk() -> Iterator[list[str]]:
    """A handler of all that is logged, which does not report its errors itself."""
    logged: list[str] = []

    class Full(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logged.append(f"{record.name} {record.module}")
            raise OSError(28, "No space left on device")

    logger, handler = logging.getLogger("aimlasync"), Full()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield logged
    logger.removeHandler(handler)
    logger.setLevel(level)


async def test_a_log_handler_that_fails_loses_no_call_and_no_place(
    full_disk: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    async with raw_server(BROKEN, ANSWER) as one, raw_server(BROKEN, ANSWER) as other:
        async with connect(one, other, retry=Retry(attempts=3, base=0.001), limits=Limits(concurrency=1)) as client:
            for _ in range(4):
                assert await whole(client) == "aaz"
            assert [each.in_flight for each in client.statistics()] == [0, 0]
    # With the module that said it, and not the one that all lines go through.
    assert {"aimlasync.retry balancer", "aimlasync.retry retries"} <= set(full_disk)
    assert "No space left on device" in capsys.readouterr().err


async def test_what_is_called_at_the_end_of_a_relay_may_fail(caplog: pytest.LogCaptureFixture) -> None:
    def ends(_: object) -> None:
        raise Breaks("at the end")

    async with raw_server(STREAM, BROKEN) as server, connect(server) as client:
        relay = Relay(client.chat.completions.create(model="m", messages=HELLO, stream=True), on_end=ends)
        sent = b"".join([message async for message in relay.messages()])
        assert b"event: done" in sent
        relay = Relay(client.chat.completions.create(model="m", messages=HELLO, stream=True), on_end=ends)
        assert [message async for message in relay.messages()] == []
        assert relay.failure is not None
        assert relay.failure.status == 502
    assert caplog.text.count("on_end of a relay failed") == 2


# Callers of one client


@pytest.mark.parametrize("bound", [Timeout(first_token=0.01), Timeout(attempt=0.01)], ids=["first_token", "attempt"])
@pytest.mark.parametrize("is_known", [False, True])
async def test_a_hasty_caller_closes_no_endpoint_to_the_others(is_known: bool, bound: Timeout) -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await until_blank(reader):
            length = int(head.lower().partition(b"content-length:")[2].split()[0])
            is_stream = b'"stream":true' in await reader.readexactly(length)
            await asyncio.sleep(0.3)
            writer.write(EVENTS if is_stream else http(BODY))

    async with listening(slow) as one, listening(slow) as other:
        endpoints = [Endpoint(base_url=f"http://127.0.0.1:{port}/v1", api_key="k") for port in (one, other)]
        async with AsyncClient(endpoints=endpoints, retry=Retry(attempts=2, base=0.001)) as client:
            if is_known:
                for _ in range(2):
                    assert await whole(client) == await streamed(client) == "aaz"
            for _ in range(10):
                with pytest.raises(APITimeoutError):
                    await client.with_options(timeout=bound).chat.completions.create(
                        model="m", messages=HELLO, stream=bound.attempt is None
                    )
            assert {each.state for each in client.statistics()} == {"ok"}
            assert await whole(client) == "aaz"
