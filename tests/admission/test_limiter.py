"""Who is admitted, in which order, how much in any minute, and what is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aimlasync.admission.endpoint_limiter import Admission, EndpointLimiter
from aimlasync.admission.limiter import Limiter
from aimlasync.admission.rate_limits import _WINDOW
from aimlasync.config import Limits, Priority
from tests.support.virtual import VirtualLoop, run
from tests.support.windows import worst


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Permits:
    """A limiter that only counts what is in flight."""

    def __init__(self, limit: int) -> None:
        self.limiter = Limiter(EndpointLimiter(Limits()), limit=limit)

    def acquire_nowait(self) -> bool:
        return self.limiter.enter_nowait(0.0, 0.0) is not None

    async def acquire(self) -> None:
        await self.limiter.enter(0.0)

    def release(self) -> None:
        # Without minutes to count, one admission is like another.
        self.limiter.leave(Admission())

    @property
    def in_flight(self) -> int:
        return self.limiter.in_flight

    @property
    def queued(self) -> int:
        return self.limiter.waiting

    @property
    def limit(self) -> int:
        return self.limiter.limit


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
    permits.release()
    assert permits.in_flight == 0
    assert permits.acquire_nowait()


async def test_free_permit_is_acquired_without_waiting() -> None:
    permits = Permits(1)
    await asyncio.wait_for(permits.acquire(), 60)
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
        if sorted(self.granted) != list(self.waiting)[: len(self.granted)]:
            # One who is admitted without waiting may run before one who is still being woken: both have their permit.
            self.settle()
        for number in sorted(self.granted):
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
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        """Give one back without letting the loop move, so that a hand-over may still be under way at the next rule."""
        self.held.remove(data.draw(st.sampled_from(self.held)))
        self.permits.release()

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


async def test_waiter_cancelled_in_the_turn_of_a_release_is_cancelled() -> None:
    permits = Permits(1)
    await permits.acquire()
    task = asyncio.create_task(permits.acquire())
    await asyncio.sleep(0)
    task.cancel()
    permits.release()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (permits.in_flight, permits.queued) == (0, 0)


async def test_all_waiters_cancelled_in_the_turn_of_a_release_are_cancelled() -> None:
    permits = Permits(1)
    await permits.acquire()
    tasks = [asyncio.create_task(permits.acquire()) for _ in range(3)]
    await asyncio.sleep(0)
    permits.release()
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in ended] == [asyncio.CancelledError] * 3
    assert (permits.in_flight, permits.queued) == (0, 0)


# Minutes, in virtual time


class Load:
    """A closed loop of workers against one limiter; the server sees each attempt up to 50 ms after it was sent."""

    def __init__(self, limits: Limits, *, workers: int = 64, seconds: float = 300.0, seed: int = 0) -> None:
        self.limiter = Limiter(EndpointLimiter(limits), limit=workers)
        self.workers = workers
        self.seconds = seconds
        self.random = random.Random(seed)
        self.requests: list[tuple[float, float]] = []
        self.tokens: list[tuple[float, float]] = []

    async def worker(self, actual: Callable[[random.Random], float], estimate: Callable[[float], float]) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while loop.time() - begun < self.seconds:
            tokens = actual(self.random)
            guess = estimate(tokens)
            admission = self.limiter.enter_nowait(guess, loop.time()) or await self.limiter.enter(guess)
            await asyncio.sleep(self.random.random() * 0.05)
            self.requests.append((loop.time(), 1.0))
            self.tokens.append((loop.time(), tokens))
            await asyncio.sleep(1.5 * self.random.lognormvariate(0, 0.4))
            self.limiter.leave(admission, tokens)

    def run(
        self, actual: Callable[[random.Random], float] = lambda _: 1.0, estimate: Callable[[float], float] = lambda n: n
    ) -> Load:
        async def main() -> None:
            await asyncio.gather(*(self.worker(actual, estimate) for _ in range(self.workers)))

        run(main())
        assert self.limiter.in_flight == self.limiter.waiting == 0
        return self

    def use(self, sent: list[tuple[float, float]], limit: float) -> float:
        """The share of the quota that was used."""
        begun = sent[0][0]
        return sum(amount for when, amount in sent if when - begun < self.seconds) / self.seconds * 60 / limit


@pytest.mark.parametrize(("limit", "workers"), [(10, 8), (60, 8), (600, 64), (1200, 64), (6000, 400)])
def test_requests_are_used_to_the_full_and_never_passed(limit: int, workers: int) -> None:
    load = Load(Limits(requests_per_minute=limit), workers=workers).run()
    assert load.use(load.requests, limit) >= 0.97
    assert worst(load.requests) <= limit


def size(generator: random.Random) -> float:
    return generator.randint(200, 1200)


def test_tokens_are_used_to_the_full_and_never_passed() -> None:
    load = Load(Limits(tokens_per_minute=200_000)).run(size)
    assert load.use(load.tokens, 200_000) >= 0.96
    assert worst(load.tokens) <= 200_000


def test_estimates_that_stay_four_times_too_high_cost_a_tenth_of_the_quota() -> None:
    load = Load(Limits(tokens_per_minute=200_000)).run(size, lambda tokens: 4 * tokens)
    assert load.use(load.tokens, 200_000) >= 0.85
    assert worst(load.tokens) <= 200_000


def test_estimates_that_stay_three_times_too_low_pass_the_limit_by_what_is_in_flight() -> None:
    load = Load(Limits(tokens_per_minute=200_000)).run(size, lambda tokens: tokens / 3)
    assert worst(load.tokens) <= 1.05 * 200_000


def test_both_limits_hold_at_once() -> None:
    load = Load(Limits(requests_per_minute=600, tokens_per_minute=200_000)).run(lambda g: g.randint(200, 600))
    assert worst(load.requests) <= 600
    assert worst(load.tokens) <= 200_000
    assert load.use(load.tokens, 200_000) >= 0.96


def test_the_opening_is_no_burst() -> None:
    load = Load(Limits(requests_per_minute=600), seconds=10).run()
    assert worst(load.requests, 1.0) <= 13


def test_a_request_larger_than_the_minute_is_neither_refused_nor_for_ever() -> None:
    async def main() -> list[float]:
        limiter = Limiter(EndpointLimiter(Limits(tokens_per_minute=30_000)), limit=9)
        loop = asyncio.get_running_loop()
        begun, at = loop.time(), []
        for tokens in (45_000.0, 300.0):
            limiter.leave(await limiter.enter(tokens), tokens)
            at.append(loop.time() - begun)
        return at

    first, second = run(main())
    assert first < 0.01
    assert 60 <= second <= 100


@pytest.mark.parametrize("sizes", [(9000.0, 10.0, 10.0, 9000.0, 10.0), (10.0, 5000.0, 9000.0, 10.0)])
def test_the_order_is_that_of_arrival_whatever_the_sizes(sizes: tuple[float, ...]) -> None:
    async def main() -> list[int]:
        limiter = Limiter(EndpointLimiter(Limits(tokens_per_minute=20_000)), limit=99)
        order: list[int] = []

        async def one(number: int, tokens: float) -> None:
            limiter.leave(await limiter.enter(tokens), tokens)
            order.append(number)

        await asyncio.gather(*(one(number, tokens) for number, tokens in enumerate(sizes * 4)))
        return order

    assert run(main()) == list(range(len(sizes) * 4))


def test_interactive_waits_behind_no_bulk_and_bulk_gets_its_share() -> None:
    async def main() -> list[Priority]:
        limiter = Limiter(EndpointLimiter(Limits(requests_per_minute=60)), limit=99)
        order: list[Priority] = []

        async def one(priority: Priority) -> None:
            limiter.leave(await limiter.enter(0.0, priority))
            order.append(priority)

        bulk = [asyncio.ensure_future(one("bulk")) for _ in range(30)]
        await asyncio.sleep(2.5)
        interactive = [asyncio.ensure_future(one("interactive")) for _ in range(30)]
        await asyncio.gather(*bulk, *interactive)
        return order

    order = run(main())
    began = order.index("interactive")
    assert began <= 4
    contended = order[began : began + 27]
    assert contended.count("bulk") == 3


def test_a_pause_holds_everybody_and_nobody_lifts_it() -> None:
    async def main() -> list[float]:
        limiter = Limiter(EndpointLimiter(Limits(requests_per_minute=6000)), limit=9)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        limiter.pause(begun + 10)
        limiter.pause(begun + 3)
        assert limiter.enter_nowait(0.0, begun) is None
        told = asyncio.ensure_future(limiter.enter(0.0))
        others = [asyncio.ensure_future(limiter.enter(0.0)) for _ in range(3)]
        await asyncio.sleep(1)
        told.cancel()
        await asyncio.gather(*others)
        return [loop.time() - begun]

    assert run(main())[0] == pytest.approx(10, abs=0.2)


def test_a_lower_limit_calls_nobody_back_and_a_higher_one_lets_the_line_move() -> None:
    async def main() -> None:
        limiter = Limiter(EndpointLimiter(Limits()), limit=2)
        held = [await limiter.enter(0.0), await limiter.enter(0.0)]
        waiting = [asyncio.ensure_future(limiter.enter(0.0)) for _ in range(3)]
        await asyncio.sleep(0)
        limiter.resize(1)
        limiter.leave(held[0])
        await asyncio.sleep(0)
        assert (limiter.in_flight, limiter.waiting) == (1, 3)
        limiter.resize(3)
        await asyncio.gather(*waiting[:2])
        assert (limiter.in_flight, limiter.waiting) == (3, 1)
        limiter.leave(held[1])
        await waiting[2]

    run(main())


def test_what_was_never_sent_costs_nothing() -> None:
    async def main() -> float:
        limiter = Limiter(EndpointLimiter(Limits(requests_per_minute=60, tokens_per_minute=60_000)), limit=9)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for _ in range(50):
            limiter.withdraw(await limiter.enter(500.0))
        return loop.time() - begun

    assert run(main()) < 1


def test_many_who_leave_do_not_stay_in_the_line() -> None:
    async def main() -> None:
        limiter = Limiter(EndpointLimiter(Limits()), limit=1)
        held = await limiter.enter(0.0)
        tasks = [asyncio.ensure_future(limiter.enter(0.0)) for _ in range(5000)]
        last = asyncio.ensure_future(limiter.enter(0.0))
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert limiter.waiting == 1
        assert len(limiter.queue._interactive.current) < 200
        limiter.leave(held)
        await last

    run(main())


class Held:
    """One admission, and what the server would count for it."""

    def __init__(self, admission: Admission, at: float, tokens: float) -> None:
        self.admission = admission
        # When its minute began; an entry of a slot is as late as the last of the slot.
        self.at = at if admission.entry is None else admission.entry.time
        self.requests = 1.0
        self.tokens = tokens


class Minutes(RuleBasedStateMachine):
    """Any order of what can happen to a limiter, in virtual time: enter, leave at any cost, withdraw, cancel, pause,
    resize, learn, and let time pass. What was admitted is kept beside the limiter, and must be what the limiter counts.
    """

    @initialize(
        # Windows of the largest ones count in slots.
        rpm=st.sampled_from([None, 30, 600, 60_000]),
        tpm=st.sampled_from([None, 3_000, 90_000, 6_000_000]),
        limit=st.integers(1, 5),
        crowd=st.integers(0, 8),
    )
    def begin(self, rpm: int | None, tpm: int | None, limit: int, crowd: int) -> None:
        self.loop = VirtualLoop()
        self.limits = (rpm, tpm)
        self.limiter = Limiter(EndpointLimiter(Limits(requests_per_minute=rpm, tokens_per_minute=tpm)), limit=limit)
        # Numbers of those who came and did not leave before their turn, and of those who had it, in order.
        self.arrived: dict[Priority, list[int]] = {"interactive": [], "bulk": []}
        self.served: dict[Priority, list[int]] = {"interactive": [], "bulk": []}
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.held: dict[int, Held] = {}
        self.sent: list[Held] = []
        self.paused = 0.0
        # What estimates are multiplied with when somebody is measured.
        self.factor = 1.0
        self.count = 0
        for _ in range(crowd):
            self.enter(900.0, "interactive")

    def totals(self) -> tuple[float, float]:
        """What was admitted in the limiter's minute: requests and tokens."""
        since = self.loop.time() - _WINDOW
        requests = sum(held.requests for held in self.sent if held.at > since)
        return requests, sum(held.tokens for held in self.sent if held.at > since)

    def admitted(self, number: int, admission: Admission, guess: float) -> None:
        """The law of every admission; nothing else has happened since it was made."""
        rpm, tpm = self.limits
        tokens = admission.amount if admission.entry is not None else guess
        assert self.loop.time() >= self.paused - 1e-3
        assert self.limiter.in_flight <= self.limiter.limit
        # Admitted some turns of the loop ago, which is when its minute began.
        self.held[number] = held = Held(admission, self.loop.time(), tokens)
        self.sent.append(held)
        requests_total, tokens_total = self.totals()
        assert rpm is None or requests_total <= rpm
        assert tpm is None or tokens_total <= max(tpm, tokens) + 1e-3

    async def _enter(self, number: int, tokens: float, priority: Priority) -> None:
        admission = await self.limiter.enter(lambda: tokens * self.factor, priority)
        self.admitted(number, admission, tokens)
        self.served[priority].append(number)

    def pass_time(self, seconds: float) -> None:
        for part in (seconds, 0, 0, 0, 0):
            self.loop.run_until_complete(asyncio.sleep(part))

    def do(self, act: Callable[[], None]) -> None:
        """Act inside the loop, and let those who were admitted by it go on."""

        async def main() -> None:
            act()

        self.loop.run_until_complete(main())
        self.pass_time(0)

    @rule(tokens=st.sampled_from([1.0, 50.0, 900.0, 5_000.0]), priority=st.sampled_from(["interactive", "bulk"]))
    def enter(self, tokens: float, priority: Priority) -> None:
        self.count += 1
        self.arrived[priority].append(self.count)
        self.tasks[self.count] = self.loop.create_task(self._enter(self.count, tokens, priority))
        self.pass_time(0)

    @rule(tokens=st.sampled_from([1.0, 900.0]))
    def enter_at_once_or_not(self, tokens: float) -> None:
        def act() -> None:
            waited, before = self.limiter.waiting, self.limiter.in_flight
            admission = self.limiter.enter_nowait(tokens, self.loop.time())
            assert self.limiter.in_flight == before + (admission is not None)
            if admission is not None:
                assert not waited, "overtook those who wait"
                self.count += 1
                self.admitted(self.count, admission, tokens)

        self.do(act)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), share=st.sampled_from([None, 0.0, 0.25, 1.0, 3.0]))
    def leave(self, data: st.DataObject, share: float | None) -> None:
        """At no, less, more or an unknown cost."""
        held = self.held.pop(data.draw(st.sampled_from(sorted(self.held))))
        if share is not None:
            held.tokens *= share
        self.do(lambda: self.limiter.leave(held.admission, None if share is None else held.tokens))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        held = self.held.pop(data.draw(st.sampled_from(sorted(self.held))))
        held.requests = held.tokens = 0.0
        self.do(lambda: self.limiter.withdraw(held.admission))

    @precondition(lambda self: any(not task.done() for task in self.tasks.values()))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from([n for n, task in self.tasks.items() if not task.done()]))
        self.tasks[number].cancel()
        self.pass_time(0)
        assert self.tasks[number].cancelled()
        for arrived in self.arrived.values():
            if number in arrived:
                arrived.remove(number)

    @rule(seconds=st.floats(0.001, 40))
    def wait(self, seconds: float) -> None:
        self.pass_time(seconds)

    @rule(seconds=st.floats(0, 20))
    def pause(self, seconds: float) -> None:
        self.paused = max(self.paused, self.loop.time() + seconds)
        self.limiter.pause(self.loop.time() + seconds)

    @rule(limit=st.integers(1, 6))
    def resize(self, limit: int) -> None:
        self.do(lambda: self.limiter.resize(limit))

    @rule(factor=st.sampled_from([0.25, 1.0, 3.0]))
    def learn(self, factor: float) -> None:
        self.factor = factor

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "limiter"):
            return
        limiter = self.limiter
        rpm, _ = self.limits
        # Sums, of what was admitted and of nothing else: who waits holds nothing.
        assert limiter.in_flight == len(self.held)
        assert limiter.waiting == sum(not task.done() for task in self.tasks.values())
        requests, tokens = self.totals()
        window = limiter.endpoint._window
        window.wait(0.0, self.loop.time())
        for limit, counted, total in zip(
            self.limits, (window.requests, window.tokens), (requests, tokens), strict=True
        ):
            if limit is not None:
                assert counted == pytest.approx(total, abs=1e-6)
                assert counted >= 0
        for bucket in (limiter.endpoint._request_bucket, limiter.endpoint._token_bucket):
            assert bucket is None or min(bucket.debt, bucket.credit) >= 0
        # Who waits while there is a place is waited for: somebody will measure the head again.
        if limiter.waiting and limiter.in_flight < limiter.limit:
            endpoint = limiter.endpoint
            assert [each for each in (limiter._timer, endpoint._timer, endpoint._acquiring) if each is not None]
        for priority, served in self.served.items():
            assert [n for n in self.arrived[priority] if n in set(served)] == served, "first come, first served"
        if rpm is not None:
            assert worst([(held.at, held.requests) for held in self.sent]) <= rpm

    def teardown(self) -> None:
        if not hasattr(self, "limiter"):
            return
        # Whoever still waits is served in the end.
        for _ in range(400):
            for held in list(self.held.values()):
                self.loop.call_soon(self.limiter.leave, held.admission, held.tokens)
            self.held.clear()
            self.pass_time(30)
            if all(task.done() for task in self.tasks.values()):
                break
        for held in self.held.values():
            self.loop.call_soon(self.limiter.leave, held.admission, held.tokens)
        self.pass_time(0)
        assert all(task.done() for task in self.tasks.values()), "a waiter was lost"
        assert [task for task in self.tasks.values() if not task.cancelled() and task.exception()] == []
        assert (self.limiter.in_flight, self.limiter.waiting) == (0, 0)
        self.loop.close()


TestMinutes = Minutes.TestCase
TestMinutes.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
