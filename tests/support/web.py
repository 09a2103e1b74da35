"""A web app on a real socket, and a browser that can leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from aimlasync.sse import Event, Parser

uvicorn = pytest.importorskip("uvicorn", reason="pip install 'aimlasync[test]' has what serves these apps")


class Serving:
    """A uvicorn server and the address of its app."""

    def __init__(self, server: Any, task: asyncio.Task[None]) -> None:
        self.server = server
        self.task = task

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """What SIGTERM does."""
        self.server.should_exit = True
        await self.task


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[Serving]:
    """Run an ASGI app in this loop."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, ws="none", lifespan="on", log_config=None))
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done(), "the app did not start"
        await asyncio.sleep(0.005)
    running = Serving(server, task)
    try:
        yield running
    finally:
        await running.stop()


@asynccontextmanager
async def browser() -> AsyncIterator[aiohttp.ClientSession]:
    """A client that keeps no connection: a response that it closes is a browser that leaves."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield session


async def events_of(response: aiohttp.ClientResponse) -> AsyncIterator[Event]:
    """The server-sent events of a response as they come."""
    parser = Parser()
    async for data in response.content.iter_any():
        for event in parser.feed(data):
            yield event
