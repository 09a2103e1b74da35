"""Workers: a fixed number, no item twice, no result lost."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimlasync.bulk.jobs import worker_pool
from aimlasync.bulk.jobs.async_iter import in_thread
from aimlasync.bulk.jobs.input_order import InOrder
from aimlasync.bulk.jobs.worker_pool import WorkerPool


async def double(item: int) -> int:
    await asyncio.sleep(0)
    return 2 * item


async def test_every_item_is_done_once() -> None:
    async with WorkerPool(range(1000), double, workers=7) as work:
        assert sorted([result async for result in work]) == [2 * item for item in range(1000)]


async def test_no_more_workers_are_begun_than_a_machine_bears(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_pool, "MOST_WORKERS", 50)
    async with WorkerPool(range(100), double, workers=10**12) as work:
        assert work.in_flight <= 50
        assert sorted([result async for result in work]) == [2 * item for item in range(100)]


async def test_never_more_at_once_than_workers_and_items_are_taken_only_when_needed() -> None:
    taken = in_flight = peak = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for item in range(500):
            taken += 1
            yield item

    async def do(item: int) -> int:
        nonlocal in_flight, peak
        in_flight += 1
        peak = max(peak, in_flight)
        await asyncio.sleep(0)
        in_flight -= 1
        return item

    read = 0
    async with WorkerPool(items(), do, workers=8) as work:
        async for _ in work:
            read += 1
            assert taken - read <= 8 + 2 * 8
    assert (peak, read) == (8, 500)


async def test_a_reader_that_does_not_read_holds_the_work_up() -> None:
    done = 0

    async def do(item: int) -> int:
        nonlocal done
        done += 1
        return item

    async with WorkerPool(range(10_000), do, workers=4) as work:
        await anext(work)
        for _ in range(100):
            await asyncio.sleep(0)
        assert done <= 16


async def test_stop_lets_what_is_in_flight_finish() -> None:
    go = asyncio.Event()

    async def do(item: int) -> int:
        await go.wait()
        return item

    async with WorkerPool(range(1000), do, workers=5) as work:
        await asyncio.sleep(0)
        assert work.in_flight == 5
        work.stop()
        go.set()
        assert sorted([result async for result in work]) == [0, 1, 2, 3, 4]


async def test_stop_before_the_first_step_ends_at_once() -> None:
    async with WorkerPool(range(1000), double, workers=5) as work:
        work.stop()
        assert [result async for result in work] == []


async def test_stop_does_not_wait_for_items_that_do_not_come() -> None:
    async def items() -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    async with WorkerPool(items(), double, workers=3) as work:
        assert await anext(work) == 2
        work.stop()
        assert [result async for result in work] == []


async def test_cancel_drops_what_is_in_flight_and_keeps_results() -> None:
    async def do(item: int) -> int:
        if item >= 3:
            await asyncio.Event().wait()
        return item

    async with WorkerPool(range(1000), do, workers=4) as work:
        first = await anext(work)
        work.cancel()
        assert sorted([first, *[result async for result in work]]) == [0, 1, 2]


async def test_an_error_of_the_items_comes_after_the_results() -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise ValueError("line 6")

    results = []
    async with WorkerPool(items(), double, workers=3) as work:
        with pytest.raises(ValueError, match="line 6"):  # noqa: PT012
            async for result in work:
                results.append(result)  # noqa: PERF401  # what came before the error counts
    assert sorted(results) == [0, 2, 4, 6, 8]


async def test_an_error_of_the_work_ends_it() -> None:
    async def do(item: int) -> int:
        if item == 3:
            raise ZeroDivisionError
        return item

    async with WorkerPool(range(100), do, workers=2) as work:
        with pytest.raises(ZeroDivisionError):
            async for _ in work:
                pass


async def test_an_item_whose_work_was_cancelled_by_somebody_else_does_not_vanish() -> None:
    async def do(item: int) -> int:
        if item == 3:
            raise asyncio.CancelledError
        return item

    read = []
    async with WorkerPool(range(100), do, workers=2) as work:
        with pytest.raises(asyncio.CancelledError):  # noqa: PT012
            async for result in work:
                read.append(result)  # noqa: PERF401  # what came before the error counts
    assert set(read) >= {0, 1, 2}


async def test_what_was_not_sent_is_left_once_the_pool_was_stopped_and_ends_it_before() -> None:
    taken: list[tuple[int, int]] = []
    is_open = asyncio.Event()

    async def do(item: int) -> int:
        if item == 3:
            work.stop()
            is_open.set()
        if item < 3:
            await is_open.wait()
            raise ZeroDivisionError
        return -item

    async def fail(item: int) -> int:
        raise ZeroDivisionError

    def take(item: int, result: int) -> None:
        taken.append((item, result))

    async with WorkerPool(range(100), do, workers=5, on_result=take, unsent=(ZeroDivisionError,)) as work:
        await work.wait()
    assert taken == [(3, -3)]
    async with WorkerPool(range(100), fail, workers=5, on_result=take, unsent=(ZeroDivisionError,)) as failing:
        with pytest.raises(ZeroDivisionError):
            await failing.wait()


async def test_results_that_lie_ready_are_there_after_the_reader_was_cancelled() -> None:
    read: list[int] = []
    tasks: list[asyncio.Future[None]] = []

    async def do(item: int) -> int:
        await asyncio.sleep(0)
        if item == 7:
            tasks[0].cancel()
        return item

    async def reader() -> None:
        work = WorkerPool(range(100), do, workers=3)
        try:
            async with work:
                async for result in work:
                    read.append(result)  # noqa: PERF401  # it is cancelled within
        finally:
            read.extend(work.ready())

    tasks.append(asyncio.ensure_future(reader()))
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    assert sorted(read)[:8] == list(range(8))
    assert len(set(read)) == len(read)


async def test_leaving_early_leaves_no_task_behind() -> None:
    before = asyncio.all_tasks()
    async with WorkerPool(range(100), double, workers=9) as work:
        await anext(work)
    assert asyncio.all_tasks() == before


async def test_a_blocking_iterator_is_read_in_a_thread_and_its_error_is_raised() -> None:
    def items() -> Iterator[int]:
        yield from range(200)
        raise ValueError("bad")

    read = []
    with pytest.raises(ValueError, match="bad"):  # noqa: PT012
        async for item in in_thread(items(), max_ahead=3):
            read.append(item)  # noqa: PERF401
    assert read == list(range(200))


async def test_a_pipe_that_is_silent_does_not_hold_the_loop_up() -> None:
    read_end, write_end = os.pipe()
    with open(read_end, "rb") as reader, open(write_end, "wb", buffering=0) as writer:  # noqa: ASYNC230
        writer.write(b"one\n")
        lines = in_thread(reader)
        assert await anext(lines) == b"one\n"
        waiting = asyncio.ensure_future(anext(lines))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not waiting.done()
        writer.write(b"two\n")
        assert await waiting == b"two\n"
        await lines.aclose()


def test_results_are_put_back_in_order_and_the_rest_with_gaps() -> None:
    order = InOrder[int](100)
    assert [list(order.add(number, number)) for number in (2, 3, 1, 6, 5)] == [[], [], [1, 2, 3], [], []]
    assert list(order.rest()) == [5, 6]
    assert list(order.rest()) == []


@given(st.permutations(range(1, 30)), st.integers(0, 29))
def test_whatever_the_order_of_the_results_each_is_given_once_and_in_its_turn(numbers: list[int], count: int) -> None:
    order = InOrder[str](1000)
    out: list[str] = []
    for number in numbers[:count]:
        out += order.add(number, str(number))
        done = set(numbers[: numbers.index(number) + 1])
        turn = next(each for each in range(1, 31) if each not in done)
        assert out == [str(each) for each in range(1, turn)]
    out += order.rest()
    assert out == [str(number) for number in sorted(numbers[:count])]


async def test_no_row_goes_further_ahead_than_allowed() -> None:
    order = InOrder[int](2)
    await order.room(1)
    await order.room(2)
    waiting = asyncio.ensure_future(order.room(3))
    await asyncio.sleep(0)
    assert not waiting.done()
    list(order.add(2, 2))
    await asyncio.sleep(0)
    assert not waiting.done()
    list(order.add(1, 1))
    await waiting


async def test_a_pause_among_the_items_gives_the_loop_a_turn_and_one_worker_at_a_time_goes_on() -> None:
    turns = taken = 0

    def items() -> Iterator[int | None]:
        nonlocal taken
        for item in range(300):
            taken += 1
            yield item if item % 100 == 99 else None

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count_turns())
    async with WorkerPool(items(), double, workers=50) as work:
        assert await anext(work) == 198
        # Of fifty workers one takes items while there is nothing to do: no turn takes more than two.
        assert turns >= (taken - 1) // 2
        assert [result async for result in work] == [398, 598]
    counting.cancel()


async def test_stop_is_heard_in_a_pause_that_does_not_end() -> None:
    async with WorkerPool(iter(lambda: None, 0), double, workers=3) as work:
        asyncio.get_running_loop().call_later(0.01, work.stop)
        assert [result async for result in work] == []
