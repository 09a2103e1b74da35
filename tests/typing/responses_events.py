"""The events of a streamed response, told apart by their `type` as OpenAI's documentation does."""

from typing import reveal_type

from aimlasync import AsyncClient
from aimlasync.wire.base import Unknown


async def main(client: AsyncClient) -> None:
    stream = await client.responses.create(model="m", input="Hello", stream=True)
    async for event in stream:
        if event.type == "response.output_text.delta":
            reveal_type(event)  # ResponseTextDeltaEvent
            print(event.delta, end="")
        elif event.type == "response.output_item.added" and event.item.type == "function_call":
            reveal_type(event.item)  # FunctionCall
        elif event.type == "response.completed":
            reveal_type(event.response)  # Response
        elif event.type == "error":
            reveal_type(event)  # ResponseErrorEvent
        elif isinstance(event, Unknown):
            print(event.type, event.raw)
    async for event in await client.responses.create(model="m", input="Hello", stream=True):
        match event.type:
            case "response.function_call_arguments.done":
                reveal_type(event)  # ResponseFunctionCallArgumentsDoneEvent
            case _:
                pass
    reveal_type(await stream.collect())  # Response
