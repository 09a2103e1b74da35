"""The SDK's own class over the pipeline, with the SDK's own types."""

from typing import reveal_type

from openai.types.chat import ChatCompletion as SDKChatCompletion
from pydantic import BaseModel

from aimlasync.openai import AsyncOpenAI


class Order(BaseModel):
    product: str


async def main() -> None:
    async with AsyncOpenAI(api_key="k", base_url="http://127.0.0.1:1/v1") as client:
        reply = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hello"}])
        same: SDKChatCompletion = reply
        reveal_type(same.choices[0].message.content)  # str | None
        parsed = await client.chat.completions.parse(
            model="m", messages=[{"role": "user", "content": "Hello"}], response_format=Order
        )
        reveal_type(parsed.choices[0].message.parsed)  # Order | None
        async for event in await client.responses.create(model="m", input="Hello", stream=True):
            if event.type == "response.output_text.delta":
                reveal_type(event)  # ResponseTextDeltaEvent
