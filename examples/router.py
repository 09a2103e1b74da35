"""A chain of two models: a nano model routes each message to a team, a larger one answers for that team.

With AIML_API_KEY or BYTESPIKE_API_KEY set, this talks to the vendor; without a key the built-in simulator answers.
"""

import asyncio
import os
from typing import Literal

import msgspec

from aimlasync import AsyncClient, run
from aimlasync.simulator import stand_in

ROUTER = os.environ.get("MODEL", "openai/gpt-5-nano-2025-08-07")
ANSWERER = os.environ.get("ANSWER_MODEL", "openai/gpt-5-mini-2025-08-07")

TEAMS = {
    "support": "You are the support team. Ask for what you need to find the fault, one question at most.",
    "billing": "You are the billing team. Say what will be checked or refunded, and by when.",
    "sales": "You are the sales team. Answer what was asked, then offer a call.",
}
MESSAGES = [
    "My card was charged twice for the same invoice.",
    "The export button does nothing since this morning's update.",
    "What would the yearly plan cost for 40 seats?",
    "How do I get a VAT number onto our receipts?",
    "I am locked out: the login code never arrives.",
]


class Route(msgspec.Struct):
    """The team that a message is for."""

    team: Literal["support", "billing", "sales"]
    urgent: bool


async def handle(client: AsyncClient, message: str) -> tuple[float | None, float | None]:
    routed = await client.chat.completions.parse(
        model=ROUTER,
        messages=[{"role": "system", "content": "Route the message to a team."}, {"role": "user", "content": message}],
        response_format=Route,
    )
    route: Route = routed.parsed
    answer = await client.chat.completions.create(
        model=ANSWERER,
        messages=[{"role": "system", "content": TEAMS[route.team]}, {"role": "user", "content": message}],
        # Who waits for an urgent answer is not kept waiting by the rest.
        priority="interactive" if route.urgent else "bulk",
    )
    print(f"{message}\n  [{route.team}{', urgent' if route.urgent else ''}] {answer.text}")
    return routed.info.cost_usd, answer.info.cost_usd


async def main() -> None:
    async with AsyncClient() as client:
        costs = await asyncio.gather(*(handle(client, message) for message in MESSAGES))
    for name, spent in zip(("routing", "answering"), zip(*costs, strict=True), strict=True):
        known = [cost for cost in spent if cost is not None]
        print(f"{name}: {sum(known):.6f} USD" if len(known) == len(spent) else f"{name}: cost unknown")


with stand_in():
    run(main())
