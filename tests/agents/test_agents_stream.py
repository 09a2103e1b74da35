"""Claims about streamed runs, and about leaving one: typed events as it happens, and nothing left running."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import anyio
import msgspec
import pytest

from aimlasync import AsyncClient, Endpoint, StreamError, TruncatedStreamError, agents
from aimlasync.agents import ApprovalNeeded, RunFinished, TextDelta, ToolFinished, ToolStarted, TurnFinished
from aimlasync.simulator import Answer, Call, Fault, Latency, serve_in_thread
from tests.support.scripted import ENDPOINTS, MODEL, calls, scripted, told
from tests.support.servers import STEPS, turns, until

pytestmark = pytest.mark.parametrize("endpoint", ENDPOINTS)


class Report(msgspec.Struct):
    city: str


async def weather(city: str) -> str:
    """What the weather is like in a city."""
    return f"sunny in {city}"


async def test_a_run_is_told_as_it_happens(endpoint: Any) -> None:
    turn = Answer(text="Let me look.", calls=[Call.of("weather", city="Rome"), Call.of("weather", city="Oslo")])
    async with scripted(turn, '{"city": "Rome"}') as (sim, client):
        async with agents.stream(
            client, model=MODEL, input="go", tools=[weather], output=Report, endpoint=endpoint
        ) as running:
            events = [event async for event in running]
    assert all(one.stream for one in sim.ledger)
    names = [type(event).__name__ for event in events]
    first = names.index("TurnFinished")
    assert set(names[:first]) == {"TextDelta"}
    assert "".join(event.text for event in events[:first] if isinstance(event, TextDelta)) == "Let me look."
    assert sorted(names[first + 1 : first + 5]) == ["ToolFinished"] * 2 + ["ToolStarted"] * 2
    assert names[-2:] == ["TurnFinished", "RunFinished"]
    turns = [event for event in events if isinstance(event, TurnFinished)]
    assert [(event.number, event.text, len(event.calls)) for event in turns] == [
        (1, "Let me look.", 2),
        (2, '{"city": "Rome"}', 0),
    ]
    last = events[-1]
    assert isinstance(last, RunFinished)
    assert last.output == running.run.output == Report("Rome")
    assert told(running.run) == ["sunny in Rome", "sunny in Oslo"]


async def test_a_streamed_run_is_the_same_run(endpoint: Any) -> None:
    async with scripted(Call.of("weather", city="Rome"), "done") as (_, client):
        agent = agents.Agent(model=MODEL, tools=[weather], endpoint=endpoint)
        whole = await agents.run(client, agent, input="go")
        async with agents.stream(client, agent, input="go") as running:
            streamed = await running.collect()
    for one in (whole, streamed):
        assert one.usage.cost_usd is not None
        assert one.usage.input_tokens > 0
    assert told(streamed) == told(whole)
    assert (streamed.output, streamed.turns, streamed.usage.requests) == (whole.output, 2, 2)


async def test_only_the_text_may_be_iterated(endpoint: Any) -> None:
    async with scripted(Call.of("weather", city="Rome"), "It is sunny.") as (_, client):
        async with agents.stream(client, model=MODEL, input="go", tools=[weather], endpoint=endpoint) as running:
            assert "".join([text async for text in running.text]) == "It is sunny."


async def test_a_result_is_told_before_its_slower_sibling_ends(endpoint: Any) -> None:
    go_on = asyncio.Event()

    async def slow() -> str:
        await go_on.wait()
        return "slow"

    async with scripted(calls(Call.of("slow"), Call.of("weather", city="Rome")), "done") as (_, client):
        async with agents.stream(client, model=MODEL, input="go", tools=[slow, weather], endpoint=endpoint) as running:
            async for event in running:
                if isinstance(event, ToolFinished) and event.call.name == "weather":
                    assert event.call.output == "sunny in Rome"
                    go_on.set()
    assert told(running.run) == ["slow", "sunny in Rome"]


async def test_a_call_that_waits_for_approval_ends_the_stream(endpoint: Any) -> None:
    made = agents.tool(weather, approve=True)
    async with scripted(Call.of("weather", city="Rome"), "done") as (_, client):
        async with agents.stream(client, model=MODEL, input="go", tools=[made], endpoint=endpoint) as running:
            events = [event async for event in running]
        assert isinstance(events[-1], ApprovalNeeded)
        assert not any(isinstance(event, ToolStarted) for event in events)
        events[-1].calls[0].approved = True
        async with agents.stream(client, history=running.run, tools=[made]) as running:
            assert (await running.collect()).output == "done"


async def test_an_error_comes_after_the_events_before_it(endpoint: Any) -> None:
    async with scripted(Call.of("weather", city="Rome")) as (_, client):
        async with agents.stream(
            client, model=MODEL, input="go", tools=[weather], max_turns=1, endpoint=endpoint
        ) as running:
            kinds = [type(await anext(running)) for _ in range(3)]
            with pytest.raises(agents.MaxTurnsExceeded):
                await anext(running)
    assert kinds == [TurnFinished, ToolStarted, ToolFinished]


@pytest.mark.parametrize(("kind", "error"), [("cut_stream", TruncatedStreamError), ("error_in_stream", StreamError)])
async def test_a_stream_that_breaks_off_is_no_answer(endpoint: Any, kind: str, error: Any) -> None:
    faults = [Fault(kind, after=1, at=6)]
    async with scripted(Call.of("weather", city="Rome"), "one two three four five", faults=faults) as (_, client):
        with pytest.raises(error) as caught:
            async with agents.stream(client, model=MODEL, input="go", tools=[weather], endpoint=endpoint) as running:
                await running.collect()
    run = caught.value.run
    assert run is running.run
    assert told(run) == ["sunny in Rome"]
    assert (run.status, run.usage.requests) == ("open", 2)


async def test_leaving_the_block_drops_the_model_call_at_once(endpoint: Any) -> None:
    async with scripted("word " * 50, latency=Latency(per_token=0.05)) as (sim, client):
        async with agents.stream(client, model=MODEL, input="go", endpoint=endpoint) as running:
            async for event in running:
                assert isinstance(event, TextDelta)
                break
        gate = client._pipeline.balancer.upstreams[0].limiter
        assert (gate.in_flight, gate.waiting) == (0, 0)
        await until(lambda: sim.ledger[0].disconnected)
        # What it cost will never be known.
        assert running.run.usage.cost_usd is None
        with pytest.raises(RuntimeError, match="cancelled"):
            await running.collect()


async def test_leaving_the_block_cancels_the_tools_and_keeps_what_is_done(endpoint: Any) -> None:
    ended = []

    async def forever() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(True)

    async with scripted(calls(Call.of("weather", city="Rome"), Call.of("forever")), "done") as (_, client):
        made: list[Any] = [weather, forever]
        async with agents.stream(client, model=MODEL, input="go", tools=made, endpoint=endpoint) as running:
            async for event in running:
                if isinstance(event, ToolFinished):
                    break
        assert ended == [True]
        run = agents.Run.from_json(running.run.to_json())
        assert [call.output for call in run.pending] == ["sunny in Rome", None]

        async def ready() -> str:
            return "at last"

        run = await agents.run(client, history=run, tools=[weather, agents.tool(ready, name="forever")])
    assert told(run) == ["sunny in Rome", "at last"]


async def test_a_reader_who_is_slow_makes_the_run_wait(endpoint: Any) -> None:
    async with scripted("word " * 400) as (_, client):
        async with agents.stream(client, model=MODEL, input="go", endpoint=endpoint) as running:
            await until(lambda: len(running._events) >= 64)
            await anyio.sleep(0.02)
            assert len(running._events) == 64
            assert "".join([text async for text in running.text]) == running.run.output


async def test_a_stream_begins_with_its_block_and_runs_once(endpoint: Any) -> None:
    async with scripted("done") as (_, client):
        running = agents.stream(client, model=MODEL, input="go", endpoint=endpoint)
        with pytest.raises(RuntimeError, match="async with"):
            await anext(running)
        async with running:
            await running.collect()
            with pytest.raises(RuntimeError, match="once"):
                await running.__aenter__()


@pytest.mark.parametrize("streamed", [False, True], ids=["run", "stream"])
async def test_a_run_may_be_cancelled_at_any_step_and_gone_on_with(endpoint: Any, streamed: bool) -> None:
    async def slow(n: int) -> int:
        for _ in range(3):
            await asyncio.sleep(0)
        return n

    def threaded(n: int) -> int:
        return n

    async def work(record: agents.Run) -> None:
        if not streamed:
            await agents.run(client, agent, history=record, input="go")
            return
        async with agents.stream(client, agent, history=record, input="go") as running:
            await running.collect()

    script = [calls(Call.of("slow", n=1), Call.of("threaded", n=2)), Call.of("slow", n=3), "done"]
    agent = agents.Agent(model=MODEL, tools=[slow, threaded], endpoint=endpoint)
    tasks_before = asyncio.all_tasks()
    with serve_in_thread(script=script) as sim:
        async with AsyncClient(endpoints=[Endpoint.aimlapi(api_key="k", base_url=sim.base_url)]) as client:
            gate = client._pipeline.balancer.upstreams[0].limiter
            for step in range(STEPS):
                record = agents.Run(model=MODEL, endpoint=endpoint)
                task = asyncio.ensure_future(work(record))
                await turns(step)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                assert (gate.in_flight, gate.waiting) == (0, 0)
                assert asyncio.all_tasks() == tasks_before
                done = told(copy.deepcopy(record))
                run = record
                if record.status != "completed":
                    run = await agents.run(client, agent, history=record, input=None if record.items else "go")
                assert run.output == "done"
                assert run.turns == 3
                assert told(run) == ["1", "2", "3"]
                assert told(run)[: len(done)] == done
                if not task.cancelled():
                    break
            assert task.exception() is None


async def test_two_readers_share_the_events_and_both_end(endpoint: Any) -> None:
    async def read(running: agents.RunStream[Any]) -> list[str]:
        return [type(event).__name__ async for event in running]

    async with scripted(Call.of("weather", city="Rome"), "done") as (_, client):
        async with agents.stream(client, model=MODEL, input="go", tools=[weather], endpoint=endpoint) as running:
            one, other = await asyncio.gather(read(running), read(running))
    assert (one + other).count("RunFinished") == 1
    assert (one + other).count("ToolFinished") == 1
