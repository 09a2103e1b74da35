"""Two models behind one endpoint: what one is refused holds back no call of the other, unless it is the account's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from aimlasync import AsyncClient, Endpoint, Limits, RateLimitError, Retry
from aimlasync.admission.learned import Finding
from aimlasync.admission.outcome import Outcome
from aimlasync.bulk import map as bulk_map
from aimlasync.bulk import run as bulk_run
from aimlasync.client.balancer import Balancer
from aimlasync.client.call import Call
from aimlasync.endpoints.upstream import Upstream
from aimlasync.errors import (
    AimlasyncError,
    APIConnectionError,
    APITimeoutError,
    InternalServerError,
    TruncatedStreamError,
)
from aimlasync.headers import Headers
from aimlasync.info import Info
from aimlasync.simulator import Latency, Problem, Simulator
from aimlasync.simulator.vendor.request import SimRequest
from tests.support import virtual
from tests.support.servers import LEARNS_NOTHING

ONE = "openai/gpt-5-nano-2025-08-07"
OTHER = "openai/gpt-5-mini-2025-08-07"
HELLO: Any = [{"role": "user", "content": "Hello"}]


def upstreams(client: AsyncClient) -> list[Upstream]:
    return client._pipeline.balancer.upstreams


async def ask(client: AsyncClient, model: str, **options: Any) -> Any:
    return await client.chat.completions.create(model=model, messages=HELLO, **options)


async def test_a_model_that_is_refused_has_a_pause_and_counts_of_its_own() -> None:
    def answer(request: SimRequest) -> None:
        if request.model == ONE:
            raise Problem(429, "busy")

    async with (
        Simulator(answer=answer) as sim,
        AsyncClient("k", sim.base_url, retry=Retry(attempts=1), limits=LEARNS_NOTHING) as client,
    ):
        for _ in range(2):
            with pytest.raises(RateLimitError):
                await ask(client, ONE)
            # uvloop counts milliseconds, and what is sent in that of a refusal was sent before it.
            await asyncio.sleep(0.01)
        await ask(client, OTHER)
        figures = client.statistics()[0]
        assert (figures.attempts, figures.refused, figures.answered) == (3, 2, 1)
        assert {each.model: (each.refused, each.answered) for each in figures.models} == {ONE: (2, 0), OTHER: (0, 1)}
        (upstream,) = upstreams(client)
        assert "2 times in a row" in upstream.lane(ONE).paused_because
        assert not upstream.lane(OTHER).paused_because
        assert not upstream.paused_because


async def test_a_job_of_two_models_reaches_the_limits_of_both() -> None:
    limits = {ONE: 2, OTHER: 8}
    most = dict.fromkeys(limits, 0)

    def arrives(request: SimRequest) -> None:
        there = sim.admission.in_flight_of(request.model)
        most[request.model] = max(most[request.model], there)

    def rows() -> Iterator[dict[str, Any]]:
        for number in range(60):
            yield {"model": OTHER if number % 5 else ONE, "messages": HELLO}

    sim = Simulator(
        model_limits={model: Limits(concurrency=most) for model, most in limits.items()},
        latency=Latency.of(ttft=0.02),
        answer=arrives,
    )
    retry = Retry(attempts=50, base=0.001, throttle_base=0.001)
    async with sim, AsyncClient(api_key="k", base_url=sim.base_url, retry=retry) as client:
        results = [result async for result in bulk_map(client, rows())]
        assert len(results) == 60
        assert all(result.ok for result in results)
        assert most == limits
        assert client.statistics()[0].answered == 60


async def test_paths_that_name_no_model_share_one_lane() -> None:
    async with Simulator() as sim, AsyncClient(api_key="k", base_url=sim.base_url) as client:
        await client.models.list()
        await client.forward("GET", "models")
        assert [(each.model, each.attempts) for each in client.statistics()[0].models] == [("", 2)]


async def test_hundreds_of_models_leave_no_more_than_their_counts() -> None:
    async with Simulator(vendor="openai") as sim, AsyncClient(api_key="k", base_url=sim.base_url) as client:
        for first in range(0, 400, 50):
            await asyncio.gather(*(ask(client, f"model-{first + number}") for number in range(50)))
        figures = client.statistics()[0]
        assert figures.answered == 400
        assert len(figures.models) <= 256


# --- whose a failure is -----------------------------------------------------------------------------------------------


def call_for(balancer: Balancer, model: str) -> Call:
    info = Info(model=model)
    body = {"model": model, "messages": []}
    targets = balancer.targets("chat", body, info, validate=False)
    now = asyncio.get_running_loop().time()
    return Call(method="POST", targets=targets, headers=Headers(), info=info, retry=Retry(), started=now, **_USUAL)


_USUAL: Any = {"timeout": AsyncClient(api_key="k")._settings.timeout}


async def failed(balancer: Balancer, model: str, error: AimlasyncError, times: int = 1) -> None:
    for _ in range(times):
        (await balancer.admit(call_for(balancer, model))).fail(error)


def balancer(endpoints: int = 1) -> Balancer:
    return Balancer([Endpoint(base_url=f"https://{n}.example", api_key="k") for n in range(endpoints)], Limits())


@pytest.mark.parametrize(
    ("words", "is_everybodys"),
    [
        ("slow down", True),
        ("Rate limit reached for gpt-5-nano-2025-08-07 in organization org-1 on requests per min (RPM)", False),
        ("Your organization has reached its limit", True),
    ],
)
async def test_a_stated_wait_is_everybodys_unless_the_refusal_names_the_model(words: str, is_everybodys: bool) -> None:
    of = balancer()
    await failed(of, ONE, RateLimitError(words, status=429, retry_after=30.0))
    (upstream,) = of.upstreams
    now = asyncio.get_running_loop().time()
    assert upstream.lane(ONE).paused_until > now + 20
    assert (upstream.lane(OTHER).paused_until > now + 20) == is_everybodys
    assert upstream.account.signs.is_account == ("Your organization" in words)


@pytest.mark.parametrize("words", ["slow down", "20 requests per minute", "too many for your organization"])
def test_the_waits_of_a_model_that_alone_is_refused_again_are_its_own(words: str) -> None:
    async def main() -> None:
        of, loop = balancer(), asyncio.get_running_loop()
        (upstream,) = of.upstreams
        paused = []
        for _ in range(12):
            await failed(of, ONE, RateLimitError(words, status=429, retry_after=30.0))
            paused.append(upstream.limiter.paused_until)
            assert upstream.lane(ONE).paused_until > loop.time() + 20
            attempt = await of.admit(call_for(of, OTHER))
            await asyncio.sleep(1.0)
            attempt.succeed(None)
        # The first wait was everybody's. What an organization is said to have is given up after some more.
        assert paused[0] > 0
        assert paused[-1] == paused[6]
        if "organization" not in words:
            assert paused[-1] == paused[0]

    virtual.run(main())


async def test_a_refused_call_does_not_wait_behind_those_that_came_after_it() -> None:
    of = Balancer([Endpoint(base_url="https://0.example", api_key="k")], Limits(concurrency=1), max_wait=60.0)
    calls = [call_for(of, ONE) for _ in range(4)]
    attempt = await of.admit(calls[0])
    waiting = [asyncio.create_task(of.admit(call)) for call in calls[1:]]
    await asyncio.sleep(0)
    attempt.fail(RateLimitError("busy", status=429))
    again = asyncio.create_task(of.admit(calls[0]))
    order = []
    for _ in range(4):
        done, _ = await asyncio.wait([*waiting, again], return_when=asyncio.FIRST_COMPLETED)
        [one] = [task for task in done if task not in order]
        order.append(one)
        one.result().release(Outcome.OK)
        await asyncio.sleep(0)
    assert order == [waiting[0], again, *waiting[1:]]


@pytest.mark.parametrize(("attempts", "priority"), [(2, "interactive"), (1, "bulk")])
async def test_a_call_that_is_refused_again_lets_others_try_and_a_row_of_a_job_does_at_once(
    attempts: int, priority: Literal["interactive", "bulk"]
) -> None:
    of = Balancer([Endpoint(base_url="https://0.example", api_key="k")], Limits(concurrency=1))
    first, other, again = (call_for(of, ONE) for _ in range(3))
    again.info.attempts = attempts
    for call in (other, again):
        call.priority = priority
    permit = await of.admit(first)
    waiting = [asyncio.create_task(of.admit(call)) for call in (other, again)]
    await asyncio.sleep(0)
    permit.release(Outcome.OK)
    done, left = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    assert done == {waiting[0]}
    for task in done:
        task.result().release(Outcome.OK)
    for task in left:
        (await task).release(Outcome.OK)


async def test_a_model_that_fails_is_left_to_another_endpoint_and_its_neighbour_is_not() -> None:
    of = balancer(2)
    first = of.upstreams[0]
    for _ in range(6):
        first.lane(ONE).failed(asyncio.get_running_loop().time(), 0.1, "HTTP 500")
    now = asyncio.get_running_loop().time()
    assert not first.lane(ONE).allows(now)
    assert first.lane(OTHER).allows(now)
    assert first.statistics(now).state == "ok"
    attempt = await of.admit(call_for(of, ONE))
    assert attempt.target.upstream is of.upstreams[1]


@pytest.mark.parametrize(
    ("error", "is_hosts"),
    [
        (APIConnectionError("could not connect", billed=False), True),
        (APITimeoutError("no connection", phase="connect"), True),
        (APITimeoutError("it stood still", phase="idle"), False),
        (TruncatedStreamError("cut"), False),
        (InternalServerError("HTTP 500", status=500), False),
    ],
)
async def test_an_unreachable_host_is_every_models_and_any_other_failure_one_models(
    error: AimlasyncError, is_hosts: bool
) -> None:
    of = balancer()
    await failed(of, ONE, error, times=6)
    (upstream,) = of.upstreams
    now = asyncio.get_running_loop().time()
    assert not upstream.lane(ONE).allows(now)
    assert upstream.lane(OTHER).allows(now) != is_hosts


async def test_what_a_server_does_not_support_is_asked_of_another_and_opens_no_circuit() -> None:
    """llama.cpp answers an image with 500."""

    def answer(request: SimRequest) -> None:
        raise Problem(500, "image input is not supported")

    async with (
        Simulator(answer=answer) as blind,
        Simulator() as sees,
        AsyncClient(endpoints=[Endpoint(base_url=each.base_url, api_key="k") for each in (blind, sees)]) as both,
        AsyncClient(api_key="k", base_url=blind.base_url) as alone,
    ):
        for _ in range(10):
            await ask(both, ONE)
            with pytest.raises(InternalServerError, match="image input"):
                await ask(alone, ONE)
        for client in (both, alone):
            assert upstreams(client)[0].lane(ONE).is_well
        assert alone.statistics()[0].attempts == 10
        assert both.statistics()[1].answered == 10


async def test_one_answer_of_any_model_closes_the_circuit_of_the_host() -> None:
    of = balancer()
    await failed(of, ONE, APIConnectionError("could not connect", billed=False), times=6)
    (upstream,) = of.upstreams
    assert not upstream.lane(OTHER).is_well
    now = asyncio.get_running_loop().time()
    upstream.lane(OTHER).answered(now + 60.0, 1.0)
    assert upstream.lane(OTHER).is_well


async def test_what_fails_while_the_circuit_is_open_teaches_no_limit() -> None:
    of = balancer()
    gone = APIConnectionError("could not connect", billed=False)
    await failed(of, ONE, gone, times=6)
    (upstream,) = of.upstreams
    law = upstream.lane(ONE).law
    refusals, limit = law.refusals, law.limit
    await failed(of, ONE, gone, times=6)
    assert (law.refusals, law.limit) == (refusals, limit)
    assert upstream.statistics(0.0).refused == 12


async def test_the_summary_of_a_job_says_what_was_learned(tmp_path: Path) -> None:
    async with Simulator() as sim, AsyncClient(api_key="k", base_url=sim.base_url) as client:
        (upstream,) = upstreams(client)
        upstream.lane(ONE).watch.learned = Finding(concurrency=4, was_refused=True)
        summary = await bulk_run(client, [{"body": {"model": ONE, "messages": HELLO}}], tmp_path / "out.jsonl")
        assert [words.partition(" takes ")[2] for words in summary.learned] == [
            "no more than 4 at once: give --concurrency 4 (Limits(concurrency=4))"
        ]


async def test_a_limit_that_all_models_share_is_said_once_in_the_summary(tmp_path: Path) -> None:
    async with Simulator() as sim, AsyncClient(api_key="k", base_url=sim.base_url) as client:
        (upstream,) = upstreams(client)
        for lane in (upstream.lane(ONE), upstream.lane(OTHER)):
            lane.counted = upstream.limiter
            lane.watch.learned = Finding(concurrency=4, was_refused=True)
        summary = await bulk_run(client, [{"body": {"model": ONE, "messages": HELLO}}], tmp_path / "out.jsonl")
        assert len(summary.learned) == 1
