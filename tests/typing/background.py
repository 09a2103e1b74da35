"""A response in the background, waited for, and its input."""

from typing import reveal_type

from aimlasync import AsyncClient, ResponseFailedError


async def main(client: AsyncClient) -> None:
    made = await client.responses.create(model="m", input="Hello", background=True)
    reveal_type(made.is_done)  # bool
    try:
        reveal_type(await client.responses.wait(made, timeout=60))  # Response
    except ResponseFailedError as error:
        print(error.reply.status)
    reveal_type(await client.responses.retrieve(made.id))  # Response
    stream = await client.responses.retrieve(made, stream=True, starting_after=3)
    reveal_type(stream)  # ResponseStream
    async for item in client.responses.input_items(made):
        reveal_type(item)  # Object
    reveal_type(await client.responses.cancel(made))  # Response
    await client.responses.delete(made)
    short = await client.responses.compact(model="m", input="Hello")
    await client.responses.create(model="m", input=short.output)
