"""What a transport does with connections, over both of them; and what is the lean one's own."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from aimlasync import APIConnectionError, APITimeoutError, AsyncClient, Endpoint, Limits, Retry, Timeout
from aimlasync.transport import aiohttp_session
from aimlasync.transport.aiohttp_session import AiohttpTransport
from aimlasync.transport.base import StaleConnectionError, Transport
from aimlasync.transport.connection_pool import LeanTransport
from tests.support.servers import RawServer, Script, listening, raw_server, soon_over, until

HELLO: Any = [{"role": "user", "content": "Hello"}]
BODY = json.dumps({"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}).encode()
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
SIZED = OK + b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
CHUNK = b'data: {"choices": [{"delta": {"content": "hi"}, "finish_reason": "stop"}]}\n\n'
HEADERS = {"Authorization": "Bearer k"}
CONNECTIONS = Path("/proc/net/tcp")


def raw(data: bytes, end: Any = "keep") -> Script:
    return Script(head=data, end=end)


def connect(server: RawServer, **options: Any) -> AsyncClient:
    options.setdefault("retry", Retry(attempts=1))
    return AsyncClient(api_key="k", base_url=server.base_url, timeout=Timeout(total=60, connect=60), **options)


def made(over: str) -> Transport:
    return LeanTransport() if over == "lean" else AiohttpTransport()


async def ask(client: AsyncClient) -> str | None:
    return (await client.chat.completions.create(model="m", messages=HELLO)).choices[0].message.content


ZIPPED = gzip.compress(BODY)
KEPT = {
    "length": SIZED,
    "1xx-first": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + SIZED,
}
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
ACCEPTED = {
    **KEPT,
    "gzip": OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(ZIPPED), ZIPPED),
    "gzip-chunked": CHUNKED.replace(b"\r\n", b"\r\nContent-Encoding: gzip\r\n", 1)
    + b"%x\r\n%b\r\n0\r\n\r\n" % (len(ZIPPED), ZIPPED),
    "trailers": CHUNKED + b"%x\r\n%b\r\n0\r\nX-Sum: 1\r\n\r\n" % (len(BODY), BODY),
    "extensions": CHUNKED + b"%x\r\n%b\r\n%x;a=b\r\n%b\r\n0\r\n\r\n" % (5, BODY[:5], len(BODY) - 5, BODY[5:]),
    "HTTP/1.0": SIZED.replace(b"HTTP/1.1", b"HTTP/1.0"),
}


@pytest.mark.parametrize("data", ACCEPTED.values(), ids=ACCEPTED.keys())
@pytest.mark.parametrize("split", [False, True], ids=["at-once", "split"])
async def test_odd_framings_and_encodings_are_answers_too(data: bytes, split: bool) -> None:
    cut = data.index(b"\r\n\r\n") + 7
    script = Script(head=data[:cut], chunks=[data[cut:]], end="keep") if split else raw(data)
    async with raw_server(script) as server, connect(server) as client:
        assert await ask(client) == "hi"
        assert await ask(client) == "hi"


@pytest.mark.parametrize("data", KEPT.values(), ids=KEPT.keys())
async def test_a_connection_is_used_again_whoever_read_the_response(data: bytes) -> None:
    async with raw_server(raw(data)) as server, connect(server) as client:
        for _ in range(3):
            assert await ask(client) == "hi"
        assert server.connections == 1


async def test_a_body_may_end_with_its_connection() -> None:
    async with raw_server(raw(OK + b"\r\n" + BODY, "eof")) as server, connect(server) as client:
        assert await ask(client) == "hi"
        assert await ask(client) == "hi"


@pytest.mark.parametrize(
    "data",
    [OK + b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY), SIZED + b"HTTP/1.1 200 OK\r\n"],
    ids=["it-says-so", "leftovers"],
)
async def test_a_connection_that_cannot_be_trusted_is_not_used_again(data: bytes) -> None:
    async with raw_server(raw(data)) as server, connect(server) as client:
        for _ in range(3):
            assert await ask(client) == "hi"
        assert server.connections == 3


@pytest.mark.parametrize(
    "data",
    [
        OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
        OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        OK + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}",
        OK + b"Content-Length: -1\r\n\r\n{}",
        b"220 hello\r\n\r\n",
    ],
)
async def test_a_response_with_two_ends_or_none_is_no_answer(data: bytes) -> None:
    async with raw_server(raw(data)) as server, connect(server) as client:
        with pytest.raises(APIConnectionError) as caught:
            await ask(client)
        assert caught.value.__context__ is None
        await until(lambda: server.open_connections == 0)


async def test_a_kept_connection_that_the_server_closed_is_replaced_and_counted() -> None:
    async with raw_server(raw(SIZED), raw(b"", "eof"), raw(SIZED)) as server, connect(server) as client:
        assert await ask(client) == "hi"
        reply = await client.chat.completions.create(model="m", messages=HELLO)
        assert reply.info.attempts == 2
        assert (len(server.requests), server.connections) == (3, 2)


async def test_a_fresh_connection_that_closes_is_not_stale_and_neither_is_one_that_began_to_answer(over: str) -> None:
    async with raw_server(raw(b"", "eof"), raw(SIZED), raw(b"HTTP/1.1 2", "eof")) as server:
        transport = made(over)
        url = f"{server.base_url}/x"
        with pytest.raises(APIConnectionError) as caught:
            await transport.send("POST", url, HEADERS, {}, b"{}", connect=1)
        assert not isinstance(caught.value, StaleConnectionError)
        assert await (await transport.send("POST", url, HEADERS, {}, b"{}", connect=1)).read() == BODY
        with pytest.raises(APIConnectionError) as caught:
            await transport.send("POST", url, HEADERS, {}, b"{}", connect=1)
        assert not isinstance(caught.value, StaleConnectionError)
        await transport.close()


class Held(aiohttp.abc.AbstractResolver):
    """Finds no address, and says when it begins to look for one."""

    looks = asyncio.Event()

    def __init__(self, **_: Any) -> None:
        pass

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> Any:
        self.looks.set()
        await asyncio.Event().wait()

    async def close(self) -> None:
        pass


async def test_connect_bounds_the_look_up_of_a_name_and_the_next_endpoint_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(aiohttp, "DefaultResolver", Held)
    monkeypatch.setattr(Held, "looks", asyncio.Event())
    async with raw_server(raw(SIZED)) as server:
        endpoints = [Endpoint(base_url="https://slow.example/v1"), Endpoint(base_url=server.base_url)]

        async def look(connect: float) -> None:
            options: dict[str, Any] = {"timeout": Timeout(connect=connect, total=20), "retry": Retry(attempts=2)}
            async with AsyncClient(endpoints=endpoints, **options) as client:
                reply = await client.chat.completions.create(model="m", messages=HELLO)
                assert (reply.text, reply.info.attempts) == ("hi", 2)
                assert client.statistics()[0].attempts == 1
                assert Held.looks.is_set()

        await soon_over(look)


async def test_connect_bounds_a_proxy_that_does_not_answer() -> None:
    silent = Script(end="stall", head=b"")
    async with raw_server(silent) as proxy:
        async with AsyncClient(
            api_key="k",
            base_url="https://127.0.0.1:9/v1",
            proxy=f"http://127.0.0.1:{proxy.port}",
            timeout=Timeout(connect=0.1, total=20),
            retry=Retry(attempts=1),
        ) as client:
            with pytest.raises(APITimeoutError) as caught:
                await ask(client)
            assert caught.value.phase == "connect"
            assert caught.value.billed is False


async def test_aiohttp_sends_nothing_twice_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    # The death of a connection is heard late on a busy machine.
    monkeypatch.setattr(aiohttp_session, "AT_ONCE", 60.0)
    # It would repeat a GET whose kept connection died.
    async with raw_server(raw(SIZED), raw(b"", "eof"), raw(b"", "eof"), raw(SIZED)) as server:
        transport = AiohttpTransport()
        url = f"{server.base_url}/x"
        await (await transport.send("GET", url, HEADERS, {}, None, connect=60)).read()
        with pytest.raises(StaleConnectionError):
            await transport.send("GET", url, HEADERS, {}, None, connect=60)
        assert len(server.requests) == 2
        await transport.close()


def idle_connections(client: AsyncClient) -> int:
    transport: Any = client._pipeline._transport
    if isinstance(transport, LeanTransport):
        return sum(len(origin._idle) for origin in transport._origins.values())
    return sum(map(len, transport._session.connector._conns.values()))


async def test_after_a_streams_end_its_connection_is_used_again() -> None:
    stream = Script([CHUNK, b"data: [DONE]\n\n", b": and something more\n\n"], end="keep")
    async with raw_server(stream) as server, connect(server) as client:
        for _ in range(3):
            answer = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
            assert (await answer.collect()).text == "hi"
            await until(lambda: idle_connections(client) == 1)
        assert server.connections == 1


async def test_what_a_server_sends_unasked_costs_it_the_connection(over: str) -> None:
    if over == "session":
        pytest.skip("aiohttp closes such a connection when it is taken next")
    async with raw_server(Script(head=SIZED, chunks=[b"", b"HTTP/1.1 200 OK\r\n"], end="keep")) as server:
        async with connect(server) as client:
            assert await ask(client) == "hi"
            await until(lambda: server.open_connections == 0)
            assert await ask(client) == "hi"
        assert server.connections == 2


async def test_a_large_body_is_not_sent_on_once_it_is_refused() -> None:
    ended = asyncio.Event()
    refused = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\n{}"
    taken = 0

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        await reader.readuntil(b"\r\n\r\n")
        writer.write(refused)
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(2**16):
                taken += len(data)
        writer.close()
        ended.set()

    async with listening(refuse) as port:
        transport = LeanTransport()
        reply = await transport.send("POST", f"http://127.0.0.1:{port}/", HEADERS, {}, bytes(50 * 2**20), connect=60)
        assert (reply.status, await reply.read()) == (413, b"{}")
        await transport.close()
        await ended.wait()
    assert taken < 40 * 2**20


async def test_a_server_is_not_read_faster_than_the_reader_takes_it() -> None:
    sent = 0

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(1024):
            writer.write(b"10000\r\n" + bytes(2**16) + b"\r\n")
            await writer.drain()
            sent += 1
        writer.write(b"0\r\n\r\n")
        writer.close()

    async with listening(pour) as port:
        transport = LeanTransport()
        reply = await transport.send("GET", f"http://127.0.0.1:{port}/", HEADERS, {}, None, connect=60)
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.05)
        # What the kernel holds is not ours to bound.
        assert sent < 512
        assert len(await reply.read()) == 2**26
        await transport.close()


@pytest.mark.parametrize(
    "own", [{"X-A": "b\r\nX-C: d"}, {"X-A\n": "b"}, {"X-A": "\0"}, {"Content-Length": "3"}, {"transfer-encoding": "x"}]
)
async def test_a_header_that_would_change_the_request_is_refused_and_nothing_is_sent(own: dict[str, str]) -> None:
    async with raw_server(raw(SIZED)) as server:
        transport = LeanTransport()
        url = f"{server.base_url}/x"
        for _ in range(2):
            with pytest.raises(ValueError, match="cannot be sent") as caught:
                await transport.send("POST", url, HEADERS, own, b"{}", connect=1)
            assert "Bearer" not in str(caught.value)
        assert await (await transport.send("POST", url, HEADERS, {}, b"{}", connect=1)).read() == BODY
        await transport.close()
    assert (len(server.requests), server.connections) == (1, 1)


async def test_more_calls_at_once_than_handshakes_at_once_are_all_answered() -> None:
    async with raw_server(raw(SIZED)) as server, connect(server, limits=Limits(concurrency=400)) as client:
        assert await asyncio.gather(*(ask(client) for _ in range(400))) == ["hi"] * 400
        assert server.connections <= 400


async def test_who_leaves_the_line_for_a_connection_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    from aimlasync.transport import connection_pool as lean

    monkeypatch.setattr(lean, "_DIALS", 1)
    async with raw_server(raw(SIZED)) as server:
        transport = LeanTransport()
        url = f"{server.base_url}/x"
        for step in range(12):
            calls = [
                asyncio.ensure_future(transport.send("POST", url, HEADERS, {}, b"{}", connect=1)) for _ in range(3)
            ]
            for _ in range(step):
                await asyncio.sleep(0)
            calls[1].cancel()
            done = await asyncio.gather(*calls, return_exceptions=True)
            replies = [reply for reply in done if not isinstance(reply, BaseException)]
            assert len(replies) >= 2
            for reply in replies:
                assert await reply.read() == BODY
            (origin,) = transport._origins.values()
            assert (origin._dialling, len(origin._queue)) == (0, 0)
            for connection in list(transport.connections):
                connection.drop()
        await transport.close()


ADDRESSES = {"one.test": ["127.0.0.1"], "two.test": ["127.0.0.2", "127.0.0.1"]}


async def addresses(_: Any, host: str, port: int = 0, family: Any = 0) -> Any:
    """A look-up; the servers of these tests are at the last address, and nobody is at another."""
    await asyncio.sleep(0)
    found = {"port": port, "family": socket.AF_INET, "proto": 0, "flags": 0, "hostname": host}
    return [{**found, "host": each} for each in ADDRESSES[host]]


@pytest.mark.parametrize("host", ["127.0.0.1", *ADDRESSES])
async def test_whatever_a_server_has_for_an_address_it_is_dialled_and_a_refusal_is_told(
    host: str, over: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aiohttp.DefaultResolver, "resolve", addresses)
    once = raw(SIZED.replace(b"\r\n", b"\r\nConnection: close\r\n", 1), end="close")
    async with contextlib.AsyncExitStack() as stack:
        transport = made(over)
        stack.push_async_callback(transport.close)
        async with raw_server(once, once) as server:
            url = f"http://{host}:{server.port}/x"
            for _ in range(2):
                reply = await transport.send("POST", url, HEADERS, {}, b"{}", connect=5)
                assert await reply.read() == BODY
            assert server.connections == 2
        # The addresses of a name are kept, and nobody is there any more.
        with pytest.raises(APIConnectionError, match=f"^could not connect to {host}:{server.port}: ") as caught:
            await transport.send("POST", url, HEADERS, {}, b"{}", connect=5)
        assert caught.value.billed is False


async def test_an_address_that_cannot_be_dialled_at_all_is_told_at_once(over: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        transport = made(over)
        stack.push_async_callback(transport.close)
        with pytest.raises(APIConnectionError) as caught:
            # Of some network here, but nobody says which.
            await transport.send("POST", "http://[fe80::1]:9/x", HEADERS, {}, b"{}", connect=30)
        assert not isinstance(caught.value, APITimeoutError)
        assert caught.value.billed is False


@pytest.mark.parametrize("host", ["127.0.0.1", *ADDRESSES])
@pytest.mark.parametrize("by", ["its caller", "the connect timeout"])
async def test_a_dial_that_is_given_up_at_any_step_leaves_no_connection_behind(
    by: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aiohttp.DefaultResolver, "resolve", addresses)
    async with raw_server(raw(SIZED)) as server:
        transport = LeanTransport()
        url = f"http://{host}:{server.port}/x"

        def idle() -> set[object]:
            return {connection for origin in transport._origins.values() for connection in origin._idle}

        for step in range(12):
            call = asyncio.ensure_future(transport.send("POST", url, HEADERS, {}, b"{}", connect=60))
            for _ in range(step):
                await asyncio.sleep(0)
            if by == "its caller":
                call.cancel()
            for origin in transport._origins.values() if by == "the connect timeout" else ():
                for alarm in origin._deadlines._open:
                    alarm.when = 0.0
                origin._deadlines._ring()
            (done,) = await asyncio.gather(call, return_exceptions=True)
            if isinstance(done, APITimeoutError):
                assert done.phase == "connect"
            elif isinstance(done, BaseException):
                assert isinstance(done, asyncio.CancelledError)
                assert by == "its caller"
            else:
                # It had its connection already.
                assert await done.read() == BODY
            for origin in transport._origins.values():
                assert (origin._dialling, origin._deadlines._open) == (0, set())
            # An answer may have come before the call was given up.
            await until(lambda: transport.connections == idle())
            for connection in list(transport.connections):
                connection.drop()
            for origin in transport._origins.values():
                origin._idle.clear()
        await until(lambda: server.open_connections == 0)
        await transport.close()


async def test_idle_connections_are_closed_in_time() -> None:
    async with raw_server(raw(SIZED)) as server:
        transport = LeanTransport(keepalive=0.05)
        reply = await transport.send("POST", f"{server.base_url}/x", HEADERS, {}, b"{}", connect=1)
        await reply.read()
        await until(lambda: server.open_connections == 0)
        assert not transport.connections
        await transport.close()


@pytest.mark.skipif(not CONNECTIONS.exists(), reason="Linux tells of the timers of its sockets")
async def test_the_kernel_looks_whether_the_other_end_of_a_silent_connection_is_still_there(over: str) -> None:
    async with raw_server(raw(SIZED)) as server:
        transport = made(over)
        reply = await transport.send("POST", f"{server.base_url}/x", HEADERS, {}, b"{}", connect=60)
        port = URL(server.base_url).port
        # Of each: number, local and remote address, state (01: established), queues, and the timer (02: keepalive).
        rows = [line.split() for line in CONNECTIONS.read_text().splitlines()[1:]]  # noqa: ASYNC240  # memory
        [timer] = [row[5] for row in rows if int(row[2].partition(":")[2], 16) == port and row[3] == "01"]
        assert timer.startswith("02:")
        await reply.read()
        await transport.close()


async def test_dropping_an_answered_response_does_not_hurt_the_call_that_has_its_connection_now() -> None:
    async with raw_server(raw(SIZED)) as server:
        transport = LeanTransport()
        url = f"{server.base_url}/x"
        first = await transport.send("POST", url, HEADERS, {}, b"{}", connect=1)
        await first.read()
        second = asyncio.ensure_future(transport.send("POST", url, HEADERS, {}, b"{}", connect=1))
        await asyncio.sleep(0)
        first.abort()
        first.finish()
        assert await (await second).read() == BODY
        assert server.connections == 1
        await transport.close()


@pytest.mark.parametrize("host", ["a..b", f"{'a' * 70}.test", "empty.test"])
async def test_a_name_that_cannot_be_looked_up_leads_to_the_next_endpoint(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up = aiohttp.DefaultResolver.resolve

    async def resolve(self: Any, name: str, *args: Any) -> Any:
        # What a resolver finds of a host that has addresses of another kind alone.
        return [] if name == "empty.test" else await look_up(self, name, *args)

    monkeypatch.setattr(aiohttp.DefaultResolver, "resolve", resolve)
    async with raw_server(raw(SIZED)) as server:
        gone = Endpoint(base_url=f"http://{host}/v1", allow_http=True)
        async with AsyncClient(endpoints=[gone, Endpoint(base_url=server.base_url)], timeout=10) as client:
            reply = await client.chat.completions.create(model="m", messages=HELLO)
            assert (reply.text, reply.info.attempts) == ("hi", 2)
        async with AsyncClient(endpoints=[gone], max_retries=0) as client:
            with pytest.raises(APIConnectionError, match=f"could not connect to {host}:80: (that is no|the) name"):
                await client.models.retrieve("m")


@pytest.mark.parametrize("stage", ["name", "TLS"])
async def test_calls_that_dial_when_their_client_is_closed_fail_at_once(
    stage: str, over: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aiohttp, "DefaultResolver", Held)
    monkeypatch.setattr(Held, "looks", asyncio.Event())
    async with raw_server(Script(end="stall", head=b"")) as server:
        host = "slow.example" if stage == "name" else "127.0.0.1"
        url, bound = f"https://{host}:{server.port}/v1", Timeout(connect=None if stage == "TLS" else 60)
        client = AsyncClient(api_key="k", base_url=url, timeout=bound, retry=Retry(attempts=1))
        calls = [asyncio.create_task(ask(client)) for _ in range(2)]
        if stage == "name":
            await Held.looks.wait()
        else:
            await until(lambda: server.connections == 2)
        await client.close()
        for call in calls:
            with pytest.raises(
                APIConnectionError, match=f"^the connection to {host}:{server.port} was closed$"
            ) as caught:
                await call
            assert caught.value.billed is False
            assert call.cancelling() == 0
        await until(lambda: server.open_connections == 0)
