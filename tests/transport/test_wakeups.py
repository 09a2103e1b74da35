"""A reply is the future of the task that waits for it: asyncio and what is made for it see one, while one waits."""

from __future__ import annotations

import asyncio
import contextvars
import gc
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import pytest

from aimlasync.transport.wakeups import Wakeups
from tests.support.exchanges import BODY, Exchanges, exchanges
from tests.support.servers import Script, turns, until

SILENT = Script(head=b"", end="keep")


async def waiting(asked: Exchanges) -> asyncio.Task[bytes]:
    """A task whose request is sent, and is not answered."""
    task = asyncio.create_task(asked.read())
    await until(lambda: any(each.reply is not None for each in asked.transport.connections))
    return task


async def test_what_send_returns_is_awaited_by_asyncio_like_any_awaitable() -> None:
    async with exchanges() as asked:
        assert not asyncio.isfuture(asked.send())
        replies = [await asyncio.wait_for(asked.send(), 60), await asyncio.shield(asked.send())]
        replies += await asyncio.gather(asked.send(), asked.send())
        replies.append(await asyncio.ensure_future(asked.send()))
        assert [await reply.read() for reply in replies] == [BODY] * 5
        assert not any(map(asyncio.isfuture, replies))


async def test_a_cancelled_wait_ends_with_the_message_it_was_cancelled_with_and_leaves_no_cycle() -> None:
    async with exchanges(SILENT) as asked:
        task = await waiting(asked)
        task.cancel("why")
        gc.collect()
        gc.disable()
        try:
            said = None
            try:
                await task
            except asyncio.CancelledError as error:
                said = error.args
            assert said == ("why",)
            del task
            await turns(2)
            # A frame that raised it and holds it would be a cycle.
            errors = [each for each in gc.get_objects() if isinstance(each, asyncio.CancelledError)]
            assert ("why",) not in [error.args for error in errors]
        finally:
            gc.enable()
        assert not asked.transport.connections


async def test_scopes_of_anyio_end_a_wait() -> None:
    async with exchanges(SILENT) as asked:
        with anyio.CancelScope() as scope:
            asyncio.get_running_loop().call_soon(scope.cancel)
            await asked.send()
        assert scope.cancelled_caught


async def test_a_task_that_is_cancelled_after_it_was_woken_is_cancelled() -> None:
    async with exchanges(SILENT) as asked:
        task = await waiting(asked)
        (connection,) = asked.transport.connections
        assert connection.reply is not None
        connection.reply.wake()
        connection.reply.wake()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not asked.transport.connections


async def test_a_wake_without_a_reason_is_slept_on() -> None:
    async with exchanges(SILENT) as asked:
        task = await waiting(asked)
        (connection,) = asked.transport.connections
        for _ in range(3):
            assert connection.reply is not None
            connection.reply.wake()
            await turns(3)
        assert not task.done()
        task.cancel()


async def test_a_task_goes_on_in_its_own_context() -> None:
    whose = contextvars.ContextVar("whose", default="nobody's")

    async def ask(asked: Exchanges, name: str) -> str:
        whose.set(name)
        await asked.read()
        return whose.get()

    async with exchanges() as asked:
        assert await asyncio.gather(*(ask(asked, str(number)) for number in range(20))) == list(map(str, range(20)))


class Noted:
    """What `Wakeups` lets go on, in a list; one may fail."""

    def __init__(self, number: int, into: list[int], error: BaseException | None = None) -> None:
        self.number, self.into, self.error = number, into, error

    def go_on(self) -> None:
        self.into.append(self.number)
        if self.error is not None:
            raise self.error


def test_what_was_woken_behind_a_step_that_ends_the_program_goes_on_later() -> None:
    loop, wakeups, went = asyncio.new_event_loop(), Wakeups(), list[int]()
    try:
        for number in range(4):
            wakeups.add(Noted(number, went, KeyboardInterrupt() if number == 1 else None), loop)
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(asyncio.sleep(0))
        assert went == [0, 1]
        loop.run_until_complete(asyncio.sleep(0))
        assert went == [0, 1, 2, 3]
    finally:
        loop.close()


def test_what_was_woken_behind_a_step_that_runs_the_loop_in_itself_goes_on_meanwhile() -> None:
    ready: deque[Callable[[], object]] = deque()
    wakeups, went = Wakeups(), list[int]()

    class Loop:
        """As `nest_asyncio` makes it, that a step may run."""

        def call_soon(self, callback: Callable[..., object], *given: Any) -> None:
            ready.append(partial(callback, *given))

        def run(self) -> None:
            while ready:
                ready.popleft()()

    class Runs(Noted):
        def go_on(self) -> None:
            super().go_on()
            loop.run()
            assert went == [0, 1, 2, 3]

    loop: Any = Loop()
    for number in range(4):
        wakeups.add(Runs(number, went) if number < 2 else Noted(number, went), loop)
    loop.run()
    assert went == [0, 1, 2, 3]
