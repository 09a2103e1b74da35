"""The client beside llama.cpp's own server: a queue of slots that refuses nobody, with answers of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from aimlasync import AsyncClient, BadRequestError, InternalServerError
from tests.support import llama_cpp

pytestmark = pytest.mark.skipif(
    not llama_cpp.is_installed(), reason=f"{llama_cpp.TO_INSTALL} runs these tests beside llama.cpp's server"
)

HELLO: Any = [{"role": "user", "content": "Hello"}]
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "roll",
        "parameters": {
            "type": "object",
            "properties": {"sides": {"type": "integer", "minimum": 0, "maximum": 9}},
            "required": ["sides"],
            "additionalProperties": False,
        },
    },
}
SLOTS, CONTEXT = 4, 1024


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with llama_cpp.serve(tmp_path_factory.mktemp("llama"), slots=SLOTS, context=CONTEXT) as served:
        yield served


async def test_chats_are_read_whole_and_as_streams(url: str) -> None:
    # Without the token that ends an answer.
    asked: Any = {"model": "m", "messages": HELLO, "max_tokens": 6, "logit_bias": {"2": -100}}
    async with AsyncClient(api_key="k", base_url=url) as client:
        whole = await client.chat.completions.create(**asked, logprobs=True)
        stream = await client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
        for reply in (whole, await stream.collect()):
            assert reply.choices[0].finish_reason == "length"
            assert reply.choices[0].message.content
            assert reply.usage is not None
            assert reply.usage.completion_tokens == 6
        assert whole.choices[0].logprobs is not None
        both = await client.chat.completions.create(**asked, n=2)
        assert [choice.index for choice in both.choices] == [0, 1]


async def test_calls_of_tools_are_read_whole_and_as_streams(url: str) -> None:
    asked: Any = {"model": "m", "messages": HELLO, "max_tokens": 400, "tools": [TOOL], "tool_choice": "required"}
    asked["logit_bias"] = llama_cpp.CALL_A_TOOL
    async with AsyncClient(api_key="k", base_url=url) as client:
        whole = await client.chat.completions.create(**asked)
        stream = await client.chat.completions.create(**asked, stream=True)
        for reply in (whole, await stream.collect()):
            calls = reply.choices[0].message.tool_calls
            assert calls
            # The last may be cut by max_tokens.
            assert all(call.id and call.function is not None and call.function.name == "roll" for call in calls)
            assert calls[0].function is not None
            assert 0 <= json.loads(calls[0].function.arguments)["sides"] <= 9


async def test_a_response_is_read_whole_and_as_a_stream(url: str) -> None:
    async with AsyncClient(api_key="k", base_url=url) as client:
        whole = await client.responses.create(model="m", input="Hello", max_output_tokens=6)
        stream = await client.responses.create(model="m", input="Hello", max_output_tokens=6, stream=True)
        for reply in (whole, await stream.collect()):
            assert reply.status == "completed"
            assert reply.usage is not None
            assert reply.usage.output_tokens > 0


async def test_what_it_cannot_do_is_told_once_and_leaves_it_in_use(url: str) -> None:
    """A prompt above the context is a 400; an image is a 500, which is no failure of the server."""
    too_long: Any = [{"role": "user", "content": "w1 " * CONTEXT}]
    image: Any = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]
    async with AsyncClient(api_key="k", base_url=url) as client:
        for stream in (False, True):
            with pytest.raises(BadRequestError, match="exceeds the available context size"):
                await client.chat.completions.create(model="m", messages=too_long, stream=stream)
        for _ in range(8):
            with pytest.raises(InternalServerError, match="image input is not supported"):
                await client.chat.completions.create(model="m", messages=[{"role": "user", "content": image}])
        (figures,) = client.statistics()
        assert (figures.attempts, figures.refused, figures.state) == (10, 0, "ok")


async def test_a_queue_of_slots_is_found_by_its_answers(url: str) -> None:
    """It refuses nobody: callers far above its slots wait for their turn here, and none of them for too long."""
    callers = 200
    at_once: list[int] = []
    async with AsyncClient(api_key="k", base_url=url) as client:

        async def ask() -> None:
            await client.chat.completions.create(model="m", messages=HELLO, max_tokens=16)
            at_once.append(client.statistics()[0].in_flight)

        await asyncio.gather(*(ask() for _ in range(callers)))
        (figures,) = client.statistics()
        assert (figures.answered, figures.attempts, figures.refused, figures.failed) == (callers, callers, 0, 0)
        # About 8 on average; sent all at once they would be 100.
        assert sum(at_once) / callers < 50
