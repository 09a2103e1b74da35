"""Iterators as asynchronous ones: iterated in place where they do not block, else read in a thread.

At most `max_ahead` items wait. Imports input's threads.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping
from typing import TypeVar

from aimlasync.bulk.input.threads import begun

T = TypeVar("T")


def check_many(items: object) -> None:
    """Raise TypeError for one item, and for a table, which iterates its columns or their names."""
    kind = type(items).__name__
    if isinstance(items, (str, bytes, Mapping)):
        raise TypeError(f"what is asked comes as a list or an iterator, not as one {kind}")
    if hasattr(items, "columns"):
        rows = next((name for name in ("to_pylist()", "to_dicts()") if hasattr(items, name[:-2])), "to_dict('records')")
        raise TypeError(f"what is asked comes as a list or an iterator, and a {kind} is neither; give its .{rows}")


async def later(items: Iterable[T] | AsyncIterable[T]) -> AsyncGenerator[T]:
    """Iterate `items` of either kind; those of an iterator that does not block."""
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


async def in_thread(items: Iterable[T], *, max_ahead: int = 64) -> AsyncGenerator[T]:
    """Iterate `items` without blocking the event loop. An exception of theirs is raised here, in its place."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Queue[tuple[T] | BaseException | None] = asyncio.Queue()
    room = threading.Semaphore(max_ahead)
    closed = threading.Event()

    def hand_over(what: tuple[T] | BaseException | None) -> None:
        try:
            loop.call_soon_threadsafe(ready.put_nowait, what)
        except RuntimeError:
            # The event loop is closed, so nothing reads the queue.
            closed.set()

    def read() -> None:
        try:
            for item in items:
                room.acquire()
                if closed.is_set():
                    return
                hand_over((item,))
        except BaseException as error:  # noqa: BLE001  # raised again, by the reader
            hand_over(error)
        else:
            hand_over(None)

    begun(read)
    try:
        while (what := await ready.get()) is not None:
            if isinstance(what, BaseException):
                raise what
            room.release()
            yield what[0]
    finally:
        closed.set()
        room.release()
