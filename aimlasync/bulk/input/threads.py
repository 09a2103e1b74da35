"""Work in threads that do not keep the process alive, since one may wait for a pipe or a server that is silent.

Imports nothing of this library.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


def begun(work: Callable[[], T]) -> Future[T]:
    """Do `work` in a thread."""
    result: Future[T] = Future()

    def do() -> None:
        try:
            value = work()
        except BaseException as error:  # noqa: BLE001  # raised where the result is taken
            result.set_exception(error)
        else:
            result.set_result(value)

    threading.Thread(target=do, name="aimlasync-input", daemon=True).start()
    return result


def done_each(work: Callable[[S], T], items: Iterable[S], *, at_once: int) -> Iterator[T]:
    """Do `work` with each item in a thread, `at_once` of them at a time, and give what it returns in their order."""
    running: deque[Future[T]] = deque()
    for item in items:
        if len(running) == at_once:
            yield running.popleft().result()
        running.append(begun(partial(work, item)))
    while running:
        yield running.popleft().result()
