"""One account shared by many workers: no minute above the limit, all of it used, in fair parts, and nothing lost."""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from aimlasync import AsyncClient, Budget, Endpoint, Limits
from aimlasync.admission.endpoint_limiter import Admission, EndpointLimiter
from aimlasync.admission.limiter import Limiter
from aimlasync.cost.prices import Price
from aimlasync.errors import BudgetExceededError
from aimlasync.quota.account import LEASES, TTL, Account
from aimlasync.quota.lease import Leases
from aimlasync.quota.protocol import Ask, Draw, Lease, Quota, QuotaDownError
from aimlasync.quota.purse import Purse
from aimlasync.quota.shared_budget import SharedBudget
from aimlasync.simulator import Simulator
from tests.support.virtual import run


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Place:
    """A shared place, half a round trip away; it can break and answer again."""

    def __init__(self, rtt: float = 0.002) -> None:
        self.account: Account | None = None
        self.purse = Purse()
        self.rtt = rtt
        self.asked: list[Ask] = []
        self.is_broken = False

    async def lease(self, ask: Ask) -> Lease:
        loop = asyncio.get_running_loop()
        self.asked.append(ask)
        if self.account is None:
            self.account = Account("one", loop.time(), opens=loop.time())
        await asyncio.sleep(self.rtt / 2)
        if self.is_broken:
            raise ConnectionError("sentinel")
        lease = self.account.lease(ask, loop.time())
        await asyncio.sleep(self.rtt / 2)
        return lease

    async def draw(self, draw: Draw) -> int:
        if self.is_broken:
            raise QuotaDownError("it is away")
        return self.purse.draw(draw, 0.0).granted

    async def close(self) -> None:
        return None


def limiter(place: Quota, limits: Limits, limit: int = 1000) -> Limiter:
    return Limiter(EndpointLimiter(limits, leases=Leases(place, limits)), limit=limit)


class Sent:
    """What arrived at a server, and when."""

    def __init__(self) -> None:
        self.entries: list[tuple[float, float, int]] = []

    def worst(self, *, tokens: bool) -> float:
        """The most in any 60 seconds."""
        worst = held = 0.0
        window: deque[tuple[float, float]] = deque()
        for time, amount, _ in sorted(self.entries):
            amount = amount if tokens else 1.0
            window.append((time, amount))
            held += amount
            while window[0][0] <= time - 60.0:
                held -= window.popleft()[1]
            worst = max(worst, held)
        return worst

    def by(self, worker: int) -> int:
        return sum(1 for entry in self.entries if entry[2] == worker)


async def work(
    place: Place,
    limits: Limits,
    *,
    workers: int,
    seconds: float,
    guess: float = 1.0,
    idle: tuple[int, ...] = (),
    dies: int | None = None,
) -> Sent:
    """Let workers send as much as they may for a while; one may die in the middle, in the midst of everything."""
    loop, sent, rnd = asyncio.get_running_loop(), Sent(), random.Random(1)
    limiters = [limiter(place, limits) for _ in range(workers)]

    async def call(worker: int) -> None:
        while True:
            real = rnd.uniform(200, 1200)
            own = limiters[worker]
            admission = own.enter_nowait(real * guess, loop.time()) or await own.enter(real * guess)
            await asyncio.sleep(rnd.uniform(0, 0.05))
            sent.entries.append((loop.time(), real, worker))
            await asyncio.sleep(rnd.uniform(0.2, 1.5))
            own.leave(admission, real)

    tasks = {
        worker: [asyncio.create_task(call(worker)) for _ in range(60)]
        for worker in range(workers)
        if worker not in idle
    }
    await asyncio.sleep(seconds / 2)
    if dies is not None:
        limiters[dies].limit = 0
        for task in tasks[dies]:
            task.cancel()
    await asyncio.sleep(seconds / 2)
    everybody = [task for each in tasks.values() for task in each]
    for task in everybody:
        task.cancel()
    await asyncio.gather(*everybody, return_exceptions=True)
    for each in limiters:
        await each.endpoint.close()
    return sent


@pytest.mark.parametrize(
    ("workers", "limits", "rtt"),
    [
        (1, Limits(requests_per_minute=600), 0.002),
        (4, Limits(requests_per_minute=60), 0.002),
        (16, Limits(requests_per_minute=600), 0.1),
        (4, Limits(tokens_per_minute=200_000), 0.002),
        (4, Limits(requests_per_minute=300, tokens_per_minute=180_000), 0.02),
    ],
)
def test_the_minute_is_used_and_never_passed_whoever_shares_it(workers: int, limits: Limits, rtt: float) -> None:
    place, seconds = Place(rtt), 185.0
    sent = run(work(place, limits, workers=workers, seconds=seconds))
    use = []
    if limits.requests_per_minute is not None:
        assert sent.worst(tokens=False) <= limits.requests_per_minute
        use.append(len(sent.entries) / (limits.requests_per_minute * seconds / 60))
    if limits.tokens_per_minute is not None:
        assert sent.worst(tokens=True) <= limits.tokens_per_minute
        use.append(sum(entry[1] for entry in sent.entries) / (limits.tokens_per_minute * seconds / 60))
    assert max(use) >= 0.95
    counts = [sent.by(worker) for worker in range(workers)]
    assert max(counts) - min(counts) <= max(3, 0.05 * max(counts))
    assert len(place.asked) <= workers * seconds * 12


def test_estimates_that_are_wrong_are_settled() -> None:
    for guess in (0.33, 3.0):
        sent = run(work(Place(), Limits(tokens_per_minute=200_000), workers=4, seconds=125.0, guess=guess))
        assert sent.worst(tokens=True) <= 1.05 * 200_000
        assert sum(entry[1] for entry in sent.entries) >= 0.8 * 200_000 * 125 / 60


def test_one_busy_worker_has_everything_while_the_others_are_idle() -> None:
    sent = run(work(Place(), Limits(requests_per_minute=600), workers=4, seconds=125.0, idle=(1, 2, 3)))
    assert sent.by(0) >= 0.95 * 600 * 125 / 60


def test_a_dead_worker_takes_one_lease_with_it() -> None:
    sent = run(work(Place(), Limits(requests_per_minute=600), workers=4, seconds=185.0, dies=2))
    assert sent.worst(tokens=False) <= 600
    assert len(sent.entries) >= 0.95 * 600 * 185 / 60


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_workers_do_within_their_leases_no_minute_is_passed(data: st.DataObject) -> None:
    rnd = random.Random(data.draw(st.integers(0, 10**9)))
    limits = data.draw(st.sampled_from([(60.0, None), (600.0, 20_000.0), (None, 5_000.0)]))
    rpm, tpm = limits
    now = 1000.0
    account = Account("one", now)
    leases: dict[str, tuple[Lease, float, float, float]] = {}
    sent: list[tuple[float, float, float]] = []
    for _ in range(data.draw(st.integers(1, 400))):
        now += rnd.choice((0.0, 0.01, 0.1, 0.5)) * rnd.random()
        worker = rnd.choice("abc")
        ending = Ask(worker=worker, requests_per_minute=rpm, tokens_per_minute=tpm)
        if worker in leases:
            lease, granted, requests, tokens = leases.pop(worker)
            begins, ends = granted + lease.starts, granted + lease.starts + lease.seconds
            if now >= begins:
                # Something of it was spent, at some time in its life, or nothing was said of it ever again.
                share = rnd.choice((0.0, 0.3, 1.0))
                requests, tokens = int(lease.requests * share), lease.tokens * share
                sent.append((rnd.uniform(begins, min(now, ends)), requests, tokens))
                if rnd.random() < 0.1:
                    continue
            ending.epoch, ending.lease = lease.epoch, lease.number
            ending.spent_requests, ending.spent_tokens = requests, tokens
        ending.calls = rnd.choice((0, 1, 3, 100))
        ending.tokens = rnd.choice((10.0, 400.0, 3000.0)) if tpm is not None else 0.0
        lease = account.lease(ending, now)
        if lease.number:
            assert lease.requests >= 1
            leases[worker] = (lease, now, 0.0, 0.0)
    for index, limit in ((1, rpm), (2, tpm)):
        if limit is not None:
            for time, *_ in sent:
                assert sum(entry[index] for entry in sent if time - 60.0 < entry[0] <= time) <= limit + 1e-6


