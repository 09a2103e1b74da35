"""Agents have answers of a type from models of every kind, with tools beside them, streamed, and in a second run."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from aimlasync import AnswerInvalidError, AsyncClient, agents
from aimlasync.agents import Agent
from aimlasync.simulator import Answer, Call, SimRequest, Simulator
from aimlasync.structured.modes import MODES
from tests.support.scripted import ENDPOINTS

pytestmark = pytest.mark.parametrize("endpoint", ENDPOINTS)
MODEL = "openai/gpt-4.1-nano-2025-04-14"


class Report(msgspec.Struct):
    city: str
    umbrella: bool


async def weather(city: str) -> str:
    """What the weather is like in a city."""
    return f"rain in {city}"


def in_form(text: str, request: SimRequest) -> Answer:
    """The model's answer: by the tool where it has one, else as a text."""
    if any(tool.name == "give_final_answer" for tool in request.tools):
        return Answer(calls=[Call("give_final_answer", text)])
    return Answer(text=text)


@pytest.mark.parametrize("kind", ["json_schema", "tool"])
@pytest.mark.parametrize("streams", [False, True])
async def test_tools_are_called_before_the_answer_and_the_history_goes_on(
    kind: Any, streams: bool, endpoint: Any
) -> None:
    def answer(request: SimRequest) -> Answer:
        if request.turn in (0, 2):
            return Answer(calls=[Call.of("weather", city="Rome")])
        return in_form('{"city":"Rome","umbrella":true}', request)

    agent = Agent(model=MODEL, tools=[weather], output=Report, endpoint=endpoint)
    async with Simulator(structured=kind, answer=answer, keep_bodies=True) as simulator:
        async with AsyncClient("k", simulator.base_url) as client:
            if streams:
                async with agents.stream(client, agent, input="How is Rome?") as events:
                    run = await events.collect()
            else:
                run = await agents.run(client, agent, input="How is Rome?")
            assert (run.output, run.tool_calls) == (Report("Rome", True), 1)
            again = await agents.run(client, agent, input="And now?", history=run)
            assert again.output == Report("Rome", True)
    said = [item.get("content") for item in run.items if item.get("role") == "assistant"]
    assert '{"city":"Rome","umbrella":true}' in said
    # The call that gave the answer is no call in the history: nobody would answer it.
    assert "give_final_answer" not in str(run.items)
    assert simulator.ledger.by_status().get(400, 0) == MODES.index(kind)


@pytest.mark.parametrize("kind", MODES)
async def test_an_answer_of_another_type_is_asked_for_again_in_each_way(kind: Any, endpoint: Any) -> None:
    def answer(request: SimRequest) -> Answer:
        return in_form('{"city":"Rome"}' if request.turn == 0 else '{"city":"Rome","umbrella":true}', request)

    async with Simulator(structured=kind, answer=answer) as simulator:
        async with AsyncClient("k", simulator.base_url) as client:
            run = await agents.run(client, model=MODEL, input="Rome?", output=Report, endpoint=endpoint)
            assert (run.output, run.turns) == (Report("Rome", True), 2)
            with pytest.raises(AnswerInvalidError, match="not a Report: Object missing required field `umbrella`"):
                await agents.run(client, model=MODEL, input="Rome?", output=Report, endpoint=endpoint, max_repairs=0)


async def test_a_fixed_way_is_the_agents(endpoint: Any) -> None:
    async with Simulator(keep_bodies=True) as simulator, AsyncClient("k", simulator.base_url) as client:
        await agents.run(client, model=MODEL, input="Rome?", output=Report, endpoint=endpoint, structured="tool")
    body: Any = simulator.ledger[0].body
    assert [tool.get("function", tool)["name"] for tool in body["tools"]] == ["give_final_answer"]
