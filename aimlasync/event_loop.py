"""The event loop of a program: uvloop where it is installed, asyncio's own elsewhere.

`run` chooses a loop for one program. It changes no process-wide setting: neither the event loop policy nor the default
loop. This is the only file that imports uvloop (the extra `uvloop`), and it does so when `run` or `fastest` is called.
`stop_listening` closes a server of either loop. This file imports nothing of this library.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

Factory = Callable[[], asyncio.AbstractEventLoop]


def run(main: Coroutine[Any, Any, T], *, debug: bool | None = None, loop_factory: Factory | None = None) -> T:
    """Run a program and return what `main` returns: `asyncio.run`, on uvloop if that is installed.

    `loop_factory` makes another loop: `asyncio.new_event_loop` is asyncio's own, whatever is installed. `debug` is
    asyncio's debug mode; None leaves it to PYTHONASYNCIODEBUG. Ctrl-C cancels `main`, as it does in `asyncio.run`.
    Raises RuntimeError when a loop is running in this thread.
    """
    if _is_running():
        # Checked before a second loop is made: closing it would unset the running one.
        raise RuntimeError("aimlasync.run() cannot be called from a running event loop; await the coroutine there")
    with asyncio.Runner(debug=debug, loop_factory=loop_factory or fastest()) as runner:
        return runner.run(main)


def no_loop(error: RuntimeError) -> RuntimeError:
    """Return the error of a call where no loop of asyncio runs, as under trio: it says what is needed."""
    return RuntimeError(f"{error}: aimlasync runs on asyncio alone, as with asyncio.run(main())")


def clock_of(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """Return `loop.time`, or what it calls, where the loop is asyncio's own: a call less for each look at the time."""
    return time.monotonic if type(loop).time is asyncio.BaseEventLoop.time else loop.time


def _is_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def fastest() -> Factory:
    """Return what makes a loop of uvloop, which is imported, or of asyncio where that is not installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


async def stop_listening(server: asyncio.Server) -> None:
    """Close a server, of whose connections the caller then knows all.

    What it had accepted becomes a connection first: once a server is closed, asyncio fails to make it one, and leaves
    it open.
    """
    loop = asyncio.get_running_loop()
    for listens in server.sockets:
        # A proactor has no readers.
        with suppress(NotImplementedError):
            loop.remove_reader(listens)
    for _ in range(2):
        await asyncio.sleep(0)
    server.close()
