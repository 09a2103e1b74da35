"""The items of a response, told apart by their `type`."""

from typing import reveal_type

from aimlasync import AsyncClient


async def main(client: AsyncClient) -> None:
    response = await client.responses.create(model="m", input="Hello")
    reveal_type(response)  # Response
    for item in response.output:
        if item.type == "message":
            reveal_type(item)  # OutputMessage
            for part in item.content:
                if part.type == "output_text":
                    reveal_type(part)  # OutputText
                elif part.type == "refusal":
                    reveal_type(part.refusal)  # str
        elif item.type == "function_call":
            reveal_type(item)  # FunctionCall
            print(item.call_id, item.arguments)
        elif item.type == "reasoning":
            reveal_type(item.encrypted_content)  # str | None
