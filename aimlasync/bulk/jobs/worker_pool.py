"""A fixed number of workers over an input of any length.

`WorkerPool` knows neither HTTP nor rows and imports asyncio and `Waiters` alone. There is no task per item, so memory
grows with the workers and not with the input. An item is taken only when a worker is free and its result has room; a
result that exists is not lost to a cancellation, because it is handed over without an await.
The workers are plain asyncio tasks and no task group: the results are iterated, and an iteration may be left in another
task than the one that began it, which a task group does not survive.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Generic, Self, TypeVar

from aimlasync.bulk.jobs.waiters import Waiters

T = TypeVar("T")
R = TypeVar("R")
V = TypeVar("V")


# Rows at work where no concurrency is given: more than any adaptive limit starts with, and little memory.
WORKERS = 256
# Calls that may wait for a permit, at each model in use: there must be one whenever a permit is free, and more of them
# are asked about for nothing when the job is stopped.
MAX_WAITING = 16


# More than a machine has ports towards a server: so many tasks are begun at once, whatever is asked for.
MOST_WORKERS = 2**16


class WorkerPool(Generic[T, R]):
    """The results of doing `do` to each of `items`, in the order in which they are ready.

    Iterate it inside `async with`; left early, calls in flight are cancelled. An exception of `items` or `do` ends the
    work: calls in flight finish, then it is raised from the iteration. An asynchronous generator of items is closed.
    None among the items is no item but a pause: the event loop gets a turn before the next is taken.
    With `on_result`, items and their results go there as soon as they exist, and none are iterated: `await` the end
    with `wait`. An error of a kind in `unsent` says that nothing was done, and is none once the pool was stopped.
    While `may_take` says no, only as many items are begun as are finished, so that what cannot be done yet need not be
    dropped by `stop`.
    """

    def __init__(
        self,
        items: Iterable[T | None] | AsyncIterator[T | None],
        do: Callable[[T], Awaitable[R]],
        *,
        workers: int,
        may_take: Callable[[], bool] | None = None,
        on_result: Callable[[T, R], object] | None = None,
        unsent: tuple[type[BaseException], ...] = (),
    ) -> None:
        self._items: Iterator[T | None] | None = iter(items) if isinstance(items, Iterable) else None
        self._later: AsyncIterator[T | None] | None = None if isinstance(items, Iterable) else items
        self._do = do
        self._may_take = may_take
        self._on_result = on_result
        self._left_undone: tuple[type[BaseException], ...] = (asyncio.CancelledError, *unsent)
        # Workers that wait until they may take an item.
        self._waiting = Waiters()
        self.workers = min(workers, MOST_WORKERS)
        # Results not yet taken by the reader, and the event that there is room for more.
        self._results: deque[R] = deque()
        self._room = asyncio.Event()
        self._room.set()
        # What the reader of results waits for while there are none.
        self._reader: asyncio.Future[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        # Tasks that wait for an item or for leave to take one: the ones that `stop` need not wait for.
        self._idle: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        # Whether the input takes a pause, in which no other worker takes an item.
        self._is_paused = False
        self._running = 0
        self._stopping = False
        self._failure: BaseException | None = None

    @property
    def in_flight(self) -> int:
        """Items being worked on."""
        return self._running - len(self._idle)

    def stop(self) -> None:
        """Take no further items; what is in flight finishes, then the iteration ends."""
        self._stopping = True
        for task in self._idle:
            task.cancel()

    def cancel(self) -> None:
        """Take no further items and drop what is in flight; results that exist are still delivered."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        close = getattr(self._later, "aclose", None)
        if close is not None:
            await close()

    def ready(self) -> Iterator[R]:
        """Give the results that nobody took, after an iteration that was left."""
        while self._results:
            yield self._results.popleft()

    async def wait(self) -> None:
        """Wait for the end of all work; raises what ended it."""
        async for _ in self:
            raise AssertionError("results go to on_result, and none are iterated")

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> R:
        self._start()
        while not self._results:
            if not self._running:
                if self._failure is not None:
                    raise self._failure
                raise StopAsyncIteration
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        if not self._room.is_set():
            self._room.set()
        return self._results.popleft()

    def _start(self) -> None:
        if not self._tasks:
            self._running = self.workers
            self._tasks = [asyncio.create_task(self._work()) for _ in range(self.workers)]
            self._idle.update(self._tasks)
            for task in self._tasks:
                # No `finally` in the task, because one that is cancelled before its first step never enters it.
                task.add_done_callback(self._ended)

    async def _work(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        idle, items, do, on_result, may_take = self._idle, self._items, self._do, self._on_result, self._may_take
        waiting, results = self._waiting, self._results
        idle.discard(task)
        try:
            while not self._stopping:
                if results and len(results) >= self.workers:
                    self._room.clear()
                    await self._while_idle(task, self._room.wait())
                    continue
                # This worker is none that has an item.
                if may_take is not None and not may_take() and self._running - len(idle) > 1:
                    await self._while_idle(task, waiting.wait())
                    continue
                item = None if items is None or self._is_paused else next(items)
                if item is None:
                    item = await self._while_idle(task, self._next())
                result = await do(item)
                if on_result is not None:
                    on_result(item, result)
                else:
                    results.append(result)
                    self._wake_reader()
                if waiting:
                    # With the one that has just finished these are two that ask `may_take`, so that work can grow.
                    waiting.wake_one()
        except (StopIteration, StopAsyncIteration, _EndedError):
            pass
        except BaseException as error:  # noqa: BLE001  # raised again, by the reader
            if self._stopping and isinstance(error, self._left_undone):
                # `stop` or `cancel` did it; the item, if the worker had one, has no result.
                return
            self._failure = self._failure or error
            self._idle.discard(task)
            self.stop()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running -= 1
        self._idle.discard(task)
        self._wake_reader()
        self._waiting.wake_one()

    async def _while_idle(self, task: asyncio.Task[None], wait: Awaitable[V]) -> V:
        """Wait as a worker that has no item."""
        self._idle.add(task)
        try:
            return await wait
        finally:
            self._idle.discard(task)

    async def _next(self) -> T:
        """Return the next item of an asynchronous input, or the next after a pause; one worker at a time."""
        async with self._turn:
            while not self._stopping:
                if self._later is not None:
                    item = await anext(self._later)
                else:
                    assert self._items is not None
                    self._is_paused = True
                    try:
                        await asyncio.sleep(0)
                    finally:
                        self._is_paused = False
                    try:
                        item = next(self._items)
                    except StopIteration:
                        # A StopIteration that leaves a coroutine would become a RuntimeError.
                        break
                if item is not None:
                    return item
            raise _EndedError

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


class _EndedError(Exception):
    """There are no more items."""
