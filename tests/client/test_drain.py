"""A client that is drained sends nothing more, and what it has sent gets its answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aimlasync import APIConnectionError, APITimeoutError, AsyncClient, ClientClosedError, Limits, Retry, Timeout
from aimlasync.simulator import Fault, Latency, Simulator
from tests.support.servers import until

MODEL = "openai/gpt-5-nano"


def ask(client: AsyncClient, text: str = "Hello") -> Any:
    return client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}])


def is_idle(client: AsyncClient) -> bool:
    limiter = client._pipeline.balancer.upstreams[0].limiter
    return limiter.in_flight == limiter.waiting == 0


@pytest.mark.parametrize(
    "limits", [Limits(concurrency=1), Limits(requests_per_minute=1)], ids=["concurrency", "requests"]
)
async def test_what_waits_is_cancelled_and_what_is_sent_is_answered(limits: Limits) -> None:
    async with (
        Simulator(latency=Latency.of(ttft=0.1)) as simulator,
        AsyncClient(api_key="k", base_url=simulator.base_url, limits=limits) as client,
    ):
        job = client.with_options()
        calls = [asyncio.ensure_future(ask(job)) for _ in range(4)]
        await until(lambda: len(simulator.ledger) == 1 and client.queued == 3)
        job.drain()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(result).__name__ for result in results] == ["ChatCompletion", *["CancelledError"] * 3]
        assert len(simulator.ledger) == 1
        assert is_idle(client)
        assert (job.is_drained, client.is_drained) == (True, False)
        with pytest.raises(ClientClosedError, match="drained"):
            await ask(job)
        if limits.concurrency:
            # Its copies go on.
            assert (await ask(client)).text


async def test_a_call_that_waits_before_a_retry_is_cancelled_too() -> None:
    faults = [Fault("status", status=429, headers={"Retry-After": "30"})]
    async with (
        Simulator(faults=faults) as simulator,
        AsyncClient(api_key="k", base_url=simulator.base_url) as client,
    ):
        call = asyncio.ensure_future(ask(client))
        await until(lambda: len(simulator.ledger) == 1 and is_idle(client))
        client.drain()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert len(simulator.ledger) == 1


async def test_an_attempt_that_fails_after_it_is_not_made_again() -> None:
    reset = Fault("truncated_body")
    async with (
        Simulator(faults=[reset], latency=Latency.of(ttft=0.2)) as simulator,
        AsyncClient(api_key="k", base_url=simulator.base_url, retry=Retry(base=0.01)) as client,
    ):
        call = asyncio.ensure_future(ask(client))
        await until(lambda: len(simulator.ledger) == 1)
        client.drain()
        with pytest.raises(APIConnectionError):
            await call
        assert reset.hits == 1


async def test_an_attempt_has_a_bound_that_no_wait_counts_for_and_is_not_made_again() -> None:
    stuck = Fault("stall", match=lambda request: request.text == "stuck")
    async with (
        Simulator(faults=[stuck], latency=Latency.of(ttft=0.05)) as simulator,
        AsyncClient(
            api_key="k",
            base_url=simulator.base_url,
            limits=Limits(concurrency=1),
            timeout=Timeout(attempt=1.0),
        ) as client,
    ):
        results = await asyncio.gather(
            ask(client), ask(client, "stuck"), ask(client), ask(client), return_exceptions=True
        )
        assert [type(result).__name__ for result in results] == [
            "ChatCompletion",
            "APITimeoutError",
            "ChatCompletion",
            "ChatCompletion",
        ]
        error = results[1]
        assert isinstance(error, APITimeoutError)
        assert (error.phase, error.retryable, error.info is not None and error.info.attempts) == ("attempt", False, 1)
        assert stuck.hits == 1
        assert is_idle(client)
        # A stream has bounds of its own.
        stream = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Hello"}], stream=True
        )
        assert (await stream.collect()).text


@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("limits", [Limits(concurrency=1), Limits(requests_per_minute=1)])
async def test_closing_a_client_ends_the_calls_that_wait_for_their_turn(limits: Limits, copied: bool) -> None:
    async with (
        Simulator(latency=Latency.of(ttft=30.0)) as simulator,
        AsyncClient(api_key="k", base_url=simulator.base_url, limits=limits, timeout=600) as client,
    ):
        first = asyncio.ensure_future(ask(client))
        await until(lambda: len(simulator.ledger) == 1)
        waiting = [asyncio.ensure_future(ask(client.with_options() if copied else client)) for _ in range(3)]
        await until(lambda: client.queued == 3)
        await client.close()
        for call in waiting:
            with pytest.raises(ClientClosedError, match="this client is closed"):
                await call
            assert call.cancelling() == 0
        with pytest.raises((ClientClosedError, APIConnectionError)):
            await first
        assert is_idle(client)


async def test_closing_a_client_ends_the_calls_that_wait_before_a_retry() -> None:
    faults = [Fault("status", status=429, headers={"Retry-After": "30"})]
    async with Simulator(faults=faults) as simulator, AsyncClient(api_key="k", base_url=simulator.base_url) as client:
        call, left = (asyncio.ensure_future(ask(client)) for _ in range(2))
        await until(lambda: len(simulator.ledger) >= 1 and is_idle(client))
        # Whoever was cancelled besides stays cancelled.
        left.cancel()
        await client.close()
        with pytest.raises(ClientClosedError, match="this client is closed"):
            await call
        with pytest.raises(asyncio.CancelledError):
            await left
        assert (call.cancelling(), left.cancelled()) == (0, True)
