"""Claims about hedging: when a second attempt is sent, how many there are, and that the loser leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from aimlasync import APITimeoutError, AsyncClient, Endpoint, Hedge, Limits
from aimlasync.cost.budget import Budget
from aimlasync.cost.prices import Price
from aimlasync.resilience.hedging import Hedging, race
from aimlasync.simulator import Fault, Simulator
from tests.support.servers import until

NANO = "openai/gpt-5-nano-2025-08-07"
HELLO: Any = [{"role": "user", "content": "Hello"}]
KIND = (NANO, False)

# --- how many, and when --------------------------------------------------------------------------------------------


def test_hedges_are_never_more_than_their_share_of_the_calls() -> None:
    hedging = Hedging(Hedge(after=0.0))
    sent = 0
    for call in range(1, 2001):
        hedging.delay(KIND)
        sent += hedging.take()
        assert sent <= 0.05 * call
    assert sent == 100


def test_what_quiet_times_save_up_is_bounded() -> None:
    hedging = Hedging(Hedge(after=0.0))
    for _ in range(10_000):
        hedging.delay(KIND)
    assert sum(hedging.take() for _ in range(100)) == 5


def test_hedge_that_was_not_sent_is_given_back() -> None:
    hedging = Hedging(Hedge(after=0.0, max_extra=1.0))
    hedging.delay(KIND)
    assert hedging.take()
    hedging.give_back()
    assert hedging.take()
    assert not hedging.take()


def test_delay_is_the_95th_percentile_of_such_calls_once_it_is_known() -> None:
    hedging = Hedging(Hedge())
    for number in range(19):
        hedging.took(KIND, number / 100)
    assert hedging.delay(KIND) is None
    for number in range(19, 100):
        hedging.took(KIND, number / 100)
    delay = hedging.delay(KIND)
    assert delay is not None
    assert 0.85 <= delay <= 0.97
    assert hedging.delay((NANO, True)) is None


def test_kinds_are_bounded_and_the_oldest_goes() -> None:
    hedging = Hedging(Hedge())
    for number in range(200):
        for _ in range(20):
            hedging.took((f"model-{number}", False), 1.0)
    assert hedging.delay(("model-0", False)) is None
    assert hedging.delay(("model-199", False)) == 1.0


@pytest.mark.parametrize("wrong", [{"after": -1.0}, {"after": float("inf")}, {"max_extra": 0.0}, {"max_extra": 1.5}])
def test_hedge_that_means_nothing_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Hedge(**wrong)


# --- the race ------------------------------------------------------------------------------------------------------


class Runner:
    """One who runs until told how it ends."""

    def __init__(self) -> None:
        self.end: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.began = self.was_cancelled = False

    async def __call__(self) -> Any:
        self.began = True
        try:
            return await self.end
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise


async def in_turn(steps: list[Callable[[], Any]]) -> None:
    for step in steps:
        for _ in range(5):
            await asyncio.sleep(0)
        step()


async def test_first_alone_when_it_is_fast_enough() -> None:
    first, second = Runner(), Runner()
    first.end.set_result("first")
    assert await race(first(), second, delay=60) == "first"
    assert not second.began


async def test_faster_one_wins_and_the_other_is_cancelled() -> None:
    first, second = Runner(), Runner()
    racing = asyncio.create_task(race(first(), second, delay=0))
    await in_turn([lambda: second.end.set_result("second")])
    assert await racing == "second"
    assert first.was_cancelled


async def test_one_that_fails_waits_for_the_other_and_both_failing_is_the_first_ones_error() -> None:
    first, second = Runner(), Runner()
    racing = asyncio.create_task(race(first(), second, delay=0))
    await in_turn([lambda: first.end.set_exception(KeyError("one")), lambda: second.end.set_result("second")])
    assert await racing == "second"
    first, second = Runner(), Runner()
    racing = asyncio.create_task(race(first(), second, delay=0))
    await in_turn([lambda: second.end.set_exception(KeyError("two")), lambda: first.end.set_exception(KeyError("one"))])
    with pytest.raises(KeyError, match="one"):
        await racing


class Answer:
    """A result that holds something until it is abandoned."""

    is_abandoned = False

    def abandon(self) -> None:
        self.is_abandoned = True


async def test_result_that_came_at_the_same_time_is_abandoned() -> None:
    first, second = Runner(), Runner()
    kept, left = Answer(), Answer()
    racing = asyncio.create_task(race(first(), second, delay=0))

    def both() -> None:
        # In this order the second has its result before the first goes on.
        second.end.set_result(left)
        first.end.set_result(kept)

    await in_turn([both])
    assert await racing is kept
    assert (kept.is_abandoned, left.is_abandoned) == (False, True)


@pytest.mark.parametrize("turns", range(1, 9))
async def test_cancelled_at_any_turn_both_have_ended(turns: int) -> None:
    first, second = Runner(), Runner()
    racing = asyncio.create_task(race(first(), second, delay=0))
    for _ in range(turns):
        await asyncio.sleep(0)
    racing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await racing
    assert first.was_cancelled == first.began
    assert second.was_cancelled == second.began


# --- the client ----------------------------------------------------------------------------------------------------

SLOW = "slow_first_byte"


async def create(client: AsyncClient) -> Any:
    return await client.chat.completions.create(model=NANO, messages=HELLO)


async def stream(client: AsyncClient) -> Any:
    return await (await client.chat.completions.create(model=NANO, messages=HELLO, stream=True)).collect()


ASKS = pytest.mark.parametrize("ask", [create, stream])


@ASKS
async def test_slow_first_attempt_is_overtaken_and_its_place_given_back(
    ask: Callable[[AsyncClient], Awaitable[Any]],
) -> None:
    async with Simulator(faults=[Fault(SLOW, delay=30.0, after=20, times=1)]) as simulator:
        # What 20 calls save up is not yet one, however busy the machine is.
        hedge = Hedge(after=0.05, max_extra=0.049)
        async with AsyncClient(api_key="test", base_url=simulator.base_url, hedge=hedge, timeout=60) as client:
            for _ in range(20):
                assert (await ask(client)).info.attempts == 1
            reply = await ask(client)
            assert reply.text
            assert reply.info.attempts == 2
            (state,) = client.statistics()
            assert (state.hedges, state.in_flight, state.answered, state.cancelled) == (1, 0, 21, 1)
        assert len(simulator.ledger) == 22


@ASKS
async def test_hedge_goes_to_the_other_endpoint(ask: Callable[[AsyncClient], Awaitable[Any]]) -> None:
    async with (
        Simulator(faults=[Fault(SLOW, delay=30.0)]) as slow,
        Simulator() as fast,
    ):
        endpoints = [
            Endpoint.aimlapi(api_key="test", base_url=server.base_url, name=name)
            for name, server in (("slow", slow), ("fast", fast))
        ]
        hedge = Hedge(after=0.02, max_extra=1.0)
        async with AsyncClient(endpoints=endpoints, hedge=hedge, timeout=60) as client:
            replies = [await ask(client) for _ in range(3)]
            assert {reply.info.endpoint for reply in replies} == {"fast"}
            upstreams = {state.name: state for state in client.statistics()}
        assert upstreams["slow"].in_flight == upstreams["fast"].in_flight == 0
        # On a busy machine the fast one may be overtaken as well.
        assert upstreams["fast"].hedges == upstreams["slow"].attempts - upstreams["slow"].hedges >= 1


async def test_there_is_no_hedge_where_there_is_no_room() -> None:
    async with Simulator(faults=[Fault(SLOW, delay=0.2)]) as simulator:
        async with AsyncClient(
            api_key="test",
            base_url=simulator.base_url,
            hedge=Hedge(after=0.0, max_extra=1.0),
            limits=Limits(concurrency=1),
        ) as client:
            assert (await create(client)).info.attempts == 1


@pytest.mark.parametrize("turns", [0, 1, 2, 5, 20, 80])
async def test_cancelled_or_late_call_leaves_nothing_behind(turns: int) -> None:
    async with Simulator(faults=[Fault(SLOW, delay=30.0)]) as simulator:
        hedge = Hedge(after=0.001, max_extra=1.0)
        budget = Budget(1.0, prices={NANO: Price(input=1e-6, output=1e-6)})
        async with AsyncClient(api_key="test", base_url=simulator.base_url, hedge=hedge, budget=budget) as client:
            call = asyncio.create_task(create(client))
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert client.statistics()[0].in_flight == 0
            assert budget.reserved == 0
            with pytest.raises(APITimeoutError):
                await client.chat.completions.create(model=NANO, messages=HELLO, timeout=0.1)
            assert client.statistics()[0].in_flight == 0
            assert budget.reserved == 0


async def test_cost_of_the_loser_is_set_aside_as_unknown() -> None:
    async with Simulator(faults=[Fault(SLOW, delay=30.0, times=1)]) as simulator:
        hedge = Hedge(after=0.02, max_extra=1.0)
        budget = Budget(1.0, prices={NANO: Price(input=1e-6, output=1e-6)})
        async with AsyncClient(api_key="test", base_url=simulator.base_url, hedge=hedge, budget=budget) as client:
            reply = await create(client)
        assert reply.info.attempts == 2
        assert reply.info.cost_usd is not None
        assert budget.unknown == 1
        assert budget.reserved == 0
        assert budget.spent > reply.info.cost_usd
        await until(lambda: len(simulator.ledger) == 2)
