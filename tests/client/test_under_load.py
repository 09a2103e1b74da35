"""Many calls at once against the simulator: endpoints that die, refuse, run dry; quotas, budgets, priorities.

The simulator's ledger is the judge: it says what arrived, not what the client believes it sent.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest

from aimlasync import (
    AimlasyncError,
    APIConnectionError,
    AsyncClient,
    BudgetExceededError,
    Endpoint,
    InternalServerError,
    Limits,
    RateLimitError,
    Retry,
)
from aimlasync.cost.budget import Budget
from aimlasync.cost.prices import Price, prices_of
from aimlasync.simulator import Fault, Latency, Simulator
from tests.support.servers import LEARNS_NOTHING, Script, raw_server, until

NANO = "openai/gpt-5-nano-2025-08-07"
HELLO: Any = [{"role": "user", "content": "Hello"}]
QUICK = Retry(base=0.002, throttle_base=0.002)


def endpoint(simulator: Simulator, name: str = "one", **options: Any) -> Endpoint:
    make = Endpoint.bytespike if simulator.vendor.name == "bytespike" else Endpoint.aimlapi
    return make(api_key="test", base_url=simulator.base_url, name=name, **options)


async def ask(client: AsyncClient, count: int, **options: Any) -> list[Any]:
    calls = (client.chat.completions.create(model=NANO, messages=HELLO, **options) for _ in range(count))
    return await asyncio.gather(*calls, return_exceptions=True)


async def test_killing_one_of_two_endpoints_loses_no_call() -> None:
    latency = Latency.of(ttft=0.01, tokens_per_second=1e5, spread=0.3)
    async with Simulator(latency=latency) as one, Simulator(latency=latency) as two:
        endpoints = [endpoint(one, "one"), endpoint(two, "two")]
        async with AsyncClient(endpoints=endpoints, retry=QUICK) as client:
            load = asyncio.ensure_future(ask(client, 600))
            await until(lambda: len(one.ledger) >= 100)
            await one.close()
            outcomes = await load
            upstreams = {state.name: state for state in client.statistics()}
    assert [outcome for outcome in outcomes if isinstance(outcome, BaseException)] == []
    assert upstreams["two"].answered > 200
    assert upstreams["one"].in_flight == upstreams["two"].in_flight == 0


async def test_the_same_model_fails_over_to_another_vendor() -> None:
    async with Simulator(faults=[Fault("status", status=503)]) as one, Simulator(vendor="bytespike") as two:
        async with AsyncClient(endpoints=[endpoint(one, "one"), endpoint(two, "two")], retry=QUICK) as client:
            replies = await ask(client, 20, max_completion_tokens=100)
        assert {reply.info.endpoint for reply in replies} == {"two"}
        assert {attempt.model for attempt in two.ledger} == {"gpt-5-nano"}


@pytest.mark.parametrize("options", [{"keys": {"other"}}, {"balance_usd": 0.0}], ids=["bad-key", "no-credit"])
async def test_an_endpoint_without_key_or_credit_leaves_with_a_warning(
    options: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with Simulator(**options) as one, Simulator() as two:
        async with AsyncClient(endpoints=[endpoint(one, "one"), endpoint(two, "two")], retry=QUICK) as client:
            replies = await ask(client, 30)
            more = await ask(client, 10)
            state = client.statistics()[0].state
        assert all(reply.text for reply in replies + more)
        assert len(one.ledger) <= 20
    assert state == "retired"
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "one leaves the rotation" in warnings[0].getMessage()


async def test_a_stream_fails_over_before_its_first_event_and_never_after() -> None:
    cut = Script([b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n'], end="reset")
    async with Simulator() as good, raw_server(Script(end="reset"), cut) as bad:
        endpoints = [Endpoint(base_url=bad.base_url, name="bad"), endpoint(good, "good")]
        async with AsyncClient(endpoints=endpoints, retry=QUICK) as client:
            client._pipeline.balancer.upstreams[0].lane(NANO).circuit.succeeded(0.0, 0.001)
            stream = await client.chat.completions.create(model=NANO, messages=HELLO, stream=True)
            assert (await stream.collect()).text
            assert stream.info.endpoint == "good"
            client._pipeline.balancer.upstreams[1].lane(NANO).circuit.succeeded(0.0, 50.0)
            broken = await client.chat.completions.create(model=NANO, messages=HELLO, stream=True)
            with pytest.raises(AimlasyncError):
                await broken.collect()
        assert len(good.ledger) == 1


async def test_a_total_outage_is_met_with_few_retries() -> None:
    async with Simulator(faults=[Fault("status", status=500)]) as simulator:
        limits = Limits(concurrency=200)
        async with AsyncClient(endpoints=[endpoint(simulator, limits=limits)], retry=QUICK) as client:
            outcomes = await ask(client, 2000)
        assert all(isinstance(outcome, InternalServerError) for outcome in outcomes)
        assert len(simulator.ledger) <= 1.1 * 2000


async def test_after_an_outage_the_quota_comes_back() -> None:
    async with Simulator(faults=[Fault("status", status=500, times=600)]) as simulator:
        async with AsyncClient(endpoints=[endpoint(simulator)], retry=QUICK) as client:
            await ask(client, 700)
            for _ in range(30):
                await ask(client, 20)
            simulator.faults.append(Fault("status", status=500, times=5))
            assert all(not isinstance(outcome, BaseException) for outcome in await ask(client, 20))


async def test_bulk_calls_outlast_an_outage_that_interactive_calls_do_not() -> None:
    async with Simulator(faults=[Fault("status", status=500, times=146)]) as simulator:
        retry = Retry(base=0.001, attempts=50)
        limits = Limits(concurrency=16)
        async with AsyncClient(endpoints=[endpoint(simulator, limits=limits)], retry=retry) as client:
            outcomes = await ask(client, 40, priority="bulk")
    assert [outcome for outcome in outcomes if isinstance(outcome, BaseException)] == []


async def test_a_429_pauses_everybody_for_as_long_as_the_server_says() -> None:
    busy = Script([b"{}"], status=429, content_type="application/json", headers=[("Retry-After", "0.3")], end="keep")
    body = b'{"choices": [{"message": {"content": "hi"}}]}'
    good = Script([body], content_type="application/json", end="keep")
    async with raw_server(busy, good) as server:
        limits = Limits(concurrency=1)
        async with AsyncClient(api_key="k", base_url=server.base_url, retry=Retry(), limits=limits) as client:
            loop = asyncio.get_running_loop()
            first = asyncio.ensure_future(client.chat.completions.create(model="m", messages=HELLO))
            await until(lambda: server.requests)
            told = loop.time()
            await until(lambda: client.statistics()[0].refused)
            first.cancel()
            assert loop.time() + client.statistics()[0].paused_for >= told + 0.29
            await client.chat.completions.create(model="m", messages=HELLO)
            assert loop.time() - told >= 0.29
    assert first.cancelled()


def ran_out(kind: str, limit: int, reset: str) -> list[tuple[str, str]]:
    prefix = "X-RateLimit"
    return [
        (f"{prefix}-Limit-{kind}", str(limit)),
        (f"{prefix}-Remaining-{kind}", "0"),
        (f"{prefix}-Reset-{kind}", reset),
    ]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        (ran_out("Requests", 10, "5m0s"), 30),
        (ran_out("Tokens", 90_000, "40s"), 40),
        ([*ran_out("Requests", 10, "5m0s"), *ran_out("Tokens", 90_000, "3000")], 60),
        ([("RateLimit-Remaining", "0"), ("RateLimit-Reset", "20")], 20),
        ([("Anthropic-RateLimit-Tokens-Remaining", "0"), ("Anthropic-RateLimit-Tokens-Reset", "2999-01-01T00:00Z")], 0),
        ([("X-RateLimit-Remaining-Requests", "1"), ("X-RateLimit-Reset-Requests", "20s")], 0),
    ],
    ids=["one-request-of-the-limit", "tokens", "both", "draft", "absurd", "something-left"],
)
@pytest.mark.parametrize("limits", [Limits(), Limits(requests_per_minute=60)], ids=["unrated", "rated"])
async def test_an_answer_that_says_that_nothing_is_left_pauses_who_does_not_count_himself(
    headers: list[tuple[str, str]], seconds: float, limits: Limits
) -> None:
    body = b'{"choices": [{"message": {"content": "hi"}}]}'
    async with raw_server(Script([body], content_type="application/json", headers=headers)) as server:
        async with AsyncClient(api_key="k", base_url=server.base_url, limits=limits) as client:
            await client.chat.completions.create(model="m", messages=HELLO)
            paused = client.statistics()[0].paused_for
    if limits.is_rated:
        assert paused == 0
    else:
        assert seconds <= paused <= 1.25 * seconds


async def test_bytespikes_dollars_are_no_request_count() -> None:
    headers = [
        ("X-RateLimit-Limit", "50.00"),
        ("X-RateLimit-Remaining", "0.40"),
        ("X-RateLimit-Reset", f"{time.time() + 300_000:.0f}"),
    ]
    good = Script([b'{"choices": [{"message": {"content": "hi"}}]}'], content_type="application/json", headers=headers)
    spent = Script(
        [b'{"error": {"type": "rate_limit_error", "message": "rate_limit_5h exceeded"}}'],
        status=429,
        content_type="application/json",
        headers=[headers[0], ("X-RateLimit-Remaining", "0.00"), headers[2]],
    )
    async with raw_server(good, good, spent) as server:
        async with AsyncClient(endpoints=[Endpoint.bytespike(api_key="k", base_url=server.base_url)]) as client:
            await client.chat.completions.create(model="gpt-5-nano", messages=HELLO)
            await client.chat.completions.create(model="gpt-5-nano", messages=HELLO)
            with pytest.raises(RateLimitError) as caught:
                await client.chat.completions.create(model="gpt-5-nano", messages=HELLO)
            assert len(server.requests) == 3
    assert caught.value.retry_after is not None
    assert caught.value.retry_after > 86_400


async def test_requests_per_minute_hold_at_the_server() -> None:
    async with Simulator(requests_per_minute=300) as simulator:
        limits = Limits(requests_per_minute=300)
        async with AsyncClient(endpoints=[endpoint(simulator, limits=limits)]) as client:
            begun = asyncio.get_running_loop().time()
            await ask(client, 5)
            took = asyncio.get_running_loop().time() - begun
        assert simulator.ledger.by_status() == {200: 5}
    # Spaced out from the start: five a second, not a burst.
    assert took > 0.6


@pytest.mark.parametrize(
    ("through", "options"), [("create", {}), ("ask", {}), ("ask", {"timeout": 60.0})], ids=["create", "ask", "options"]
)
async def test_interactive_calls_pass_bulk_calls_that_wait(through: str, options: dict[str, Any]) -> None:
    latency = Latency.of(ttft=0.01, tokens_per_second=1e6, spread=0.0)
    async with Simulator(latency=latency) as simulator:
        limits = Limits(concurrency=2)
        async with AsyncClient(endpoints=[endpoint(simulator, limits=limits)]) as client:
            order: list[str] = []

            async def one(priority: Any) -> None:
                if through == "ask":
                    await client.ask("chat", {"model": NANO, "messages": HELLO}, priority=priority, **options)
                else:
                    await client.chat.completions.create(model=NANO, messages=HELLO, priority=priority, **options)
                order.append(priority)

            bulk = [asyncio.ensure_future(one("bulk")) for _ in range(40)]
            await asyncio.sleep(0)
            await asyncio.sleep(0.005)
            await asyncio.gather(*(one("interactive") for _ in range(6)))
            assert order.count("bulk") <= 10
            await asyncio.gather(*bulk)


async def test_a_budget_is_never_passed_and_says_what_is_left() -> None:
    async with Simulator() as simulator:
        async with AsyncClient(endpoints=[endpoint(simulator)]) as client:
            prices = prices_of(await client.models.list(include="pricing"))
        budget = Budget(0.002, prices=prices)
        async with AsyncClient(endpoints=[endpoint(simulator)], budget=budget) as client:
            outcomes = await ask(client, 300, max_completion_tokens=200)
        refused = [outcome for outcome in outcomes if isinstance(outcome, BudgetExceededError)]
        answered = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        assert len(refused) + len(answered) == 300
        assert refused
        assert answered
        assert simulator.ledger.cost_usd <= 0.002
        assert budget.spent == pytest.approx(simulator.ledger.cost_usd)
        assert budget.reserved == 0
    assert refused[0].billed is False


async def test_a_budget_counts_the_cap_of_every_choice() -> None:
    budget = Budget(0.02, prices={NANO: Price(input=1e-6, output=1e-4)})
    async with Simulator() as simulator:
        async with AsyncClient(endpoints=[endpoint(simulator)], budget=budget) as client:
            (one,) = await ask(client, 1, max_completion_tokens=100)
            (ten,) = await ask(client, 1, max_completion_tokens=100, n=10)
    assert one.text
    assert isinstance(ten, BudgetExceededError)
    assert len(simulator.ledger) == 1


async def test_a_failure_that_is_free_gives_its_reservation_back() -> None:
    budget = Budget(0.01, prices={NANO: Price(input=1e-6, output=1e-6)})
    async with Simulator(faults=[Fault("status", status=500)]) as simulator:
        async with AsyncClient(endpoints=[endpoint(simulator)], retry=Retry(attempts=1), budget=budget) as client:
            await ask(client, 20, max_completion_tokens=100)
            stream = ask(client, 5, max_completion_tokens=100, stream=True)
            assert all(isinstance(outcome, InternalServerError) for outcome in await stream)
    assert (budget.spent, budget.reserved) == (0, 0)


async def test_a_stream_that_is_left_counts_at_its_worst() -> None:
    budget = Budget(1.0, prices={NANO: Price(input=1e-6, output=1e-4)})
    async with Simulator(latency=Latency.of(ttft=0.0, tokens_per_second=20, spread=0.0)) as simulator:
        async with AsyncClient(endpoints=[endpoint(simulator)], budget=budget) as client:
            stream = await client.chat.completions.create(
                model=NANO, messages=HELLO, stream=True, max_completion_tokens=1000
            )
            await stream.close()
            simulator.state.latency = Latency.of(ttft=0.0)
            whole = await client.chat.completions.create(
                model=NANO, messages=HELLO, stream=True, max_completion_tokens=1000
            )
            cost = (await whole.collect()).info.cost_usd
    assert cost is not None
    assert budget.reserved == 0
    assert 0.1 <= budget.spent <= 0.11 + cost


async def test_statistics_say_what_happened() -> None:
    faults = [Fault("status", status=500, times=3), Fault("status", status=429, times=2, after=3)]
    async with Simulator(faults=faults) as simulator:
        async with AsyncClient(endpoints=[endpoint(simulator, limits=LEARNS_NOTHING)], retry=QUICK) as client:
            assert client.statistics()[0].attempts == 0
            replies = await ask(client, 30)
            (state,) = client.statistics()
            shown = repr(client)
        assert all(reply.text for reply in replies)
        assert state.attempts == len(simulator.ledger) == 35
        assert (state.answered, state.refused, state.failed, state.retries) == (30, 2, 3, 5)
        assert state.prompt_tokens == sum(reply.usage.prompt_tokens for reply in replies)
        assert state.cost_usd == pytest.approx(simulator.ledger.cost_usd)
        assert (state.in_flight, state.queued) == (0, 0)
    assert "0 in flight, 0 queued" in shown


async def test_a_refused_connection_is_not_hammered() -> None:
    async with raw_server(Script()) as server:
        gone = server.base_url
    async with AsyncClient(api_key="k", base_url=gone, retry=QUICK) as client:
        outcomes = await ask(client, 300)
        (state,) = client.statistics()
    assert all(isinstance(outcome, APIConnectionError) for outcome in outcomes)
    assert state.attempts <= 1.2 * 300
    assert state.in_flight == 0
