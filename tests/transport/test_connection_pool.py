"""Requests that wait in the queue for a connection: who is next is sent over the one that becomes free, or dials."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from aimlasync import APIConnectionError, APITimeoutError
from aimlasync.transport import connection_pool
from aimlasync.transport.base import RawReply
from aimlasync.transport.connection_pool import LeanTransport, Origin
from tests.support.servers import RawServer, Script, raw_server, until

BODY = json.dumps({"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}).encode()
SIZED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
HEADERS = {"Authorization": "Bearer k"}


class Line:
    """Requests of which none may dial until `serve`."""

    def __init__(self, server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server, self.transport = server, LeanTransport()
        self.monkeypatch = monkeypatch
        monkeypatch.setattr(connection_pool, "_DIALS", 0)

    @property
    def origin(self) -> Origin:
        (origin,) = self.transport._origins.values()
        return origin

    async def join(self, body: bytes, *, fresh: bool = False, connect: float | None = 60) -> asyncio.Future[RawReply]:
        url = f"{self.server.base_url}/x"
        send = self.transport.send("POST", url, HEADERS, {}, body, connect=connect, fresh=fresh)
        task = asyncio.ensure_future(send)
        await asyncio.sleep(0)
        return task

    async def serve(self) -> None:
        """A connection becomes free."""
        connection = await self.origin.dial(60)
        connection.is_reused = True
        self.origin.give(connection)


@asynccontextmanager
async def standing(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Line]:
    async with raw_server(Script(head=SIZED, end="keep")) as server:
        line = Line(server, monkeypatch)
        try:
            yield line
        finally:
            await line.transport.close()


async def test_one_connection_serves_the_whole_line_in_order_and_bodies_of_any_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with standing(monkeypatch) as line:
        bodies = [b"1", b"2" * 700_000, b"3", b"4" * 300_000]
        tasks = [await line.join(body) for body in bodies]
        await line.serve()
        for task in tasks:
            assert await (await task).read() == BODY
        assert line.server.bodies == bodies
        assert line.server.connections == 1
        assert line.origin._deadlines._open == set()


async def test_a_free_connection_is_written_to_before_anybody_wakes_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async with standing(monkeypatch) as line:
        task = await line.join(b"{}")
        connection = await line.origin.dial(60)
        line.origin.give(connection)
        assert connection.reply is not None
        assert await (await task).read() == BODY


async def test_who_wants_a_fresh_connection_dials_when_its_turn_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    async with standing(monkeypatch) as line:
        fresh, other = await line.join(b"fresh", fresh=True), await line.join(b"other")
        await line.serve()
        for task in (fresh, other):
            assert await (await task).read() == BODY
        assert line.server.connections == 2
        assert (line.origin._dialling, len(line.origin._queue)) == (0, 0)


async def test_who_left_the_line_is_passed_over_and_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async with standing(monkeypatch) as line:
        left, stayed = await line.join(b"left"), await line.join(b"stayed")
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        assert not line.origin._queue[0].head
        await line.serve()
        assert await (await stayed).read() == BODY
        assert line.server.bodies == [b"stayed"]


async def test_the_connect_timeout_ends_a_wait_in_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    async with standing(monkeypatch) as line:
        late, stayed = await line.join(b"late"), await line.join(b"stayed", connect=None)
        for alarm in line.origin._deadlines._open:
            alarm.when = 0.0
        line.origin._deadlines._ring()
        with pytest.raises(APITimeoutError, match=r"no connection to 127\.0\.0\.1:") as caught:
            await late
        assert (caught.value.phase, caught.value.billed) == ("connect", False)
        await line.serve()
        assert await (await stayed).read() == BODY
        await until(lambda: line.server.bodies == [b"stayed"])


async def test_closing_ends_all_waits_in_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    async with standing(monkeypatch) as line:
        tasks = [await line.join(b"{}") for _ in range(3)]
        await line.transport.close()
        for task in tasks:
            with pytest.raises(APIConnectionError, match=r"was closed$"):
                await task
        assert line.server.connections == 0
