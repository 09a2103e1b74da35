"""Calls that wait at an endpoint that hangs or pauses go to another one that has room."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from aimlasync.admission.limiter import Limiter
from aimlasync.admission.outcome import Outcome
from aimlasync.client.balancer import Balancer
from aimlasync.client.call import Attempt
from aimlasync.errors import OverloadedError
from tests.client.test_balancer import call_for, empty_environment, pool
from tests.support.virtual import run

__all__ = ["empty_environment"]


async def full(of: Balancer) -> list[list[Attempt]]:
    """Take all places, and return the attempts of each endpoint."""
    held: list[list[Attempt]] = [[] for _ in of.upstreams]
    for _ in range(sum(upstream.limiter.limit for upstream in of.upstreams)):
        attempt = await of.admit(call_for(of))
        held[of.upstreams.index(attempt.target.upstream)].append(attempt)
    return held


async def line(of: Balancer, at: int, options: Sequence[dict[str, Any]]) -> list[asyncio.Task[Attempt]]:
    """Let calls wait at one endpoint while the others are paused."""
    now = asyncio.get_running_loop().time()
    for upstream in of.upstreams:
        upstream.limiter.paused_until = now if upstream is of.upstreams[at] else now + 1
    waiting = []
    for each in options:
        waiting.append(asyncio.ensure_future(of.admit(call_for(of, **each))))
        await asyncio.sleep(0)
    assert of.upstreams[at].limiter.waiting == len(options)
    for upstream in of.upstreams:
        upstream.limiter.paused_until = float("-inf")
    return waiting


async def settled(of: Balancer, attempts: Sequence[Attempt]) -> None:
    """Everything is whole when all attempts have ended."""
    for attempt in attempts:
        attempt.release(Outcome.IGNORED)
    for upstream in of.upstreams:
        assert (upstream.limiter.waiting, upstream.limiter.in_flight) == (0, 0)
        assert upstream.attempt_ended is None


def test_calls_leave_an_endpoint_that_hangs_as_others_have_room() -> None:
    async def main() -> None:
        both = pool(1, 1)
        [hangs], [works] = await full(both)
        waiting = await line(both, 0, [{}, {}])
        done = [works]
        for task in waiting:
            done[-1].release(Outcome.OK)
            done.append(await task)
            assert done[-1].target.upstream is both.upstreams[1]
            assert [step.endpoint for step in done[-1].info.steps if step.seconds is not None] == ["0.example"]
        await settled(both, [hangs, *done])

    run(asyncio.wait_for(main(), 60))


async def test_calls_wait_where_the_next_endpoint_opens_within_a_part_of_a_millisecond(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To uvloop so short a wait is none, and what it gives for one has no time."""
    both = pool(1, 1)
    held = await full(both)
    monkeypatch.setattr(Limiter, "opens_in", lambda self, now: 1e-4)
    waiting = [asyncio.ensure_future(both.admit(call_for(both))) for _ in range(4)]
    await asyncio.sleep(0.01)
    assert not any(task.done() for task in waiting)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await settled(both, [attempt for attempts in held for attempt in attempts])


@pytest.mark.parametrize("affinity", [None, "talk"])
def test_calls_leave_an_endpoint_that_pauses(affinity: str | None) -> None:
    async def main() -> None:
        both = pool(2, 3)
        slow, fast = await full(both)
        waiting = await line(both, 0, [{"affinity": affinity}] * 3)
        for attempt in fast[1:]:
            attempt.release(Outcome.OK)
        both.upstreams[0].limiter.pause(asyncio.get_running_loop().time() + 8)
        slow[0].release(Outcome.IGNORED)
        moved, [still] = await asyncio.wait(waiting, timeout=1)
        assert {(await task).target.upstream for task in moved} == {both.upstreams[1]}
        fast[0].release(Outcome.OK)
        await settled(both, [*slow, *fast, *[await task for task in waiting], await still])

    run(asyncio.wait_for(main(), 60))


