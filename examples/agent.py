"""An agent with two tools, told as it happens: the model looks things up until it can answer.

With AIML_API_KEY or BYTESPIKE_API_KEY set, this talks to the vendor; without a key the built-in simulator answers.
"""

import os
from typing import Annotated, Literal

from aimlasync import AsyncClient, agents, run
from aimlasync.simulator import stand_in

MODEL = os.environ.get("MODEL", "openai/gpt-5-nano-2025-08-07")
ORDERS = {17: "42 mugs, shipped on Monday", 18: "a lamp, waiting for payment"}


async def find_order(number: Annotated[int, "the order number"]) -> str:
    """Find what an order is, and how far it is."""
    if number not in ORDERS:
        raise agents.ToolError(f"there is no order {number}; there are {', '.join(map(str, ORDERS))}")
    return ORDERS[number]


def opening_hours(day: Literal["weekday", "Saturday", "Sunday"]) -> str:
    """Opening hours of the shop."""
    return {"weekday": "8 to 18", "Saturday": "9 to 13", "Sunday": "closed"}[day]


async def main() -> None:
    shop = agents.Agent(
        model=MODEL, instructions="You serve at a shop's desk. Be brief.", tools=[find_order, opening_hours]
    )
    async with AsyncClient() as client:
        question = "Where is my order 17, and what are the opening hours on Saturday?"
        async with agents.stream(client, shop, input=question) as running:
            async for event in running:
                match event:
                    case agents.TextDelta(text):
                        print(text, end="", flush=True)
                    case agents.ToolFinished(call, seconds):
                        print(f"[{call.name} {call.arguments} -> {call.output}, {seconds * 1000:.0f} ms]")
        done = running.run
        print(f"\n{done.turns} turns, {done.usage.total_tokens} tokens, {done.usage.cost_usd} USD")


with stand_in():
    run(main())
