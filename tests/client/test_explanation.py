"""What an operator is told: one line a trouble in the log, states and counts, and where the time of a call went."""

from __future__ import annotations

import asyncio
import logging
import pickle
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from aimlasync import (
    AimlasyncError,
    APITimeoutError,
    AsyncClient,
    Endpoint,
    Limits,
    OverloadedError,
    Retry,
    Timeout,
)
from aimlasync.endpoints.upstream import Upstream
from aimlasync.errors import InternalServerError
from aimlasync.info import Info, Step
from aimlasync.relay import failure
from aimlasync.simulator import Fault, Latency, Simulator
from tests.support.servers import LEARNS_NOTHING, until

NANO = "openai/gpt-5-nano-2025-08-07"
HELLO: Any = [{"role": "user", "content": "Hello"}]


async def ask(client: AsyncClient, **options: Any) -> Any:
    return await client.chat.completions.create(model=NANO, messages=HELLO, **options)


@asynccontextmanager
async def two(**first: Any) -> AsyncIterator[tuple[AsyncClient, Simulator, Simulator]]:
    """A client of two vendors; the first has the given faults."""
    async with Simulator(**first) as one, Simulator(vendor="bytespike") as other:
        endpoints = [
            Endpoint.aimlapi(api_key="a", base_url=one.base_url, name="one"),
            Endpoint.bytespike(api_key="b", base_url=other.base_url, name="other"),
        ]
        async with AsyncClient(endpoints=endpoints, retry=Retry(attempts=2)) as client:
            yield client, one, other


def client_of(simulator: Simulator, **options: Any) -> AsyncClient:
    return AsyncClient(api_key="k", base_url=simulator.base_url, **options)


def lines(caplog: pytest.LogCaptureFixture, least: int = logging.INFO) -> list[tuple[str, str, str]]:
    return [
        (record.name, record.levelname, record.getMessage())
        for record in caplog.records
        if record.name.startswith("aimlasync") and record.levelno >= least
    ]


# --- one endpoint's states -------------------------------------------------------------------------------------------


def upstream(*, is_alone: bool = True) -> Upstream:
    endpoint = Endpoint(base_url="https://llm.example/v1", api_key="k", name="one")
    return Upstream(endpoint, Limits(), is_alone=is_alone)


def broken(made: Upstream, now: float, times: int = 5) -> None:
    for _ in range(times):
        made.circuit.failed(now, 0.1, InternalServerError("HTTP 500:\nno  luck", status=500))


def test_a_circuit_is_said_once_when_it_opens_and_once_when_it_closes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    made = upstream(is_alone=False)
    assert made.statistics(100.0).state == "ok"
    broken(made, 100.0, times=50)
    assert made.statistics(100.0).state == "open"
    made.circuit.probing(103.0)
    broken(made, 103.2, times=1)
    made.circuit.probing(110.0)
    made.circuit.answered(110.2, 0.1)
    assert made.statistics(111.0).state == "ok"
    opened, still, closed = lines(caplog)
    assert opened[:2] == closed[:2] == ("aimlasync.pool", "WARNING")
    assert "one fails again and again (InternalServerError: HTTP 500: no luck): its circuit is open" in opened[2]
    assert re.search(r"tried again in [12]\.\d s", opened[2])
    assert still[1] == "INFO"
    assert "still fails" in still[2]
    assert closed[2] == "one answers again: its circuit is closed"


def test_an_endpoint_without_others_is_well_again_when_it_answers(caplog: pytest.LogCaptureFixture) -> None:
    """Calls go to it all the same, since there is no other; no probe closes its circuit."""
    made = upstream()
    broken(made, 100.0)
    assert made.statistics(100.0).state == "open"
    made.circuit.succeeded(100.5, 0.2)
    assert made.statistics(100.5).state == "open", "one answer between failures is no recovery"
    made.circuit.succeeded(102.1, 0.2)
    assert made.statistics(102.1).state == "ok"
    assert [message for _, _, message in lines(caplog)] == [
        "one fails again and again (InternalServerError: HTTP 500: no luck): its circuit is open; "
        "calls still go to it, since there is no other endpoint",
        "one answers again: its circuit is closed",
    ]


def test_an_endpoint_that_flaps_does_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    made, now = upstream(), 100.0
    for number in range(60_000):
        now += 0.001
        if number % 10 < 6:
            broken(made, now, times=1)
        else:
            made.circuit.succeeded(now, 0.0005)
    assert 2 <= len(lines(caplog)) <= 20


