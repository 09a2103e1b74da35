"""What is built on the OpenAI SDK runs on our pipeline: the packages' own code, whole and streamed.

`pip install 'aimlasync[frameworks]'` installs all four; each test that lacks its package is skipped. langchain's own
suite is in test_langchain.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

import aimlasync.httpx
from aimlasync import AsyncClient
from aimlasync.simulator import Answer, SimRequest, Simulator

pytest.importorskip("openai", reason="pip install 'aimlasync[frameworks]'")

# What other packages deprecate of each other is theirs.
pytestmark = pytest.mark.filterwarnings("default")

NANO = "openai/gpt-5-nano-2025-08-07"
TICKET = '{"team": "support", "urgent": true}'


def needs(name: str) -> Any:
    return pytest.importorskip(name, reason="pip install 'aimlasync[frameworks]'")


def answer(request: SimRequest) -> Answer | str | None:
    return TICKET if request.schema is not None or request.json_object else None


@pytest.fixture
async def client() -> AsyncIterator[AsyncClient]:
    async with Simulator(answer=answer) as simulator:
        async with AsyncClient(api_key="k", base_url=simulator.base_url) as client:
            yield client


def answered(client: AsyncClient) -> int:
    """Calls that our pipeline saw to their end; none may be left open."""
    (upstream,) = client.statistics()
    assert upstream.in_flight == 0
    assert upstream.attempts == upstream.answered
    return upstream.answered


@pytest.mark.parametrize("api", ["OpenAIChatCompletionsModel", "OpenAIResponsesModel"])
async def test_openai_agents_call_their_tools(client: AsyncClient, api: str) -> None:
    agents = needs("agents")

    def weather(city: str) -> str:
        """Return the weather."""
        return f"sunny in {city}"

    model = getattr(agents, api)(model=NANO, openai_client=aimlasync.httpx.openai(client))
    agent = agents.Agent(name="a", tools=[agents.function_tool(weather)], model=model)
    quiet = agents.RunConfig(tracing_disabled=True)
    result = await agents.Runner.run(agent, "Weather?", run_config=quiet)
    assert "sunny in" in result.final_output
    streamed = agents.Runner.run_streamed(agent, "Weather?", run_config=quiet)
    kinds = [event.type async for event in streamed.stream_events()]
    assert "raw_response_event" in kinds
    assert streamed.final_output == result.final_output
    assert answered(client) == 4


@pytest.mark.parametrize("api", ["OpenAIChatModel", "OpenAIResponsesModel"])
async def test_pydantic_ai_runs_whole_and_streamed(client: AsyncClient, api: str) -> None:
    pydantic_ai = needs("pydantic_ai")
    models, providers = needs("pydantic_ai.models.openai"), needs("pydantic_ai.providers.openai")
    for provider in (
        providers.OpenAIProvider(openai_client=aimlasync.httpx.openai(client)),
        providers.OpenAIProvider(http_client=aimlasync.httpx.client(client), api_key="unused"),
    ):
        agent = pydantic_ai.Agent(getattr(models, api)(NANO, provider=provider))
        result = await agent.run("Hello")
        assert "Hello" in result.output
        async with agent.run_stream("Hello") as stream:
            assert await stream.get_output() == result.output
    assert answered(client) == 4


@pytest.mark.parametrize("door", ["http_async_client", "root_async_client"])
@pytest.mark.parametrize("use_responses_api", [False, True])
async def test_langchain_asks_whole_and_streamed(client: AsyncClient, use_responses_api: bool, door: str) -> None:
    sdk = aimlasync.httpx.openai(client)
    options = {
        "http_async_client": {"http_async_client": aimlasync.httpx.client(client)},
        "root_async_client": {"root_async_client": sdk, "async_client": sdk.chat.completions},
    }[door]
    chat = needs("langchain_openai").ChatOpenAI(
        model=NANO, api_key="unused", use_responses_api=use_responses_api, **options
    )
    reply = await chat.ainvoke("Hello")
    assert "Hello" in reply.text
    assert reply.usage_metadata["output_tokens"] > 0
    assert "".join([piece.text async for piece in chat.astream("Hello")]) == reply.text
    assert answered(client) == 2


async def test_instructor_gets_its_type_whole_and_in_parts(client: AsyncClient) -> None:
    instructor, pydantic = needs("instructor"), needs("pydantic")
    ticket = pydantic.create_model("Ticket", team=(str, ...), urgent=(bool, ...))
    extracting = instructor.from_openai(aimlasync.httpx.openai(client), mode=instructor.Mode.JSON)
    messages = [{"role": "user", "content": "I was charged twice"}]
    found = await extracting.chat.completions.create(model=NANO, response_model=ticket, messages=messages)
    assert (found.team, found.urgent) == ("support", True)
    parts = extracting.chat.completions.create_partial(model=NANO, response_model=ticket, messages=messages)
    assert [part.team async for part in parts][-1] == "support"
    assert answered(client) == 2
