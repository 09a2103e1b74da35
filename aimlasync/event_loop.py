"""The event loop of a program: uvloop where it is installed, asyncio's own elsewhere.

Law: chooses for the program that asks, once, and sets nothing for anybody else: no policy, no default loop. uvloop (the
extra `uvloop`) is imported here alone, and not before it is needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

Factory = Callable[[], asyncio.AbstractEventLoop]


def run(main: Coroutine[Any, Any, T], *, debug: bool | None = None, loop_factory: Factory | None = None) -> T:
    """Run a program and return what `main` returns: `asyncio.run`, on uvloop if that is installed.

    `loop_factory` makes another loop: `asyncio.new_event_loop` is asyncio's own, whatever is installed. `debug` is
    asyncio's debug mode; None leaves it to PYTHONASYNCIODEBUG. Ctrl-C cancels `main`, as it does in `asyncio.run`.
    Raises RuntimeError when a loop is running in this thread.
    """
    if asyncio._get_running_loop() is not None:
        # Before there is a second loop, whose end would take the first one's place away.
        raise RuntimeError("aimlasync.run() cannot be called from a running event loop; await the coroutine there")
    with asyncio.Runner(debug=debug, loop_factory=loop_factory or _fastest()) as runner:
        return runner.run(main)


def _fastest() -> Factory:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop
