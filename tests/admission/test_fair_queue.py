"""The order of the fair queue: priorities, tenants and cancelled waiters, against a model made of lists alone."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Sequence

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aimlasync import AsyncClient, Endpoint, OverloadedError
from aimlasync.admission.endpoint_limiter import Admission, EndpointLimiter
from aimlasync.admission.fair_queue import _MAX_CANCELLED, BULK_EVERY, FairQueue, Waiter
from aimlasync.admission.limiter import Limiter
from aimlasync.admission.outcome import Outcome
from aimlasync.client.balancer import Balancer
from aimlasync.client.call import Call
from aimlasync.config import Limits, Priority, Timeout
from aimlasync.info import Info
from aimlasync.resilience.retry import Retry
from aimlasync.simulator import Simulator
from tests.support.virtual import run

PRIORITIES: list[Priority] = ["interactive", "bulk"]
TENANTS = [None, "ann", "bob", "cem"]


class Model:
    """A list of (tenant, numbers) for each priority, the next to be served first."""

    def __init__(self) -> None:
        self.queues: dict[Priority, list[tuple[str | None, list[int]]]] = {"interactive": [], "bulk": []}
        self.gone: set[int] = set()
        self.since_bulk = 0

    def join(self, number: int, priority: Priority, tenant: str | None) -> None:
        queue = self.queues[priority]
        for who, numbers in queue:
            if who == tenant:
                numbers.append(number)
                return
        queue.append((tenant, [number]))

    def first(self, priority: Priority) -> int | None:
        queue = self.queues[priority]
        while queue:
            numbers = queue[0][1]
            while numbers and numbers[0] in self.gone:
                numbers.pop(0)
            if numbers:
                return numbers[0]
            queue.pop(0)
        return None

    def head(self) -> tuple[Priority, int] | None:
        interactive, bulk = self.first("interactive"), self.first("bulk")
        if bulk is not None and (interactive is None or self.since_bulk >= BULK_EVERY):
            return "bulk", bulk
        return None if interactive is None else ("interactive", interactive)

    def serve(self, priority: Priority) -> None:
        tenant, numbers = self.queues[priority].pop(0)
        numbers.pop(0)
        if numbers:
            self.queues[priority].append((tenant, numbers))
        self.since_bulk = 0 if priority == "bulk" else self.since_bulk + 1


class Waiting(RuleBasedStateMachine):
    """Join, be served, leave, in any order."""

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.queue: FairQueue[None] = FairQueue()
        self.model = Model()
        self.waiters: dict[int, Waiter[None]] = {}
        # Those that wait: number -> tenant.
        self.waiting: dict[int, str | None] = {}
        # Interactive turns since bulk had one, while bulk waits.
        self.bulk_passed = 0

    async def _join(self, priority: Priority, tenant: str | None) -> Waiter[None]:
        return self.queue.join(priority, lambda: 0.0, tenant)

    @rule(priority=st.sampled_from(PRIORITIES), tenant=st.sampled_from(TENANTS), count=st.sampled_from([1, 1, 2, 5]))
    def join(self, priority: Priority, tenant: str | None, count: int) -> None:
        for _ in range(count):
            number = len(self.waiters)
            self.waiters[number] = self.loop.run_until_complete(self._join(priority, tenant))
            self.model.join(number, priority, tenant)
            self.waiting[number] = tenant

    @rule(count=st.sampled_from([1, 1, 3, 10]))
    def serve(self, count: int) -> None:
        for _ in range(count):
            waiter, expected = self.queue.head(), self.model.head()
            assert (waiter is None) is (expected is None)
            if waiter is None or expected is None:
                return
            priority, number = expected
            assert self.waiters[number] is waiter
            bulk_waits = any(self.waiters[number].priority == "bulk" for number in self.waiting)
            self.bulk_passed = self.bulk_passed + 1 if bulk_waits and priority != "bulk" else 0
            assert self.bulk_passed <= BULK_EVERY, "bulk has its share"
            self.queue.serve(waiter, None)
            self.model.serve(priority)
            del self.waiting[number]

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), looks_between=st.booleans())
    def leave(self, data: st.DataObject, looks_between: bool) -> None:
        number = data.draw(st.sampled_from(sorted(self.waiting)))
        self.waiters[number].turn.cancel()
        self.model.gone.add(number)
        if looks_between:
            # The cancelled waiter has not called `left` yet, and another caller reads the head.
            self.queue.head()
            self.model.head()
        self.queue.left(self.waiters[number])
        del self.waiting[number]

    @invariant()
    def counts(self) -> None:
        if not hasattr(self, "queue"):
            return
        assert self.queue.waiting == len(self.waiting)
        of = Counter(self.waiting.values())
        for tenant in TENANTS[1:]:
            assert tenant is not None
            assert self.queue.waiting_of(tenant) == of[tenant]
        for each in (self.queue._interactive, self.queue._bulk):
            assert each.length == len(each.current) + sum(map(len, each.others.values()))
            assert set(each.by_tenant) <= set(of), "a tenant without waiters is removed"
        assert 0 <= self.queue.ahead("interactive", "ann") <= self.queue.waiting_for("interactive")
        assert 0 <= self.queue.ahead("bulk", None) <= self.queue.waiting_for("bulk") == self.queue.waiting

    def teardown(self) -> None:
        if not hasattr(self, "queue"):
            return
        self.loop.close()
        self.serve(len(self.waiting) + 1)
        assert not self.waiting, "a waiter was lost"


TestWaiting = Waiting.TestCase
TestWaiting.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def order_of(joins: Sequence[tuple[Priority, str | None]]) -> list[str | None]:
    """Whose turn it is, one after the other, when these join in this order."""

    async def main() -> list[str | None]:
        queue: FairQueue[None] = FairQueue()
        for priority, tenant in joins:
            queue.join(priority, lambda: 0.0, tenant)
        order = []
        while (waiter := queue.head()) is not None:
            queue.serve(waiter, None)
            order.append(waiter.tenant)
        return order

    return run(main())


def interactive(*tenants: str | None) -> list[tuple[Priority, str | None]]:
    return [("interactive", tenant) for tenant in tenants]


def test_one_tenant_with_hundreds_of_calls_delays_the_others_by_one() -> None:
    order = order_of(interactive(*["busy"] * 500, "ann", "bob"))
    assert order[:4] == ["busy", "ann", "bob", "busy"]
    assert len(order) == 502


def test_a_call_that_is_tried_again_goes_first_of_its_tenant_and_takes_no_turn_of_another() -> None:
    async def main() -> None:
        queue: FairQueue[None] = FairQueue()
        names: dict[Waiter[None], str] = {}
        for name, tenant, again in (("x1", "x", False), ("x2", "x", False), ("y1", "y", False), ("x0", "x", True)):
            names[queue.join("interactive", lambda: 0.0, tenant, again=again)] = name
        names[queue.join("interactive", lambda: 0.0, "y", again=True)] = "y0"
        order = []
        while (waiter := queue.head()) is not None:
            order.append(names[waiter])
            queue.serve(waiter, None)
        assert order == ["x0", "y0", "x1", "y1", "x2"]

    asyncio.run(main())


def test_calls_without_a_tenant_are_one_tenant() -> None:
    assert order_of(interactive(None, None, None, None, "ann", "ann")) == [None, "ann", None, "ann", None, None]


def test_tenants_take_turns_among_bulk_calls_too() -> None:
    order = order_of([("bulk", tenant) for tenant in ("busy", "busy", "busy", "ann")])
    assert order == ["busy", "ann", "busy", "busy"]


def test_tenants_that_left_are_forgotten() -> None:
    async def main() -> None:
        queue: FairQueue[None] = FairQueue()
        waiters = [queue.join("interactive", lambda: 0.0, f"tenant {number}") for number in range(5000)]
        for waiter in waiters:
            waiter.turn.cancel()
            queue.left(waiter)
        interactive = queue._interactive
        assert queue.waiting == 0
        assert interactive.by_tenant == {}
        assert len(interactive.others) <= interactive.length <= _MAX_CANCELLED
        assert queue.head() is None
        assert interactive.length == len(interactive.others) == 0

    run(main())


@pytest.mark.parametrize("seed", range(8))
def test_of_many_tenants_that_come_and_go_nobody_is_lost(seed: int) -> None:
    draw = random.Random(seed)

    async def main() -> None:
        limiter = Limiter(EndpointLimiter(Limits(requests_per_minute=6000)), limit=3)

        async def one(priority: Priority, tenant: str | None) -> None:
            admission = await limiter.enter(0.0, priority, tenant)
            try:
                await asyncio.sleep(draw.random())
            finally:
                limiter.leave(admission)

        tasks: list[asyncio.Task[None]] = []
        for number in range(300):
            priority, tenant = draw.choice(PRIORITIES), draw.choice([*TENANTS, f"tenant {number}"])
            tasks.append(asyncio.create_task(one(priority, tenant)))
            if draw.random() < 0.3:
                await asyncio.sleep(draw.random() / 10)
            if draw.random() < 0.3:
                draw.choice(tasks).cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {type(None), asyncio.CancelledError}
        assert (limiter.in_flight, limiter.waiting) == (0, 0)
        assert limiter.queue._interactive.by_tenant == limiter.queue._bulk.by_tenant == {}

    run(main())


def call_of(pool: Balancer, tenant: str | None = None, priority: Priority = "interactive") -> Call:
    return Call(
        method="POST",
        targets=pool.targets("chat", {"model": "m", "messages": []}, Info(model="m"), validate=False),
        headers=pool.upstreams[0].headers,
        info=Info(model="m"),
        timeout=Timeout(),
        retry=Retry(),
        started=0.0,
        priority=priority,
        tenant=tenant,
    )


def pool(**options: object) -> Balancer:
    made = Balancer([Endpoint(base_url="http://127.0.0.1:1/v1")], Limits(concurrency=1), **options)  # type: ignore[arg-type]
    made.upstreams[0].lane("m").held_for = 1.0
    return made


async def drain(one: Balancer, waiting: list[Awaitable[object]]) -> None:
    for task in waiting:
        assert isinstance(task, asyncio.Task)
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert one.upstreams[0].limiter.waiting == 0


async def test_a_tenant_fills_its_own_queue_and_nobody_elses() -> None:
    one = pool(max_queue_per_tenant=2)
    permit = await one.admit(call_of(one))
    waiting = [asyncio.ensure_future(one.admit(call_of(one, tenant))) for tenant in ("busy", "busy", "ann", None, None)]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError, match="of this tenant"):
        await one.admit(call_of(one, "busy"))
    permit.release(Outcome.IGNORED)
    await waiting[0]
    assert one.upstreams[0].limiter.waiting == 4
    await drain(one, [*waiting[1:]])


async def test_a_busy_tenant_or_bulk_makes_no_line_too_long_for_others() -> None:
    one = pool(max_wait=5.0)
    await one.admit(call_of(one))
    loop = asyncio.get_running_loop()
    limiter = one.upstreams[0].lane("m").limiter
    waiting = [loop.create_task(limiter.enter(0.0, "interactive", "busy")) for _ in range(50)]
    waiting += [loop.create_task(limiter.enter(0.0, "bulk", None)) for _ in range(50)]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError, match="s long"):
        await one.admit(call_of(one, "busy"))
    with pytest.raises(OverloadedError, match="s long"):
        await one.admit(call_of(one, "ann", "bulk"))
    light = loop.create_task(one.admit(call_of(one, "ann")))
    await asyncio.sleep(0)
    assert not light.done()
    await drain(one, [*waiting, light])


async def test_the_expected_wait_follows_how_long_permits_are_held_or_how_far_apart_requests_are() -> None:
    one = pool(max_wait=5.0)
    permit = await one.admit(call_of(one))
    upstream = one.upstreams[0].lane("m")
    loop = asyncio.get_running_loop()
    assert upstream.expected_wait("interactive", None) == 0
    waiting = [loop.create_task(upstream.limiter.enter(0.0)) for _ in range(3)]
    await asyncio.sleep(0)
    # A stream whose first byte came at once, and its last after 21 s: a tenth of the average is new.
    permit.sent_at = loop.time() - 21.0
    permit.release(Outcome.OK)
    assert upstream.held_for == pytest.approx(3.0, abs=0.1)
    await asyncio.sleep(0)
    assert upstream.expected_wait("interactive", None) == pytest.approx(3 * upstream.held_for)
    rated = Balancer([Endpoint(base_url="http://127.0.0.1:1/v1")], Limits(requests_per_minute=6)).upstreams[0].lane("m")
    waiting += [loop.create_task(rated.limiter.enter(0.0)) for _ in range(4)]
    await asyncio.sleep(0)
    assert rated.expected_wait("interactive", None) == pytest.approx(10.0 * (rated.limiter.waiting + 1))
    await drain(one, [*waiting])


class Counted(FairQueue[Admission]):
    """Counts how often somebody looks who is next."""

    looks = 0

    def head(self) -> Waiter[Admission] | None:
        Counted.looks += 1
        return super().head()


@pytest.mark.parametrize("priority", PRIORITIES)
async def test_models_that_wait_are_not_all_looked_at_for_each_call(priority: Priority) -> None:
    """A bulk job of a hundred models looked at each of them for each call that it sent."""
    shared = EndpointLimiter(Limits(concurrency=1))
    order: list[int] = []

    async def call(number: int) -> None:
        admission = await models[number].enter(0.0, priority)
        order.append(number)
        await asyncio.sleep(0)
        models[number].leave(admission)

    models = [Limiter(shared, limit=9) for _ in range(100)]
    for each in models:
        each.queue = Counted()
    Counted.looks = 0
    await asyncio.gather(*(call(number) for _ in range(3) for number in range(100)))
    assert Counted.looks < 5 * len(order)
    # In turn, but for the first of all, which had not to wait.
    assert all(count == 3 for count in Counter(order).values())
    assert sorted(order[:100]) == list(range(100))
    assert (shared.waiting, shared.waiting_bulk, shared.ready) == (0, 0, {})


async def test_bulk_fills_no_interactive_queue() -> None:
    one = pool(max_queue=2)
    await one.admit(call_of(one))
    waiting = [asyncio.ensure_future(one.admit(call_of(one, priority="bulk"))) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError, match="2 calls"):
        await one.admit(call_of(one, priority="bulk"))
    waiting += [asyncio.ensure_future(one.admit(call_of(one))) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError, match="2 calls"):
        await one.admit(call_of(one))
    await drain(one, [*waiting])


async def test_a_call_names_its_tenant(simulator: Simulator) -> None:
    order: list[str] = []
    endpoint = Endpoint.aimlapi(api_key="k", base_url=simulator.base_url, limits=Limits(concurrency=1))
    async with AsyncClient(endpoints=[endpoint]) as client:

        async def ask(tenant: str) -> None:
            if len(order) % 2:
                await client.responses.create(model="openai/gpt-5-pro", input="Hello", tenant=tenant)
            else:
                messages = [{"role": "user", "content": "Hello"}]
                await client.chat.completions.create(
                    model="openai/gpt-5-nano-2025-08-07", messages=messages, tenant=tenant
                )
            order.append(tenant)

        await asyncio.gather(*(ask("busy") for _ in range(20)), *(ask("ann") for _ in range(2)))
    assert order[:5].count("ann") == 2
