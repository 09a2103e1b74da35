"""Claims about many runs: no result is lost, errors are results, and no more is at work than was said."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aimlasync import AsyncClient, Budget, Endpoint, Limits, agents
from aimlasync.client.pipeline import Pipeline
from aimlasync.simulator import Call, Fault, serve_in_thread
from tests.support.scripted import ENDPOINTS, MODEL, scripted, told
from tests.support.servers import until

pytestmark = pytest.mark.parametrize("endpoint", ENDPOINTS)


async def count(n: int) -> int:
    """Counts."""
    return n


async def test_results_come_as_they_are_ready_and_errors_are_results(endpoint: Any) -> None:
    faults = [Fault("status", status=400, match=lambda request: "bad" in request.text)]
    async with scripted(Call.of("count", n=1), "done", faults=faults) as (_, client):
        agent = agents.Agent(model=MODEL, tools=[count], endpoint=endpoint)
        given: list[Any] = ["good", "bad", {"input": "good", "max_turns": 1}, {"inputs": "?"}, 7, "good"]
        results = {result.number: result async for result in agents.map(client, given, agent)}
    assert sorted(results) == [1, 2, 3, 4, 5, 6]
    assert [results[n].ok for n in range(1, 7)] == [True, False, False, False, False, True]
    assert results[1].output == "done"
    assert results[1].given == "good"
    assert isinstance(results[3].error, agents.MaxTurnsExceeded)
    assert told(results[3].run) == ["1"]
    assert results[2].run is not None
    assert isinstance(results[4].error, TypeError | ValueError)
    assert isinstance(results[5].error, TypeError)
    assert (results[5].run, results[5].output) == (None, None)


async def test_a_run_that_cannot_be_saved_ends_no_other_run(endpoint: Any) -> None:
    async def save(run: agents.Run) -> None:
        if run.items[0]["content"] == "2":
            raise OSError("the database is away")

    async with scripted("done") as (_, client):
        given = [str(number) for number in range(6)]
        made = agents.map(client, given, model=MODEL, endpoint=endpoint, save=save, concurrency=2, order="input")
        results = [result async for result in made]
        assert [result.given for result in results if result.ok] == ["0", "1", "3", "4", "5"]
        assert isinstance(results[2].error, OSError)
        assert results[2].run is not None
    with pytest.raises(RuntimeError, match="closed"):
        _ = [result async for result in agents.map(client, given, model=MODEL, endpoint=endpoint)]


async def test_results_may_come_in_the_order_of_the_input(endpoint: Any) -> None:
    async def wait(n: int) -> None:
        await asyncio.sleep(0.005 * n)

    scripts = {str(n): [Call.of("wait", n=n), "done"] for n in range(4)}
    async with scripted(script=scripts) as (_, client):
        given = [{"input": "go", "model": str(n)} for n in (3, 2, 1, 0)]
        results = [
            r async for r in agents.map(client, given, model="0", tools=[wait], endpoint=endpoint, order="input")
        ]
    assert [result.number for result in results] == [1, 2, 3, 4]
    assert all(result.ok for result in results)


async def test_each_run_has_its_own_context_and_history(endpoint: Any) -> None:
    async def mine(context: agents.RunContext[str]) -> str:
        return context.context

    async with scripted(Call.of("mine"), "done") as (_, client):
        agent = agents.Agent(model=MODEL, tools=[mine], endpoint=endpoint)
        given = [{"input": "go", "context": str(n)} for n in range(20)]
        results = [result async for result in agents.map(client, given, agent, order="input")]
        assert [told(result.run) for result in results] == [[str(n)] for n in range(20)]
        again = [{"input": "more", "history": result.run, "context": "x"} for result in results]
        assert [r.run.turns async for r in agents.map(client, again, agent) if r.run] == [3] * 20


async def test_calls_of_many_runs_go_in_the_bulk_lane_with_an_affinity_each(
    endpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scripted("done") as (_, client):
        seen = []
        call = Pipeline.call

        async def spy(self: Any, api: Any, body: Any, receive: Any, options: Any, settings: Any) -> Any:
            seen.append(options)
            return await call(self, api, body, receive, options, settings)

        monkeypatch.setattr(Pipeline, "call", spy)
        results = [result async for result in agents.map(client, ["a", "b"], model=MODEL, endpoint=endpoint)]
        assert {options["priority"] for options in seen} == {"bulk"}
        assert {options["affinity"] for options in seen} == {result.run.id for result in results if result.run}
        seen.clear()
        await agents.run(client, model=MODEL, input="a", endpoint=endpoint, affinity="shop")
        assert [(options["priority"], options["affinity"]) for options in seen] == [("interactive", "shop")]


async def test_no_more_runs_are_at_work_than_the_concurrency_and_inputs_are_read_as_needed(endpoint: Any) -> None:
    read = at_work = most = 0

    async def inputs() -> AsyncIterator[str]:
        nonlocal read
        for _ in range(40):
            read += 1
            yield "go"

    async def work() -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0.001)
        at_work -= 1

    async with scripted(Call.of("work"), "done") as (_, client):
        agent = agents.Agent(model=MODEL, tools=[work], endpoint=endpoint)
        done = 0
        async for result in agents.map(client, inputs(), agent, concurrency=5):
            assert result.ok
            done += 1
            # At work, and lying ready.
            assert read - done <= 10
    assert done == 40
    assert 1 < most <= 5


async def test_left_early_nothing_is_left_running(endpoint: Any) -> None:
    with serve_in_thread(script=[Call.of("count", n=1), "done"]) as sim:
        async with AsyncClient(endpoints=[Endpoint.aimlapi(api_key="k", base_url=sim.base_url)]) as client:
            before = asyncio.all_tasks()
            runs = agents.map(client, ["go"] * 50, model=MODEL, tools=[count], endpoint=endpoint, concurrency=8)
            async with contextlib.aclosing(runs):
                async for result in runs:
                    assert result.ok
                    break
            assert asyncio.all_tasks() == before
            assert client._pipeline.balancer.upstreams[0].limiter.in_flight == 0
            await until(lambda: all(one.finished or one.disconnected for one in sim.ledger))


async def test_a_budget_is_one_for_all_runs(endpoint: Any) -> None:
    budget = Budget(1.0)
    async with scripted("done") as (sim, client):
        results = [r async for r in agents.map(client, ["go"] * 10, model=MODEL, endpoint=endpoint, budget=budget)]
        cost = sum(r.run.usage.stated_usd for r in results if r.run)
        assert budget.spent == pytest.approx(cost)
        refused = [r async for r in agents.map(client, ["go"] * 3, model=MODEL, endpoint=endpoint, budget=0)]
    assert not any(r.ok for r in refused)
    assert len(sim.ledger) == 10


async def test_a_long_conversation_does_not_starve_short_ones(endpoint: Any) -> None:
    scripts = {"long": [Call.of("count", n=n) for n in range(30)] + ["done"], "short": ["done"]}
    async with scripted(script=scripts, client={"limits": Limits(concurrency=1)}) as (_, client):
        given = [{"input": "go", "model": "long", "max_turns": 99}] + [{"input": "go", "model": "short"}] * 10
        order = [
            result.number async for result in agents.map(client, given, model="short", tools=[count], endpoint=endpoint)
        ]
    assert order == [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 1]


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": False})])
async def test_a_thousand_runs_of_five_turns_lose_no_result(endpoint: Any) -> None:
    script = [Call.of("count", n=n) for n in range(4)] + ["done"]
    with serve_in_thread(script=script) as sim:
        async with AsyncClient(endpoints=[Endpoint.aimlapi(api_key="k", base_url=sim.base_url)]) as client:
            agent = agents.Agent(model=MODEL, tools=[count], endpoint=endpoint)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            seen = set()
            async for result in agents.map(client, (f"run {n}" for n in range(1000)), agent, concurrency=1000):
                assert result.run is not None
                assert result.ok, result.error
                assert told(result.run) == ["0", "1", "2", "3"]
                seen.add(result.number)
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert seen == set(range(1, 1001))
        assert len(sim.ledger) == 5000
    # Kilobytes, of the simulator too: a thousand conversations and their connections, and not what they have said.
    assert grown < 200_000
