"""A deadline that passes is told from a cancellation, whatever the order in which they come."""

from __future__ import annotations

import asyncio
import gc

import anyio
import pytest

from aimlasync import APITimeoutError, AsyncClient, Retry
from aimlasync.deadlines import Bounded, Deadlines
from tests.support.servers import Script, raw_server, until
from tests.support.virtual import VirtualLoop, run

HELLO = [{"role": "user", "content": "Hello"}]


async def bounded(deadlines: Deadlines, seconds: float) -> str:
    work = Bounded()
    deadlines.start(work, asyncio.get_running_loop().time() + seconds)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        if deadlines.stop(work):
            return "late"
        raise
    raise AssertionError


async def test_a_deadline_that_passes_is_no_cancellation() -> None:
    deadlines = Deadlines(asyncio.get_running_loop())
    task = asyncio.ensure_future(bounded(deadlines, 0.01))
    assert await task == "late"
    assert task.cancelling() == 0


def test_deadlines_ring_in_their_order_and_each_at_its_own_time() -> None:
    ended: list[float] = []

    async def main() -> None:
        deadlines = Deadlines(asyncio.get_running_loop())

        async def one(seconds: float) -> None:
            assert await bounded(deadlines, seconds) == "late"
            ended.append(seconds)

        await asyncio.gather(*(one(seconds) for seconds in (0.06, -1.0, 0.02, 0.04)))
        assert not deadlines._open

    # Those that a busy machine comes to late ring at once, in any order.
    run(main())
    assert ended == [-1.0, 0.02, 0.04, 0.06]


def test_after_a_loop_stood_still_what_arrived_meanwhile_comes_before_the_deadlines() -> None:
    async def main(stood_still: float) -> tuple[list[str], float]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        deadlines = Deadlines(loop)
        ended: list[str] = []

        async def one() -> None:
            ended.append(await bounded(deadlines, 1.0))

        task = asyncio.ensure_future(one())
        await asyncio.sleep(0)
        began = loop.time()
        loop.now += stood_still
        # The first turn after it reads, the next ones go on with what was read, or end what is late.
        for _ in range(4):
            await asyncio.sleep(0)
        ended.append("read")
        await task
        return ended, loop.time() - began

    ended, seconds = run(main(60.0))
    assert (ended, round(seconds, 2)) == (["read", "late"], 61.0)
    # It waits as long again as it was late, and no longer than a second.
    ended, seconds = run(main(1.25))
    assert (ended, round(seconds, 2)) == (["read", "late"], 1.5)
    assert run(main(1.04))[0] == ["late", "read"]


async def test_a_client_that_is_closed_or_forgotten_is_kept_by_no_timer() -> None:
    answer = b'{"choices": [{"message": {"content": "Hi"}}]}'
    async with raw_server(Script([answer], content_type="application/json", end="keep")) as server:

        async def use(is_closed: bool) -> None:
            client = AsyncClient("k", server.base_url)
            copy = client.with_options(api_key="other")
            for each in (client, copy):
                await each.chat.completions.create(model="m", messages=HELLO)
            if is_closed:
                await copy.close()
                await client.close()

        gc.collect()
        before = sum(isinstance(one, Deadlines) for one in gc.get_objects())
        for is_closed in (True, False):
            await use(is_closed)
            gc.collect()
            # What closes them is called in the next turn of the loop.
            await asyncio.sleep(0)
            await until(lambda: server.open_connections == 0)
        gc.collect()
        assert sum(isinstance(one, Deadlines) for one in gc.get_objects()) <= before


def test_a_bound_of_anyio_of_the_same_turn_comes_first() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.call_later(0.5, lambda: setattr(loop, "now", loop.now + 0.51))
        with anyio.move_on_after(1.0) as scope:
            await bounded(Deadlines(loop), 0.999)
        assert scope.cancelled_caught

    run(main())


async def test_a_cancellation_before_the_deadline_is_one() -> None:
    deadlines = Deadlines(asyncio.get_running_loop())
    task = asyncio.ensure_future(bounded(deadlines, 5))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not deadlines._open


@pytest.mark.parametrize("deadline_first", [True, False])
async def test_a_cancellation_in_the_same_turn_as_the_deadline_wins(deadline_first: bool) -> None:
    deadlines = Deadlines(asyncio.get_running_loop())
    task = asyncio.ensure_future(bounded(deadlines, 0.0 if deadline_first else 60))
    await asyncio.sleep(0)
    if deadline_first:
        deadlines._ring()
        task.cancel()
    else:
        task.cancel()
        for work in deadlines._open:
            work.when = 0.0
        deadlines._ring()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_task_that_was_cancelled_before_can_be_late_all_the_same() -> None:
    deadlines = Deadlines(asyncio.get_running_loop())

    async def stubborn() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            # It goes on, as a clean-up with a call of its own does, with the request still counted.
            return await bounded(deadlines, 0.01)
        raise AssertionError

    task = asyncio.ensure_future(stubborn())
    await asyncio.sleep(0)
    task.cancel()
    assert await task == "late"
    assert task.cancelling() == 1


async def test_an_outer_timeout_is_not_taken_for_the_calls_own() -> None:
    async with raw_server(Script(head=b"", end="stall")) as server:
        async with AsyncClient(api_key="k", base_url=server.base_url, retry=Retry(attempts=1), timeout=5) as client:
            with pytest.raises(TimeoutError) as caught:
                async with asyncio.timeout(0.02):
                    await client.chat.completions.create(model="m", messages=HELLO)
            assert not isinstance(caught.value, APITimeoutError)
            with pytest.raises(APITimeoutError):
                async with asyncio.timeout(5):
                    await client.chat.completions.create(model="m", messages=HELLO, timeout=0.02)