def test_what_is_given_back_is_there_for_the_next_at_once() -> None:
    account = Account("one", 0.0)
    ask = Ask(worker="a", requests_per_minute=None, tokens_per_minute=6_000, calls=1, tokens=6_000.0)
    lease = account.lease(ask, 100.0)
    other = Ask(worker="b", requests_per_minute=None, tokens_per_minute=6_000, calls=1, tokens=3_000.0)
    assert account.lease(other, 100.0).starts > 60.0
    account.lease(Ask(worker="b", requests_per_minute=None, tokens_per_minute=6_000, epoch="one", lease=2), 100.1)
    account.lease(
        Ask(worker="a", requests_per_minute=None, tokens_per_minute=6_000, epoch="one", lease=lease.number), 101
    )
    assert account.lease(other, 101.0).starts == 0.0


def test_a_pause_that_one_worker_was_told_holds_for_all() -> None:
    async def main() -> tuple[float, str | None]:
        place, loop = Place(), asyncio.get_running_loop()
        limits = Limits(requests_per_minute=600)
        one, other = limiter(place, limits), limiter(place, limits)
        one.endpoint.pause(loop.time() + 7.0)
        await asyncio.sleep(0.1)
        began = loop.time()
        waiting = asyncio.create_task(other.enter(0.0))
        await asyncio.sleep(1.0)
        held_by = other.held_by(loop.time())
        await waiting
        return loop.time() - began, held_by

    waited, held_by = run(main())
    assert waited == pytest.approx(6.9, abs=0.05)
    assert held_by == "pause"


def test_who_leaves_the_line_leaves_nothing_behind() -> None:
    async def main() -> None:
        place, limits = Place(), Limits(requests_per_minute=60, tokens_per_minute=60_000)
        own = limiter(place, limits)
        for steps in range(12):
            task = asyncio.create_task(own.enter(1000.0))
            for _ in range(steps):
                await asyncio.sleep(0.0005)
            task.cancel()
            try:
                admission = await task
            except asyncio.CancelledError:
                continue
            own.withdraw(admission)
        assert (own.in_flight, own.waiting) == (0, 0)
        await own.endpoint.close()
        assert place.account is not None
        whole = Ask(worker="z", requests_per_minute=60, tokens_per_minute=60_000, calls=1, tokens=60_000.0)
        assert place.account.lease(whole, asyncio.get_running_loop().time()).starts == 0.0

    run(main())


def test_what_was_leased_and_not_spent_is_given_back_when_it_ends() -> None:
    async def main() -> None:
        place, limits = Place(), Limits(tokens_per_minute=6_000)
        own = limiter(place, limits)
        own.leave(await own.enter(6_000.0), 0.0)
        await asyncio.sleep(2 * TTL)
        last = place.asked[-1]
        assert (last.calls, last.lease, last.spent_tokens) == (0, 1, 0.0)

    run(main())


def test_a_place_that_fails_is_asked_again() -> None:
    async def main() -> Admission:
        place = Place()
        place.is_broken = True
        own = limiter(place, Limits(requests_per_minute=600))
        task = asyncio.create_task(own.enter(0.0))
        await asyncio.sleep(2.5)
        assert len(place.asked) == 3
        place.is_broken = False
        return await task

    assert run(main()).allotment is not None


def test_a_quota_without_a_limit_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="limits="):
        AsyncClient(endpoints=[Endpoint(base_url="http://127.0.0.1:1", quota=Place())])


