"""Answers as types: a label from an Enum, and a record, many at once.

With AIML_API_KEY or BYTESPIKE_API_KEY set, this talks to the vendor; without a key the built-in simulator answers.
"""

import asyncio
import enum
import os

import msgspec

from aimlasync import AnswerError, AsyncClient, run
from aimlasync.simulator import stand_in

MODEL = os.environ.get("MODEL", "openai/gpt-5-nano-2025-08-07")


class Team(enum.Enum):
    SUPPORT = "support"
    BILLING = "billing"
    SALES = "sales"


class Ticket(msgspec.Struct):
    """What a support desk wants to know first."""

    team: Team
    summary: str
    urgent: bool


TEXTS = [
    "My card was charged twice for the same invoice.",
    "The mobile app crashes when I open the calendar. We have a launch tomorrow!",
    "Could we get a quote for 40 seats on the yearly plan?",
]


async def read(client: AsyncClient, text: str) -> Ticket | str:
    try:
        reply = await client.chat.completions.parse(
            model=MODEL,
            messages=[{"role": "system", "content": "Read the ticket."}, {"role": "user", "content": text}],
            response_format=Ticket,
        )
    except AnswerError as no_ticket:
        return f"no ticket: {no_ticket.message}"
    ticket: Ticket = reply.parsed
    return ticket


async def main() -> None:
    async with AsyncClient() as client:
        for text, ticket in zip(TEXTS, await asyncio.gather(*(read(client, text) for text in TEXTS)), strict=True):
            print(f"{ticket}\n  <- {text}")
        reply = await client.responses.parse(model=MODEL, input=TEXTS[0], text_format=Team)
        print(reply.parsed)


with stand_in():
    run(main())
