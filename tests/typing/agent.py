"""Agents with tools, whose output is of the type given."""

from typing import Annotated, reveal_type

import msgspec

from aimlasync import AsyncClient
from aimlasync.agents import Agent, Run, RunContext, map, run, stream, tool


class Report(msgspec.Struct):
    city: str
    sunny: bool


@tool
async def weather(context: RunContext[dict[str, str]], city: Annotated[str, "which city"]) -> str:
    """What the weather is like."""
    return context.context.get(city, "sunny")


async def look_up(number: int) -> float:
    return 1.5


def ask(text: str) -> str:
    return text


async def main(client: AsyncClient) -> None:
    agent = Agent(model="m", tools=[weather], output=Report)
    reveal_type(agent)  # Agent[Report]
    made = await run(client, agent, input="Rome?", context={})
    reveal_type(made)  # Run[Report]
    reveal_type(made.output.city)  # str
    plain = await run(client, model="m", input="Hello")
    reveal_type(plain.output)  # str
    several = [ask, look_up]
    reveal_type((await run(client, model="m", input="Hello", tools=several)).output)  # str
    direct = await run(client, model="m", input="Rome?", output=Report)
    reveal_type(direct.output)  # Report
    reveal_type(agent.but(max_turns=3))  # Agent[Report]
    async with stream(client, agent, input="Rome?") as running:
        async for text in running.text:
            reveal_type(text)  # str
        reveal_type((await running.collect()).output)  # Report
    async for result in map(client, ["Rome?", "Oslo?"], agent, concurrency=2):
        reveal_type(result.output)  # Report | None
    saved: Run = Run.from_json(made.to_json(), output=Report)
    await run(client, agent, history=saved, input="And now?")
