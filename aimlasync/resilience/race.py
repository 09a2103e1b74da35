"""Two ways to the same result; the first that works counts.

Law: asyncio only, nothing of ours. Whatever happens, both have ended when `race` does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def race(
    first: Coroutine[Any, Any, T],
    second: Callable[[], Coroutine[Any, Any, T] | None],
    *,
    delay: float,
    drop: Callable[[T], None],
) -> T:
    """Return what `first` returns, or, if it takes longer than `delay` seconds, what the faster of both does.

    `second` may return None: then there is none. When both fail, the error is that of `first`. `drop` is given the
    result of the one that came too late to be the first.
    """
    tasks = [asyncio.create_task(first)]
    winner: asyncio.Task[T] | None = None
    try:
        await asyncio.wait(tasks, timeout=delay)
        if not tasks[0].done() and (other := second()) is not None:
            tasks.append(asyncio.create_task(other))
        pending = set(tasks)
        while winner is None and pending:
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            winner = next((task for task in tasks if _has_result(task)), None)
        return (winner or tasks[0]).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            if task is not winner and _has_result(task):
                drop(task.result())


def _has_result(task: asyncio.Task[Any]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None
