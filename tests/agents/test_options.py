"""Claims about the options of an agent: they can be found, and a wrong one is said where the agent is made."""

from __future__ import annotations

import inspect
import pydoc
from typing import Any

import pytest

from aimlasync import AsyncClient, UnprocessableEntityError, agents
from aimlasync.agents.agent import CallParams, Options
from aimlasync.simulator import Call, Problem
from tests.support.scripted import ENDPOINTS, MODEL, calls, scripted, told


async def weather(city: str) -> str:
    """What the weather is like in a city."""
    return f"sunny in {city}"


@agents.tool(strict=False)
async def search(where: dict[str, str]) -> str:
    """Search by anything."""
    return ", ".join(where)


def test_a_tool_may_have_another_name() -> None:
    other = search.but(name="look_up")
    assert [tool.chat["function"]["name"] for tool in (search, other)] == ["search", "look_up"]
    assert (other.name, other.responses["name"], other.responses["strict"]) == ("look_up", "look_up", False)
    with pytest.raises(ValueError, match="64 letters"):
        search.but(name="a.b")
    with pytest.raises(TypeError, match=r"search is a tool already; its .but\(name=...\)"):
        agents.tool(search, name="look_up")


def test_help_has_every_option_of_an_agent() -> None:
    said = pydoc.plain(pydoc.render_doc(agents.Agent))
    assert inspect.signature(agents.Agent).parameters.keys() >= Options.__annotations__.keys() - set(
        CallParams.__annotations__
    )
    for name in Options.__annotations__:
        assert name in said, name
    # What the page points at is there.
    assert agents.CallParams is CallParams


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_turn": 3}, "unknown option 'max_turn', did you mean 'max_turns'?"),
        ({"instruction": "x"}, "did you mean 'instructions'?"),
        ({"temprature": 1}, "did you mean 'temperature'?"),
        ({"timeout": 3}, "argument of agents.run, agents.stream or agents.map"),
        ({"budget": 3}, "argument of agents.run, agents.stream or agents.map"),
        ({"approval": {}}, "did you mean 'approvals'?"),
        ({"messages": []}, "unknown option 'messages', did you mean 'input'?"),
        ({"system_prompt": "x"}, "did you mean 'instructions'?"),
        ({"zzz": 3}, "extra_body="),
        ({"tools": weather}, "tools is a list of tools, not function"),
        ({"tools": "weather"}, "tools is a list of tools, not str"),
        ({"tools": ["weather"]}, "a tool is a function with type hints, or a Tool, not str"),
        ({"max_turns": 0}, "max_turns must be a whole number of at least 1, not 0"),
        ({"max_turns": None}, "max_turns must be a whole number"),
        ({"max_turns": 2.5}, "max_turns must be a whole number"),
        ({"max_tool_calls": -1}, "max_tool_calls must be a whole number of at least 0"),
        ({"max_repairs": True}, "max_repairs must be a whole number"),
        ({"endpoint": "completions"}, 'endpoint must be "chat" or "responses"'),
        ({"strict": True, "tools": [search]}, "search was made with strict=False"),
        ({"tools": [weather, search.but(name="weather")]}, "two tools are called weather; give one of them"),
    ],
)
async def test_a_wrong_option_is_said_wherever_it_is_given(options: dict[str, Any], words: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        agents.Agent(model=MODEL, **options)
    assert words in str(caught.value)
    if options.keys() & {"timeout", "budget"}:
        return
    async with AsyncClient(api_key="k", base_url="http://127.0.0.1:1") as client:
        with pytest.raises((TypeError, ValueError)) as caught:
            await agents.run(client, agents.Agent(model=MODEL), input="go", **options)
        assert words in str(caught.value)
        with pytest.raises((TypeError, ValueError)) as caught:
            agents.stream(client, model=MODEL, input="go", **options)
        assert words in str(caught.value)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_one_switch_makes_all_tools_loose(endpoint: Any) -> None:
    script = calls(Call.of("weather", city="Rome"), Call.of("search", where={"a": "b"})), "done"
    async with scripted(*script) as (sim, client):
        run = await agents.run(
            client, model=MODEL, input="go", tools=[weather, search], endpoint=endpoint, strict=False
        )
        await agents.run(client, model=MODEL, input="go", tools=[weather, search], endpoint=endpoint)
    assert told(run) == ["sunny in Rome", "a"]
    asked = [[tool.get("function", tool)["strict"] for tool in one.body["tools"]] for one in sim.ledger]
    assert asked == [[False, False]] * 2 + [[True, False]] * 2


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_server_that_refuses_a_mixture_is_asked_once_more(endpoint: Any) -> None:
    def answer(request: Any) -> str:
        kinds = {tool.get("function", tool)["strict"] for tool in request.body["tools"]}
        if len(kinds) > 1 or request.body.get("user"):
            raise Problem(422, "Tools with mixed values for 'strict' are not allowed.", code="wrong_api_format")
        return "done"

    async with scripted(answer=answer) as (sim, client):
        agent = agents.Agent(model=MODEL, tools=[weather, search], endpoint=endpoint)
        assert (await agents.run(client, agent, input="go")).output == "done"
        assert [one.status for one in sim.ledger] == [422, 200]
        # Tools that are all alike are not asked for again.
        with pytest.raises(UnprocessableEntityError):
            await agents.run(client, agent, input="go", tools=[weather], user="refused")
        assert [one.status for one in sim.ledger] == [422, 200, 422]


async def test_an_agent_is_made_anew_with_all_that_it_had() -> None:
    def hook(call: agents.ToolCall, error: BaseException) -> str:
        return "x"

    agent = agents.Agent(
        model=MODEL,
        name="desk",
        tools=[weather],
        output=int,
        max_turns=3,
        max_tool_calls=4,
        max_repairs=2,
        max_repeats=None,
        on_tool_error=hook,
        temperature=0.5,
    )
    other = agent.but(model="other")
    for name in Options.__annotations__.keys() - set(CallParams.__annotations__) - {"model"}:
        assert getattr(other, name) == getattr(agent, name), name
    assert (other.model, other.params) == ("other", {"temperature": 0.5})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"history": [{"role": "user", "content": "Hello"}]},
            r"history= takes Run, .*\(messages are input=\), not list",
        ),
        ({"agent": "openai/gpt-5-nano"}, 'agent= takes Agent, such as Agent\\(model="..."\\), not str'),
    ],
)
async def test_what_is_no_agent_and_no_history_is_told_by_its_name(given: dict[str, Any], words: str) -> None:
    async with AsyncClient(api_key="k", base_url="http://127.0.0.1:9/v1") as client:
        with pytest.raises(TypeError, match=words):
            await agents.run(client, input="x", **given)
        with pytest.raises(TypeError, match=words):
            async with agents.stream(client, input="x", **given):
                pass
