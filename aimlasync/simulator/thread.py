"""Runs a simulator in a thread with an event loop of its own, for code that has no event loop or must not share one.

It starts and stops the thread, and leaves everything else to `server`, which it imports.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from aimlasync.simulator.server import Simulator


@contextmanager
def serve_in_thread(**options: Any) -> Iterator[Simulator]:
    """Run a `Simulator` with these options in a background thread until the block ends.

    Its URL, ledger and faults' counters may be read from any thread. A request whose reply has been received is
    complete in the ledger. Raises what the start of the simulator raises.
    """
    sim = Simulator(**options)
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        stop = asyncio.Event()
        async with sim:
            started.set_result((asyncio.get_running_loop(), stop))
            await stop.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=run, name="aimlasync-simulator", daemon=True)
    thread.start()
    try:
        loop, stop = started.result()
    except BaseException:
        thread.join()
        raise
    try:
        yield sim
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
