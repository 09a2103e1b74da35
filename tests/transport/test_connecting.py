"""A connection to one address, whether its server answers with the next turn of the loop or later."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

import pytest

from aimlasync.transport import connecting
from aimlasync.transport.connecting import connected
from aimlasync.transport.connection_pool import LeanTransport
from tests.support.servers import Script, raw_server, until

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture(params=["near", "far", "connected in between"])
def distance(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    near = connecting._is_near

    async def begun(sock: socket.socket, address: Any) -> bool:
        sock.connect_ex(address)
        return False

    async def between(sock: socket.socket, address: Any) -> bool:
        await near(sock, address)
        raise OSError(errno.EISCONN, "it is connected")

    if request.param != "near":
        monkeypatch.setattr(connecting, "_is_near", begun if request.param == "far" else between)
    return str(request.param)


async def test_what_is_sent_arrives_at_once(distance: str) -> None:
    async with raw_server(Script(head=ANSWER, end="keep")) as server:
        transport = LeanTransport()
        reply = await transport.send("POST", f"{server.base_url}/x", {}, {}, b"{}", connect=60)
        assert await reply.read() == b"{}"
        (connection,) = transport.connections
        sock = connection.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        await transport.close()


async def test_a_refusal_is_an_error_and_leaves_no_socket(distance: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        await connected(asyncio.get_running_loop(), "127.0.0.1", port)


async def test_who_gives_up_leaves_no_socket(distance: str) -> None:
    async with raw_server(Script(head=ANSWER, end="keep")) as server:
        for step in range(4):
            dial = asyncio.ensure_future(connected(asyncio.get_running_loop(), "127.0.0.1", server.port))
            for _ in range(step):
                await asyncio.sleep(0)
            dial.cancel()
            (done,) = await asyncio.gather(dial, return_exceptions=True)
            if isinstance(done, socket.socket):
                done.close()
        await until(lambda: server.open_connections == 0)