def test_a_pause_over_five_seconds_is_said_once_for_all_who_hear_of_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    made = upstream()
    made.pause(1.0, 100.0, "its minute is over")
    for _ in range(100):
        made.pause(20.0, 100.0, "it asked for 20.0 s with HTTP 429")
    ((logger, level, message),) = lines(caplog)
    assert (logger, level) == ("aimlasync.limits", "INFO")
    assert re.fullmatch(r"one pauses for 2\d\.\d s: it asked for 20\.0 s with HTTP 429", message)


# --- calls -----------------------------------------------------------------------------------------------------------


async def test_a_call_that_goes_on_to_another_endpoint_says_so_with_its_id(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with two(faults=[Fault("status", status=500)]) as (client, _, _):
        reply = await ask(client)
    assert reply.info.vendor == "bytespike"
    ((logger, level, message),) = lines(caplog)
    assert (logger, level) == ("aimlasync.retry", "INFO")
    assert message.startswith(
        f"the call {reply.info.request_id} goes on from one to other: InternalServerError: HTTP 500"
    )


async def test_a_call_that_goes_well_logs_nothing_and_takes_no_notes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with Simulator() as simulator, client_of(simulator) as client:
        reply = await ask(client)
        assert lines(caplog, logging.DEBUG) == []
        assert reply.info.steps == ()
        said = client.explain(reply)
    assert re.fullmatch(
        rf"{NANO} took .* s: .* s in the attempt at \S+ \(HTTP 200, its response began after .* s\)", said
    )


async def test_a_failure_that_a_browser_is_told_of_is_one_warning_with_everything_known(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Simulator(faults=[Fault("status", status=500)]) as simulator:
        endpoints = [Endpoint.aimlapi(api_key="a", base_url=simulator.base_url, name="eu")]
        async with AsyncClient(endpoints=endpoints, retry=Retry(attempts=2)) as client:
            with pytest.raises(AimlasyncError) as caught:
                await ask(client)
    told = msgspec.json.decode(failure(caught.value).body)["error"]
    info = caught.value.info
    assert info is not None
    assert told["request_id"] == info.request_id
    assert info.inference_id
    assert info.server_request_id
    ((logger, level, message),) = lines(caplog)
    assert (logger, level) == ("aimlasync.relay", "WARNING")
    assert "\n" not in message
    assert message.startswith("a call failed: InternalServerError: HTTP 500")
    for word in (
        "answered with 502 no_answer",
        "vendor=aimlapi endpoint=eu status=500 attempts=2",
        f"request_id={info.request_id} inference_id={info.inference_id} server_request_id={info.server_request_id}",
        "retried because of that after",
    ):
        assert word in message


def test_nobodys_words_begin_a_line_of_their_own(caplog: pytest.LogCaptureFixture) -> None:
    """Names of models come from strangers, and messages and ids from servers."""
    forged = "x\r\nWARNING aimlasync.pool \x1b[2K\u2028 request_id=1"
    info = Info(model=forged, request_id="r-1", server_request_id=forged, attempts=1, endpoint="one")
    failure(InternalServerError(forged, status=500, info=info))
    ((_, _, message),) = lines(caplog)
    assert message.isprintable()
    assert " vendor=" not in message
    assert (
        "endpoint=one attempts=1 request_id=r-1 server_request_id=x_WARNING_aimlasync.pool_[2K_request_id=1;" in message
    )


def test_steps_go_with_an_error_to_another_process() -> None:
    step = Step(kind="pause", endpoint="one", seconds=2.0, why="one, paused until 10:00:00 UTC: it asked for it")
    error = InternalServerError("no", status=500, info=Info(model="m", attempts=0, steps=(step,)))
    client = AsyncClient(api_key="k", base_url="http://127.0.0.1:9/v1")
    assert client.explain(pickle.loads(pickle.dumps(error))) == client.explain(error)


async def test_who_leaves_is_counted_apart_from_what_fails() -> None:
    async with Simulator(latency=Latency.of(ttft=30.0)) as simulator, client_of(simulator) as client:
        task = asyncio.ensure_future(ask(client, stream=True))
        await until(lambda: simulator.ledger)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        (one,) = client.statistics()
        assert (one.cancelled, one.failed, one.refused, one.answered) == (1, 0, 0, 0)
        bounds = [0.2, Timeout(attempt=0.2)]
        for number, bound in enumerate(bounds, 1):
            with pytest.raises(APITimeoutError):
                await ask(client.with_options(max_retries=0), timeout=bound)
            (one,) = client.statistics()
            assert (one.cancelled, one.failed) == (1, number), "a bound that passed is nobody's wish"
        assert one.state == "ok"


async def test_a_stream_that_its_reader_leaves_is_cancelled_and_not_failed() -> None:
    async with (
        Simulator(latency=Latency.of(ttft=0.0, tokens_per_second=5)) as simulator,
        client_of(simulator) as client,
    ):
        async with await ask(client, stream=True):
            pass
        (one,) = client.statistics()
        assert (one.cancelled, one.failed) == (1, 0)


# --- where the time went ---------------------------------------------------------------------------------------------


async def test_a_wait_for_a_place_is_explained_with_who_was_before() -> None:
    async with (
        Simulator(latency=Latency.of(ttft=0.1)) as simulator,
        client_of(simulator, limits=Limits(concurrency=1)) as client,
    ):
        replies = await asyncio.gather(*(ask(client) for _ in range(3)))
        said = client.explain(replies[-1].info)
    assert "waiting for a place at 127.0.0.1" in said
    assert "(the limit is 1 in flight), queued behind 1 other; " in said
    (step,) = replies[-1].info.steps
    assert (step.kind, step.ahead) == ("concurrency", 1)
    assert step.seconds == replies[-1].info.timing.queued


async def test_a_wait_for_tokens_is_explained() -> None:
    limits = Limits(tokens_per_minute=30_000)
    slow = Latency.of(ttft=0.2)
    async with Simulator(latency=slow) as simulator, client_of(simulator, limits=limits) as client:
        first = ask(client, max_completion_tokens=3_000)
        _, reply = await asyncio.gather(first, ask(client, max_completion_tokens=600))
        said = client.explain(reply)
    assert "waiting for tokens per minute at 127.0.0.1" in said


async def test_a_pause_and_a_retry_are_explained_with_their_reasons() -> None:
    fault = Fault("status", status=429, times=1, headers={"Retry-After": "0.2"})
    async with Simulator(faults=[fault]) as simulator, client_of(simulator, limits=LEARNS_NOTHING) as client:
        reply = await ask(client)
        said = client.explain(reply)
    assert "failed with RateLimitError: HTTP 429" in said
    assert re.search(r"retried because of that after 0\.\d+ s", said)
    assert [step.kind for step in reply.info.steps][:2] == ["attempt", "backoff"]


async def test_others_wait_for_the_end_of_a_pause_and_are_told_until_when() -> None:
    async with Simulator() as simulator, client_of(simulator) as client:
        loop = asyncio.get_running_loop()
        (made,) = client._pipeline.balancer.upstreams
        await ask(client)
        for seconds in (0.2, 2.0, 20.0):
            # On a busy machine a short one may be over before the call comes to it.
            made.pause(seconds, loop.time(), f"it asked for {seconds} s with HTTP 429")
            said = client.explain(await ask(client))
            if "paused" in said:
                break
    why = f"it asked for {seconds} s with HTTP 429"
    assert re.search(rf"waiting for \S+, paused until \d\d:\d\d:\d\d UTC: {re.escape(why)}", said)


async def test_a_call_that_was_never_sent_says_so() -> None:
    async with Simulator(latency=Latency.of(ttft=30.0)) as simulator:
        async with client_of(simulator, limits=Limits(concurrency=1), max_queue=0) as client:
            first = asyncio.ensure_future(ask(client))
            await until(lambda: simulator.ledger)
            with pytest.raises(OverloadedError) as caught:
                await ask(client)
            said = client.explain(caught.value)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
    assert re.fullmatch(rf"{NANO} took \d+\.\d\d s: nothing was sent", said)


async def test_a_cut_stream_is_explained_by_its_end() -> None:
    async with Simulator(faults=[Fault("cut_stream", at=3)]) as simulator, client_of(simulator) as client:
        with pytest.raises(AimlasyncError) as caught:
            await (await ask(client, stream=True)).collect()
        said = client.explain(caught.value)
    assert "(HTTP 200, its response began after" in said
    assert "that ended with TruncatedStreamError" in said


@pytest.mark.parametrize("given", [None, 3, "x", object()])
def test_what_is_no_call_is_not_explained(given: object) -> None:
    client = AsyncClient(api_key="k", base_url="http://127.0.0.1:9/v1")
    with pytest.raises(TypeError, match="is explained, not a"):
        client.explain(given)
    assert client.explain(AimlasyncError("no key")) == "nothing was sent: AimlasyncError: no key"
    assert client.explain(Info(model="m")).startswith("m took 0.00 s so far: nothing was sent")
