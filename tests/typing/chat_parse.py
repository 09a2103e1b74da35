"""Structured answers of types of msgspec and the standard library."""

import enum
from dataclasses import dataclass
from typing import Any, Literal, reveal_type

import msgspec

from aimlasync import AsyncClient
from aimlasync.chat import ParsedChatCompletion


class Ticket(msgspec.Struct):
    team: Literal["support", "billing"]
    urgent: bool


@dataclass
class Review:
    words: list[str]


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


MESSAGES: list[dict[str, Any]] = [{"role": "user", "content": "Hello"}]


async def ask(client: AsyncClient) -> ParsedChatCompletion[Ticket]:
    return await client.chat.completions.parse(model="m", messages=MESSAGES, response_format=Ticket)


async def main(client: AsyncClient) -> None:
    reply = await ask(client)
    reveal_type(reply.parsed)  # Ticket
    reveal_type(reply.parsed.team)  # Literal['support', 'billing']
    reveal_type(reply.choices[0].message.parsed)  # Ticket
    review = await client.chat.completions.parse(model="m", messages=MESSAGES, response_format=Review)
    reveal_type(review.parsed.words)  # list[str]
    mood = await client.chat.completions.parse(model="m", messages=MESSAGES, response_format=Mood, structured="tool")
    reveal_type(mood.parsed)  # Mood
    many = await client.chat.completions.parse(model="m", messages=MESSAGES, response_format=list[Ticket])
    reveal_type(many.parsed)  # list[Ticket]
