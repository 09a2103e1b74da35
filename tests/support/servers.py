"""Servers for tests: exact bytes on a real socket, and an exact end."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from aimlasync import APITimeoutError, Limits
from aimlasync.event_loop import stop_listening

T = TypeVar("T")

KEY = "sentinel-key-4711"
"""What the fixture `vendor` puts into the environment."""

LEARNS_NOTHING = Limits(concurrency=8)
"""For calls that are refused and sent again: a rate that is learned from a refusal keeps the next for two seconds."""

End = Literal["eof", "reset", "cut", "truncated_chunked", "stall", "keep"]
"""`cut` is a FIN with nothing before it, which over TLS means without a close_notify."""


@dataclass
class Script:
    """What a server answers to one request, byte for byte."""

    chunks: Sequence[bytes] = ()
    status: int = 200
    content_type: str | None = "text/event-stream"
    headers: Sequence[tuple[str, str]] = ()
    end: End = "eof"
    head: bytes | None = None
    """Sent instead of a status line and headers."""


@dataclass
class RawServer:
    """Answers request number n with script number n, the last one for all that follow."""

    scripts: Sequence[Script]
    port: int = 0
    requests: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    connections: int = 0
    open_connections: int = 0
    scheme: str = "http"

    @property
    def base_url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/v1"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open_connections += 1
        try:
            while await self.answer(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except RuntimeError as error:
            # What uvloop raises where asyncio raises ConnectionError.
            assert "closed" in str(error)  # noqa: PT017
        finally:
            self.open_connections -= 1

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        body = await reader.readexactly(length)
        script = self.scripts[min(len(self.requests), len(self.scripts) - 1)]
        self.requests.append(head)
        self.bodies.append(body)
        if script.head is not None:
            writer.write(script.head)
        else:
            writer.write(self.response_head(script))
        for chunk in script.chunks:
            writer.write(chunk if script.head is not None else b"%x\r\n%b\r\n" % (len(chunk), chunk))
            await writer.drain()
            # Each chunk is a read of its own for the client.
            await asyncio.sleep(0.002)
        if script.end in ("eof", "keep") and script.head is None:
            writer.write(b"0\r\n\r\n")
            await writer.drain()
            return script.end == "keep"
        if script.end == "reset":
            reset(writer)
        elif script.end == "cut":
            writer.transport.abort()
        elif script.end == "stall":
            await reader.read()
        elif script.end == "keep":
            return True
        return False

    def response_head(self, script: Script) -> bytes:
        lines = [f"HTTP/1.1 {script.status} Whatever", "Transfer-Encoding: chunked"]
        if script.content_type is not None:
            lines.append(f"Content-Type: {script.content_type}")
        lines += [f"{name}: {value}" for name, value in script.headers]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with a TCP reset."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def listening(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]],
    host: str = "127.0.0.1",
    port: int = 0,
    **options: Any,
) -> AsyncIterator[int]:
    """Serve each connection on loopback by a task, and leave neither of them behind; gives the port."""
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(answer(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        # Here, so that a task that is cancelled before it began leaves no connection open.
        task.add_done_callback(lambda _: writer.close())

    server = await asyncio.start_server(accept, host, port, **options)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        await stop_listening(server)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


@asynccontextmanager
async def raw_server(
    *scripts: Script, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[RawServer]:
    """Serve the scripts on loopback."""
    state = RawServer(scripts, scheme="http" if tls is None else "https")
    async with listening(state.handle, host, port, ssl=tls) as state.port:
        yield state


async def until(condition: Callable[[], object]) -> None:
    """Wait for what other tasks are about to do."""
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.002)


async def soon_over(begin: Callable[[float], Awaitable[T]], seconds: float = 0.05) -> T:
    """What `begin` gives within a bound that ends soon after; a busy machine takes a longer one to begin at all."""
    while True:
        try:
            return await begin(seconds)
        except APITimeoutError:
            seconds *= 2


STEPS = 2000
"""The most steps of what is cancelled at every step until it goes to its end."""


async def turns(count: int) -> None:
    """Let the loop make so many turns; each after the first 40 takes real time, as the server's pauses do."""
    for number in range(count):
        await asyncio.sleep(0 if number < 40 else 0.001)