def test_calls_leave_when_another_endpoint_opens_though_no_attempt_ends() -> None:
    async def main() -> None:
        both = pool(1, 2)
        [hangs], held = await full(both)
        for attempt in held:
            attempt.release(Outcome.IGNORED)
        loop = asyncio.get_running_loop()
        began = loop.time()
        both.upstreams[1].limiter.pause(began + 3)
        waiting = [asyncio.ensure_future(both.admit(call_for(both))) for _ in range(3)]
        moved, late = await asyncio.wait(waiting, timeout=4)
        assert {(await task).target.upstream for task in moved} == {both.upstreams[1]}
        assert [(await task).sent_at - began for task in moved] == pytest.approx([3.0, 3.0], abs=0.01)
        hangs.release(Outcome.OK)
        await settled(both, [await task for task in (*moved, *late)])

    run(asyncio.wait_for(main(), 60))


def test_who_goes_first_at_home_goes_first_elsewhere() -> None:
    async def main() -> None:
        both = pool(1, 1)
        [hangs], [works] = await full(both)
        bulk, asked = await line(both, 0, [{"priority": "bulk"}, {"priority": "interactive"}])
        works.release(Outcome.OK)
        first = await asked
        assert not bulk.done()
        first.release(Outcome.OK)
        await settled(both, [hangs, await bulk])

    run(asyncio.wait_for(main(), 60))


def test_a_call_that_no_other_endpoint_can_serve_stays() -> None:
    async def main() -> None:
        both = pool(1, 1)
        [mine], [works] = await full(both)
        waiting = asyncio.ensure_future(both.admit(call_for(both, 0)))
        await asyncio.sleep(0)
        works.release(Outcome.OK)
        await asyncio.sleep(0.01)
        assert not waiting.done()
        mine.release(Outcome.OK)
        await settled(both, [await waiting])

    run(asyncio.wait_for(main(), 60))


def test_a_call_that_is_cancelled_as_it_goes_holds_nothing() -> None:
    async def main() -> None:
        both = pool(1, 1)
        [hangs], [works] = await full(both)
        leaves, stays = await line(both, 0, [{}, {}])
        works.release(Outcome.OK)
        leaves.cancel()
        await asyncio.wait([leaves])
        assert leaves.cancelled()
        # The place is still free, and the next attempt that ends says so.
        hangs.release(Outcome.OK)
        await settled(both, [await stays])

    run(asyncio.wait_for(main(), 60))


def test_going_elsewhere_makes_no_wait_longer_than_allowed() -> None:
    async def main() -> None:
        both = pool(1, 1, max_wait=2.0)
        loop = asyncio.get_running_loop()
        [hangs], [works] = await full(both)
        [waiting] = await line(both, 0, [{}])
        began = loop.time()
        await asyncio.sleep(1.5)
        works.release(Outcome.OK)
        # Somebody else is faster.
        taken = both.admit_nowait(call_for(both), loop.time(), loop)
        assert taken is not None
        with pytest.raises(OverloadedError):
            await waiting
        assert loop.time() - began == pytest.approx(2.0)
        await settled(both, [hangs, taken])

    run(asyncio.wait_for(main(), 60))


@pytest.mark.parametrize(("pauses", "reason"), [(True, "paused until"), (False, "a place at")])
def test_what_a_call_waits_for_is_what_it_waits_for_at_the_end(pauses: bool, reason: str) -> None:
    async def main() -> None:
        one = pool(1)
        [[mine]] = await full(one)
        call = call_for(one)
        waiting = asyncio.ensure_future(one.admit(call))
        await asyncio.sleep(1)
        if pauses:
            one.upstreams[0].limiter.pause(asyncio.get_running_loop().time() + 5)
            mine.release(Outcome.IGNORED)
        await asyncio.sleep(1)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert reason in str(call.waits_for)
        await settled(one, [mine])

    run(asyncio.wait_for(main(), 60))
