"""Structured answers of pydantic's models, over both endpoints."""

from typing import reveal_type

from pydantic import BaseModel, Field

from aimlasync import AsyncClient, agents
from aimlasync.responses import ParsedResponse


class Order(BaseModel):
    product: str
    count: int = Field(ge=1)


class Turn(BaseModel):
    role: str
    content: str


async def main(client: AsyncClient) -> None:
    messages = [{"role": "user", "content": "two lamps"}]
    reply = await client.chat.completions.parse(model="m", messages=messages, response_format=Order)
    reveal_type(reply.parsed)  # Order
    made = await client.chat.completions.create(model="m", messages=messages, response_format=Order)
    reveal_type(made.parsed.count)  # int
    response: ParsedResponse[Order] = await client.responses.parse(model="m", input="two lamps", text_format=Order)
    reveal_type(response.parsed)  # Order
    reveal_type(response.output_parsed.product)  # str
    turns = [Turn(role="user", content="two lamps")]
    await client.chat.completions.create(model="m", messages=turns)
    await client.responses.create(model="m", input=turns)
    await agents.run(client, model="m", input=turns)
