"""The web app that overload.py and soak.py put under load, and the processes that it and its vendor run in.

The app is what the README shows: one client, streams relayed, errors as statuses; `/state` tells what it holds.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from aimlasync import AsyncClient, Endpoint
from aimlasync.simulator import Simulator
from aimlasync.starlette import client_of, event_stream, exception_handlers, lifespan

MODEL = "openai/gpt-5-nano-2025-08-07"
MESSAGES = [{"role": "user", "content": "My card was charged twice for the same invoice. What now?"}]


async def chat(request: Request) -> Response:
    """A streamed answer for the user `?user=`."""
    call = client_of(request).chat.completions.create(
        model=MODEL, messages=MESSAGES, stream=True, tenant=request.query_params.get("user")
    )
    return event_stream(call)


async def whole(request: Request) -> Response:
    """A whole answer."""
    client = client_of(request)
    user = request.query_params.get("user")
    return JSONResponse(
        {"text": (await client.chat.completions.create(model=MODEL, messages=MESSAGES, tenant=user)).text}
    )


async def state(request: Request) -> Response:
    """What the process holds."""
    return JSONResponse(held(client_of(request)))


def held(client: AsyncClient) -> dict[str, float]:
    """Memory, files, tasks, and what of the client is taken."""
    (endpoint,) = client.statistics()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return {
        "rss_mb": pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        "cpu_s": time.process_time(),
        "fds": len(os.listdir("/proc/self/fd")),
        "tasks": len(asyncio.all_tasks()),
        "in_flight": endpoint.in_flight,
        "queued": endpoint.queued,
        "attempts": endpoint.attempts,
        "retries": endpoint.retries,
    }


def app_of(base_url: str, *routes: Route, **options: Any) -> Starlette:
    """Return the app; `options` are the client's."""
    return Starlette(
        routes=[Route("/chat", chat), Route("/whole", whole), Route("/state", state), *routes],
        lifespan=lifespan(endpoints=[Endpoint.aimlapi(api_key="bench", base_url=base_url)], **options),
        exception_handlers=exception_handlers,
    )


async def serve(app: Any, tell: Callable[[str], None]) -> None:
    """Run an app until the process is told to end; `tell` is given its address."""
    config = uvicorn.Config(app, ws="none", lifespan="on", log_level="critical", access_log=False, backlog=4096)
    server = uvicorn.Server(config)
    # Bound before the server starts: a visitor that is early waits in the backlog.
    listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
    tell(f"http://127.0.0.1:{listening.getsockname()[1]}")
    await server.serve(sockets=[listening])


def _simulate(pipe: Connection, options: dict[str, Any]) -> None:
    # Clients that leave are what it is here for.
    logging.disable()

    async def main() -> None:
        async with Simulator(**options) as simulator:
            pipe.send(simulator.base_url)
            await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
            attempts = list(simulator.ledger)
            pipe.send(
                {
                    "attempts": len(attempts),
                    "peak_in_flight": simulator.ledger.peak_in_flight,
                    "disconnected": sum(attempt.disconnected for attempt in attempts),
                    "faults": sum(attempt.fault is not None for attempt in attempts),
                    "in_flight": simulator.admission.in_flight,
                }
            )

    asyncio.run(main())


@contextmanager
def simulating(**options: Any) -> Iterator[tuple[str, Callable[[], dict[str, int]]]]:
    """Run a simulator in a process of its own; yields its base URL and what asks it, once, for its account."""
    with in_process(_simulate, options) as (pipe, url):

        def account() -> dict[str, int]:
            pipe.send("end")
            told: dict[str, int] = pipe.recv()
            return told

        yield url, account


@contextmanager
def in_process(target: Callable[..., None], *arguments: Any) -> Iterator[tuple[Connection, str]]:
    """Run `target(pipe, *arguments)` in a new process until the block ends; yields our end of the pipe and its word."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, *arguments))
    process.start()
    theirs.close()
    try:
        yield ours, ours.recv()
    finally:
        process.terminate()
        process.join(20)
        if process.is_alive():
            process.kill()
