"""Claims about attempts that hang: they hold no place of the others, unless the user stated how many there may be."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import cycle

import pytest

from aimlasync.admission.account import begun
from aimlasync.admission.adaptive import AdaptiveLimit
from aimlasync.admission.hung import Hung
from aimlasync.admission.outcome import CANCELLED, OK, Outcome
from aimlasync.config import Limits
from aimlasync.endpoints.endpoint import Endpoint
from aimlasync.endpoints.lane import Lane, Permit
from aimlasync.endpoints.upstream import Upstream
from tests.support.permits import permit_now, permit_of
from tests.support.virtual import run


def lane_of(limits: Limits | None = None, models: int = 1) -> list[Lane]:
    made = Upstream(Endpoint(base_url="https://one.example", api_key="test"), limits or Limits())
    return [made.lane(f"m{n}") for n in range(models)]


async def answered(lane: Lane, seconds: float = 1.0) -> float:
    """Ask, and return when it was answered."""
    permit = await permit_of(lane)
    await asyncio.sleep(seconds)
    permit.release(OK)
    return asyncio.get_running_loop().time()


async def hanging(lane: Lane) -> list[Permit]:
    """Take every place and keep it, after some answers."""
    for _ in range(4):
        await answered(lane)
    held = []
    while (permit := permit_now(lane)) is not None:
        held.append(permit)
    return held


def in_virtual_time(test: Callable[[], Awaitable[None]]) -> None:
    run(test())  # type: ignore[arg-type]


def test_calls_go_on_within_a_minute_beside_those_that_hang_and_the_limit_is_itself_when_they_end() -> None:
    async def main() -> None:
        [lane] = lane_of()
        held = await hanging(lane)
        began = asyncio.get_running_loop().time()
        done = await asyncio.gather(*(answered(lane) for _ in range(100)))
        # 30 to 50 s until it is seen, one attempt that tries it, and then as many as ever.
        assert min(done) - began < 50
        assert max(done) - began < 50 + 100 / len(held) + 5
        assert lane.limiter.in_flight == lane.law.hung.count == len(held)
        assert lane.limiter.limit == len(held) + int(lane.law.limit)
        for permit, outcome in zip(held, cycle([OK, CANCELLED, Outcome.LATE, Outcome.IGNORED]), strict=False):
            permit.release(outcome)
        assert lane.law.hung.count == lane.limiter.in_flight == 0
        assert lane.limiter.limit == int(lane.law.limit)

    in_virtual_time(main)


def test_where_all_that_is_sent_hangs_one_more_is_sent_every_half_minute() -> None:
    async def main() -> None:
        [lane] = lane_of()
        held = len(await hanging(lane))
        waiting = [asyncio.create_task(permit_of(lane)) for _ in range(20)]
        await asyncio.sleep(300)
        assert held + 300 / 40 - 1 <= lane.limiter.in_flight <= held + 300 / 30
        for task in waiting:
            task.cancel()

    in_virtual_time(main)


@pytest.mark.parametrize("seconds", [20.0, 100.0])
def test_an_answer_that_takes_long_is_waited_for(seconds: float) -> None:
    async def main() -> None:
        [lane] = lane_of()
        slots = asyncio.Semaphore(1)

        async def ask() -> None:
            permit = await permit_of(lane)
            assert lane.law.hung.count == 0
            async with slots:
                await asyncio.sleep(seconds)
            permit.release(OK)

        await asyncio.gather(*(ask() for _ in range(40)))

    in_virtual_time(main)


def test_a_limit_that_the_user_stated_is_kept_whatever_hangs() -> None:
    async def main() -> None:
        [lane] = lane_of(Limits(concurrency=3))
        held = await hanging(lane)
        waiting = asyncio.create_task(permit_of(lane))
        await asyncio.sleep(500)
        assert len(held) == lane.upstream.limiter.in_flight == 3
        waiting.cancel()

    in_virtual_time(main)


def test_what_hangs_at_one_model_holds_up_no_other_where_the_limits_are_the_accounts() -> None:
    async def main() -> None:
        one, other = lane_of(models=2)
        for lane in (one, other):
            permit = await permit_of(lane)
            permit.release(Outcome.DROPPED, kind="concurrency", names_account=True)
        assert one.counted is other.counted is one.upstream.limiter
        await answered(other)
        held = await hanging(one)
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(answered(other) for _ in range(10)))
        assert asyncio.get_running_loop().time() - began < 60
        assert one.law.hung.count == len(held)

    in_virtual_time(main)


def test_attempts_of_before_and_of_after_are_told_apart() -> None:
    hung = Hung()
    hung.found(100.0, 3)
    assert hung.beside(3) == hung.beside(1) == 4
    hung.ended(99.0, is_answered=True)
    # It was slow, and says nothing of the others.
    assert (hung.count, hung.beside(1)) == (2, 3)
    hung.ended(101.0, is_answered=False)
    assert (hung.count, hung.beside(5)) == (2, 5)
    hung.ended(101.0, is_answered=True)
    assert (hung.count, hung.beside(5)) == (2, 7)


def test_a_law_that_was_put_aside_begins_without_what_hung_before() -> None:
    law = AdaptiveLimit()
    limit = law.allowed
    law.hung.found(100.0, 7)
    assert law.allowed == 8
    assert begun(law, 7, 200.0).allowed == limit