def test_limits_are_split_where_nothing_is_shared() -> None:
    whole = Limits(requests_per_minute=600, tokens_per_minute=9_000, concurrency=10)
    parts = [whole.share(index, 4) for index in (1, 2, 3, 4)]
    assert [part.concurrency for part in parts] == [3, 3, 2, 2]
    assert parts[0].requests_per_minute == 150
    assert parts[0].tokens_per_minute == 2_250
    assert Limits(concurrency=1).share(2, 2).concurrency == 1
    with pytest.raises(ValueError, match="index must be"):
        whole.share(5, 4)


# Money


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 400), st.floats(0, 1)), max_size=60))
def test_all_that_is_drawn_is_never_more_than_there_is(asks: list[tuple[str, int, float]]) -> None:
    purse, held = Purse(), dict.fromkeys("abc", 0)
    for worker, needs, share in asks:
        keeps = int(held[worker] * share)
        draw = Draw(worker=worker, purse="usd", total=1000, keeps=keeps, needs=needs)
        held[worker] = keeps + purse.draw(draw, 0.0).granted
        assert sum(held.values()) <= 1000


@asynccontextmanager
async def clients(make: Callable[[], Budget], count: int = 3) -> AsyncIterator[tuple[Simulator, list[AsyncClient]]]:
    async with Simulator() as simulator:
        made = [AsyncClient(api_key="k", base_url=simulator.base_url, budget=make()) for _ in range(count)]
        try:
            yield simulator, made
        finally:
            for client in made:
                await client.close()


async def ask(client: AsyncClient) -> bool:
    try:
        await client.chat.completions.create(
            model="openai/gpt-5-nano-2025-08-07",
            messages=[{"role": "user", "content": "Hello"}],
            max_completion_tokens=50,
        )
    except BudgetExceededError:
        return False
    return True


async def test_workers_spend_one_budget_together_and_no_more() -> None:
    place, price = Place(), Price.per_million(input=1.0, output=1.0)
    prices = {"openai/gpt-5-nano-2025-08-07": price}
    async with clients(lambda: SharedBudget(0.005, quota=place, prices=prices)) as (simulator, made):
        answers = await asyncio.gather(*(ask(made[n % 3]) for n in range(90)))
        budgets = [client.budget for client in made]
        assert simulator.ledger.cost_usd <= 0.005
        assert sum(budget.spent for budget in budgets if budget is not None) <= 0.005
        assert sum(answers) > 0
    # What nobody spent is there again.
    left = 0.005 - sum(budget.spent for budget in budgets if budget is not None)
    needs = int(left * 10**9) - 3
    draw = Draw(worker="z", purse="usd", total=5_000_000, keeps=0, needs=needs)
    assert place.purse.draw(draw, 0.0).granted >= needs


async def test_a_budget_whose_place_is_away_says_so_and_spends_nothing_new() -> None:
    place = Place()
    place.is_broken = True
    async with clients(lambda: SharedBudget(1.0, quota=place), count=1) as (simulator, made):
        with pytest.raises(BudgetExceededError, match="it is away"):
            await made[0].chat.completions.create(model="m", messages=[{"role": "user", "content": "Hello"}])
        assert len(simulator.ledger) == 0


def test_many_workers_ask_no_more_often_and_use_the_whole_limit() -> None:
    rpm, workers, seconds = 300_000.0, 600, 6.0
    account = Account("e", 0.0, opens=0.0)
    # When each asks next, and for which lease it reports.
    line = [(0.001 * n, n, 0, 0.0) for n in range(workers)]
    heapq.heapify(line)
    asks, sent = 0, 0.0
    while line[0][0] < seconds:
        now, worker, number, spent = heapq.heappop(line)
        ask = Ask(worker=str(worker), requests_per_minute=rpm, tokens_per_minute=None, calls=10_000, epoch="e")
        ask.lease, ask.spent_requests = number, spent
        lease = account.lease(ask, now)
        asks += 1
        sent += lease.requests
        heapq.heappush(line, (now + lease.starts + 0.01, worker, lease.number, lease.requests))
    assert asks <= 1.2 * LEASES * seconds
    assert 0.93 * rpm * seconds / 60 <= sent <= 1.1 * rpm * seconds / 60
