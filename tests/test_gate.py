"""Claims about `aimlasync.limits` and `aimlasync.timeout`: who gets a permit, in which order, and what is left."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aimlasync.limits import Limits, Outcome, Permits
from aimlasync.timeout import Timeout


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@contextlib.asynccontextmanager
async def queue_of(permits: Permits, count: int) -> AsyncIterator[tuple[list[asyncio.Task[None]], list[int]]]:
    """`count` tasks that wait for a permit, in order; the list tells who got one."""
    got: list[int] = []

    async def wait(number: int) -> None:
        await permits.acquire()
        got.append(number)

    tasks = [asyncio.create_task(wait(number)) for number in range(count)]
    await turn()
    yield tasks, got
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def test_permits_are_taken_up_to_the_limit() -> None:
    permits = Permits(2)
    assert [permits.acquire_nowait() for _ in range(3)] == [True, True, False]
    assert (permits.in_flight, permits.queued) == (2, 0)


def test_released_permit_is_free_again() -> None:
    permits = Permits(1)
    assert permits.acquire_nowait()
    permits.release(Outcome.OK)
    assert permits.in_flight == 0
    assert permits.acquire_nowait()


async def test_free_permit_is_acquired_without_waiting() -> None:
    permits = Permits(1)
    await asyncio.wait_for(permits.acquire(), 0.5)
    assert permits.in_flight == 1


async def test_waiters_are_served_in_the_order_they_came() -> None:
    permits = Permits(1)
    await permits.acquire()
    async with queue_of(permits, 4) as (_, got):
        assert permits.queued == 4
        for served in range(1, 5):
            permits.release()
            await turn()
            assert got == list(range(served))
            assert permits.in_flight == 1


async def test_newcomer_does_not_overtake_a_waiter_whose_permit_was_just_released() -> None:
    permits = Permits(1)
    await permits.acquire()
    async with queue_of(permits, 1) as (_, got):
        permits.release()
        assert not permits.acquire_nowait()
        await turn()
        assert got == [0]


async def test_waiter_cancelled_in_the_queue_leaves_its_place() -> None:
    permits = Permits(1)
    await permits.acquire()
    async with queue_of(permits, 3) as (tasks, got):
        tasks[1].cancel()
        await turn()
        assert permits.queued == 2
        for _ in range(2):
            permits.release()
            await turn()
        assert got == [0, 2]
        assert tasks[1].cancelled()


async def test_waiter_cancelled_in_the_turn_of_its_hand_over_passes_the_permit_on() -> None:
    permits = Permits(1)
    await permits.acquire()
    async with queue_of(permits, 2) as (tasks, got):
        permits.release()
        tasks[0].cancel()
        await turn()
        assert tasks[0].cancelled()
        assert got == [1]
        assert permits.in_flight == 1


async def test_last_waiter_cancelled_in_the_turn_of_its_hand_over_frees_the_permit() -> None:
    permits = Permits(1)
    await permits.acquire()
    async with queue_of(permits, 1) as (tasks, _):
        permits.release()
        tasks[0].cancel()
        await turn()
        assert (permits.in_flight, permits.queued) == (0, 0)


async def test_all_waiters_cancelled_leave_nothing_behind() -> None:
    permits = Permits(2)
    await permits.acquire()
    await permits.acquire()
    async with queue_of(permits, 5) as (tasks, _):
        for task in tasks:
            task.cancel()
        await turn()
        assert (permits.in_flight, permits.queued) == (2, 0)
        permits.release()
        permits.release()
        assert permits.in_flight == 0


class Holders(RuleBasedStateMachine):
    """Any order of acquire, release and cancel, on a real loop that only moves when it is stepped."""

    @initialize(limit=st.integers(1, 3))
    def begin(self, limit: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.permits = Permits(limit)
        # All in the order they came: tasks not granted and not cancelled, and the ids of those who hold a permit.
        self.waiting: dict[int, asyncio.Task[None]] = {}
        self.held: list[int] = []
        self.granted: list[int] = []
        self.cancelled: list[asyncio.Task[None]] = []
        self.count = 0

    def step(self) -> None:
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    def settle(self) -> None:
        for _ in range(4):
            self.step()

    async def _wait(self, number: int) -> None:
        await self.permits.acquire()
        self.granted.append(number)

    def collect(self) -> None:
        """Move those who got a permit since the last look; they must be the first of the queue."""
        for number in self.granted:
            assert number == next(iter(self.waiting)), "overtaken"
            del self.waiting[number]
            self.held.append(number)
        self.granted.clear()

    @rule()
    def acquire(self) -> None:
        self.waiting[self.count] = self.loop.create_task(self._wait(self.count))
        self.count += 1
        self.step()
        self.collect()

    @precondition(lambda self: self.held)
    @rule(data=st.data(), outcome=st.sampled_from(Outcome))
    def release(self, data: st.DataObject, outcome: Outcome) -> None:
        """Give one back without letting the loop move, so that a hand-over may still be under way at the next rule."""
        self.held.remove(data.draw(st.sampled_from(self.held)))
        self.permits.release(outcome)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(list(self.waiting)))
        task = self.waiting.pop(number)
        task.cancel()
        self.cancelled.append(task)

    @rule()
    def newcomer(self) -> None:
        free = self.permits.in_flight < self.permits.limit
        took = self.permits.acquire_nowait()
        assert took == free
        if took:
            assert not self.permits.queued, "overtaken"
            self.held.append(-1)

    @rule()
    def wait(self) -> None:
        self.settle()
        self.collect()
        assert all(task.cancelled() for task in self.cancelled)
        # Nobody waits while a permit is free, and no permit is lost.
        assert self.permits.in_flight == len(self.held)
        assert self.permits.queued == len(self.waiting)
        assert not self.waiting or self.permits.in_flight == self.permits.limit

    @invariant()
    def in_flight_is_within_bounds(self) -> None:
        if hasattr(self, "permits"):
            assert 0 <= self.permits.in_flight <= self.permits.limit

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        self.settle()
        self.collect()
        for task in self.waiting.values():
            task.cancel()
        self.settle()
        assert all(task.cancelled() for task in (*self.waiting.values(), *self.cancelled))
        self.loop.close()


TestHolders = Holders.TestCase
TestHolders.settings = settings(max_examples=120, stateful_step_count=30, deadline=None)


@pytest.mark.parametrize("name", ["requests_per_minute", "tokens_per_minute", "concurrency"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_limit_that_is_not_above_zero_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        Limits(**{name: value})


def test_limits_are_unknown_unless_given() -> None:
    limits = Limits()
    assert (limits.requests_per_minute, limits.tokens_per_minute, limits.concurrency) == (None, None, None)


@pytest.mark.parametrize("name", ["total", "connect", "first_token", "idle"])
@pytest.mark.parametrize("value", [0, -0.1, float("nan")])
def test_timeout_that_is_not_above_zero_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        Timeout(**{name: value})


def test_timeout_of_one_call_replaces_the_total_and_keeps_the_other_bounds() -> None:
    mine = Timeout(total=60, connect=1, first_token=2, idle=3)
    assert mine.but(5) == Timeout(total=5, connect=1, first_token=2, idle=3)
    assert mine.but(None) == Timeout(total=None, connect=1, first_token=2, idle=3)
    other = Timeout(total=9)
    assert mine.but(other) is other
