"""Calls without an output cap: few are in flight while nobody knows what an answer costs."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest

from aimlasync import AsyncClient, Budget, BudgetExceededError, Price
from aimlasync.bulk import Caps, Options, PromptTask, run
from aimlasync.bulk.jobs.first_calls import FirstCalls
from aimlasync.simulator import Answer, Simulator
from aimlasync.simulator.latency import Latency
from tests.support.servers import until

MODEL = "openai/gpt-5-nano"
PRICE = Price.per_million(input=1, output=2)


def long(tokens: int) -> bytes:
    usage = {"prompt_tokens": 20, "completion_tokens": tokens, "total_tokens": 20 + tokens}
    choice = {"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}
    return json.dumps({"choices": [choice], "usage": usage}).encode()


@pytest.mark.parametrize("params", [{}, {"max_completion_tokens": 20_000}])
async def test_answers_that_are_longer_than_a_budget_thinks_do_not_pass_it_many_at_once(
    params: dict[str, Any], tmp_path: Path
) -> None:
    task = PromptTask(prompt="{text}", model=MODEL, params=params)
    rows = [{"text": f"row {number}"} for number in range(300)]
    options = Options(concurrency=256, caps=Caps(max_usd=1, prices={MODEL: PRICE}))
    answer = Answer(raw=long(20_000))
    async with Simulator(vendor="openai", answer=lambda _: answer, latency=Latency(first_token=0.05)) as simulator:
        async with AsyncClient(api_key="k", base_url=simulator.base_url) as client:
            summary = await run(client, rows, tmp_path / "out.jsonl", task=task, options=options)
    assert isinstance(summary.stopped_by, BudgetExceededError)
    # It has room for 24 of them.
    assert summary.totals.ok == 24
    assert summary.totals.cost == pytest.approx(24 * 0.04002)


async def test_more_are_in_flight_with_each_answer_and_none_with_a_failure() -> None:
    first, chance = FirstCalls(Budget(0.1, prices={"m": PRICE}), "m"), random.Random(7)
    in_flight: list[asyncio.Event] = []
    answered = 0

    async def call(is_good: bool) -> None:
        nonlocal answered
        await first.begin()
        ends = asyncio.Event()
        in_flight.append(ends)
        is_answered = False
        try:
            assert len(in_flight) <= 4 + answered
            await ends.wait()
            is_answered = is_good
        finally:
            in_flight.remove(ends)
            answered += is_answered
            first.end(is_answered=is_answered)

    calls = [asyncio.create_task(call(chance.random() < 0.5)) for _ in range(200)]
    await until(lambda: len(in_flight) == 4)
    assert first.is_waiting
    while not all(each.done() for each in calls):
        # Whoever leaves, also one that was just woken, takes no other's place.
        if in_flight:
            chance.choice(in_flight).set()
        await asyncio.sleep(0)
        chance.choice(calls).cancel()
        if chance.random() < 0.5:
            await asyncio.sleep(0)
    gone = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(each) for each in gone} == {asyncio.CancelledError, type(None)}
    assert not first.is_waiting


async def test_one_that_leaves_as_its_turn_comes_leaves_it_to_the_next() -> None:
    first = FirstCalls(Budget(1.0), "of a price that is not known")
    for _ in range(4):
        await first.begin()
    leaves, waits = [asyncio.create_task(first.begin()) for _ in range(2)]
    await until(lambda: len(first._waiting) == 2)
    first.end(is_answered=False)
    leaves.cancel()
    async with asyncio.timeout(60):
        await waits
    assert leaves.cancelled()


async def test_those_that_a_budget_bears_begin_at_once() -> None:
    # Each is reserved with 4,096 tokens, or less than a cent.
    first = FirstCalls(Budget(8.2, prices={"m": PRICE}), "m")
    calls = [asyncio.create_task(first.begin()) for _ in range(150)]
    await until(lambda: sum(each.done() for each in calls) == 100)
    assert first.is_waiting
    for each in calls:
        each.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
