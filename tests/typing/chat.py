"""A chat completion, whole and streamed."""

from typing import reveal_type

from aimlasync import AsyncClient


async def main() -> None:
    async with AsyncClient() as client:
        reply = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hello"}])
        reveal_type(reply)  # ChatCompletion
        reveal_type(reply.choices[0].message.content)  # str | None
        reveal_type(reply.text)  # str
        reveal_type(reply.info.cost_usd)  # float | None
        reveal_type(await client.ask("chat", {"model": "m", "messages": []}))  # ChatCompletion
        reveal_type(await client.ask("responses", {"model": "m", "input": "Hello"}))  # Response
        if reply.usage is not None:
            reveal_type(reply.usage.total_tokens)  # int
        stream = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "Hello"}], stream=True
        )
        async for chunk in stream:
            reveal_type(chunk)  # ChatCompletionChunk
            reveal_type(chunk.choices[0].delta.content)  # str | None
        reveal_type(await stream.collect())  # ChatCompletion
