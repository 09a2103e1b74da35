"""Answers larger than any model sends are read in parts, between which other tasks get a turn, or are refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from aimlasync import APIResponseValidationError, AsyncClient, Retry
from aimlasync.chat.types import decode_completion
from aimlasync.client.large import MAX_OBJECTS, decode_large
from aimlasync.transport.base import LARGE_BODY
from tests.support.servers import Script, raw_server

T = TypeVar("T")

DONE = b"data: [DONE]\n\n"
COST = b'data: {"meta": {"usage": {"usd_spent": 0.5}}}\n\n'
CHOICE = {"index": 3, "message": {"role": "assistant", "content": "fox"}, "finish_reason": "stop"}
TOKEN = {
    "token": "fox",
    "logprob": -0.5,
    "bytes": [102, 111, 120],
    "top_logprobs": [{"token": "fox", "logprob": -0.5, "bytes": None}] * 20,
}

# Just enough to be decoded in parts.
MANY = [CHOICE] * 13_000
TOKENS = [TOKEN] * 1_200
ODD_TOKENS = [{**TOKEN, "x": 1}] * 1_200


async def turns_during(awaited: Awaitable[T]) -> tuple[T, int]:
    """Return a result, and how many turns another task got until it was there."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count())
    try:
        return await awaited, turns
    finally:
        counting.cancel()


def of_choices(choices: Any, **fields: Any) -> bytes:
    return json.dumps({"id": "c-7", "choices": choices, "usage": {"total_tokens": 3}, **fields}).encode()


def event(content: str | None, finish: str | None = None) -> bytes:
    delta = {} if content is None else {"content": content}
    return b"data: %b\n\n" % json.dumps({"choices": [{"delta": delta, "finish_reason": finish}]}).encode()


def connect(base_url: str) -> AsyncClient:
    return AsyncClient(api_key="k", base_url=base_url, retry=Retry(attempts=1), timeout=60)


@pytest.mark.parametrize(
    ("make", "turns"),
    [
        (lambda: of_choices(MANY), 16),
        (lambda: of_choices([{}] * 34_000), 1),
        (lambda: of_choices([{**CHOICE, "finish_reason": ""}, *MANY]), 16),
        (lambda: of_choices([{**CHOICE, "index": None, "message": {"content": 7}}, *MANY], usage="none"), 16),
        (lambda: of_choices([{**CHOICE, "logprobs": {"content": TOKENS, "refusal": None}}], **{'a "key"': 1}), 9),
        (lambda: of_choices([{**CHOICE, "logprobs": {"content": [TOKEN] * 600}}, CHOICE] * 2), 17),
        (lambda: of_choices([{**CHOICE, "logprobs": {"content": [*TOKENS, 7, None], "refusal": 1}}]), 9),
        (lambda: of_choices([{**CHOICE, "logprobs": {"content": ODD_TOKENS, "y": 1}, "z": {"w": 1}}]), 9),
        (lambda: of_choices([*MANY, {**CHOICE, "x": 1}, {**CHOICE, "message": {"x": 1}}], x=1), 16),
        (lambda: of_choices([{**CHOICE, "logprobs": {"content": 7}}, *MANY]), 16),
        (lambda: of_choices([7, *MANY]), 0),
        (lambda: of_choices(MANY).replace(b'"id"', b'"x": NaN, "id"'), 0),
        (lambda: of_choices({"0": MANY}), 0),
        (lambda: json.dumps(MANY).encode(), 0),
        (lambda: of_choices([{**CHOICE, "message": {"content": "[{" * 100 + "fox " * 100_000}}]), 0),
    ],
    ids=[
        "choices", "empty", "blank-finish", "odd-types", "logprobs", "two-with-logprobs", "odd-logprobs",
        "more-in-logprobs", "more", "no-list-of-logprobs", "no-object", "nan", "no-list", "an-array", "text",
    ],
)  # fmt: skip
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_large_reply_is_what_it_would_be_decoded_at_once(
    make: Callable[[], bytes], turns: int, anyio_backend: str
) -> None:
    body = make()
    assert len(body) > LARGE_BODY
    try:
        whole = decode_completion(body)
    except ValueError as refused:
        with pytest.raises(type(refused)):
            await decode_large(body)
        return
    reply, seen = await turns_during(decode_large(body))
    assert reply == whole
    assert (reply.raw, reply.to_dict()) == (whole.raw, whole.to_dict())
    assert [one.to_dict() for one in reply.choices[:2]] == [one.to_dict() for one in whole.choices[:2]]
    assert seen >= turns


async def test_turns_between_the_parts_of_a_reply_grow_with_it() -> None:
    _, few = await turns_during(decode_large(of_choices(MANY)))
    _, many = await turns_during(decode_large(of_choices(MANY * 4)))
    assert 3.5 < many / few < 4.5


async def test_large_replies_that_come_together_are_decoded_one_after_the_other() -> None:
    body = of_choices(MANY)
    _, alone = await turns_during(decode_large(body))
    _, together = await turns_during(asyncio.gather(*(decode_large(body) for _ in range(4))))
    assert together > 3.5 * alone


@pytest.mark.parametrize("choice", ["{}", "[]", '{"finish_reason":"stop","message":{}}'])
@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_reply_of_a_million_choices_is_refused(choice: str, api: str, anyio_backend: str) -> None:
    body = b'{"id": "7", "%b": [%b]}' % (
        {"chat": b"choices", "responses": b"output"}[api],
        b",".join([choice.encode()] * MAX_OBJECTS),
    )
    async with (
        raw_server(Script((body[: 2**20], body[2**20 :]), content_type="application/json")) as server,
        connect(server.base_url) as client,
    ):
        call: Awaitable[object] = (
            client.chat.completions.create(model="m", messages=[])
            if api == "chat"
            else client.responses.create(model="m", input="hi")
        )
        with pytest.raises(APIResponseValidationError, match="more than 1,000,000 JSON objects and was not decoded"):
            await call
        assert client._pipeline.balancer.upstreams[0].limiter.in_flight == 0


async def test_a_large_reply_comes_through_the_client() -> None:
    body = of_choices(MANY)
    async with (
        raw_server(Script((body,), content_type="application/json")) as server,
        connect(server.base_url) as client,
    ):
        reply = await client.chat.completions.create(model="m", messages=[])
    assert len(reply.choices) == len(MANY)
    assert reply.usage is not None
    assert reply.usage.total_tokens == 3


async def test_a_read_with_many_events_is_taken_in_parts_and_none_is_lost() -> None:
    events = [event(f"{number} ") for number in range(20_000)]
    async with (
        raw_server(Script((b"".join([*events, event(None, "stop"), DONE]), COST))) as server,
        connect(server.base_url) as client,
    ):
        stream = await client.chat.completions.create(model="m", messages=[], stream=True)
        seen, most = "", 0
        while pieces := await stream.read_some():
            most = max(most, len(pieces))
            seen += "".join(piece.choices[0].delta.content or "" for piece in pieces)
    assert seen == "".join(f"{number} " for number in range(20_000))
    assert most <= 500
    assert (await stream.collect()).choices[0].finish_reason == "stop"


async def test_what_follows_the_end_in_the_same_read_still_states_the_cost() -> None:
    # Both lie in one part of the read, or in two.
    for number in (400, 498, 499, 500, 501):
        body = b"".join([*[event("a")] * number, event(None, "stop"), DONE, COST, b"data: {}\n\n" * 700])
        async with raw_server(Script((body,))) as server, connect(server.base_url) as client:
            stream = await client.chat.completions.create(model="m", messages=[], stream=True)
            assert (await stream.collect()).text == "a" * number
            assert stream.info.cost_usd == 0.5


async def test_what_came_before_a_bad_event_of_one_read_is_delivered() -> None:
    body = b"".join([*[event("a")] * 1_200, b"data: {not json}\n\n", *[event("b")] * 1_000, DONE])
    async with raw_server(Script((body,))) as server, connect(server.base_url) as client:
        stream = await client.chat.completions.create(model="m", messages=[], stream=True)
        with pytest.raises(APIResponseValidationError, match="not valid JSON") as caught:
            await stream.collect()
    assert caught.value.partial.text == "a" * 1_200


async def test_a_reader_of_one_large_read_lets_others_have_a_turn() -> None:
    body = b"".join([*[event("a")] * 4_000, event(None, "stop"), DONE])
    async with raw_server(Script((body,))) as server, connect(server.base_url) as client:
        stream = await client.chat.completions.create(model="m", messages=[], stream=True)
        whole, turns = await turns_during(stream.collect())
    assert whole.text == "a" * 4_000
    # What another read brought meanwhile is begun in the same turn.
    assert turns >= 4_000 / 1_000 - 1


async def test_leaving_in_the_middle_of_a_read_gives_everything_back() -> None:
    body = b"".join([event("a")] * 4_000)
    async with raw_server(Script((body,), end="stall")) as server, connect(server.base_url) as client:
        async with await client.chat.completions.create(model="m", messages=[], stream=True) as stream:
            async for _ in stream:
                break
        assert client._pipeline.balancer.upstreams[0].limiter.in_flight == 0


async def test_an_event_of_a_million_choices_is_refused() -> None:
    body = b'data: {"choices":[%b]}\n\n' % b",".join([b"{}"] * MAX_OBJECTS)
    async with raw_server(Script((event("a"), body, DONE))) as server, connect(server.base_url) as client:
        stream = await client.chat.completions.create(model="m", messages=[], stream=True)
        with pytest.raises(APIResponseValidationError, match="more than 1,000,000 JSON objects") as caught:
            await stream.collect()
    assert caught.value.partial.text == "a"


async def test_a_body_of_very_many_values_with_nothing_between_them_is_refused() -> None:
    value = json.dumps({"choices": [{"delta": {"content": "a"}}]}).encode()
    async with (
        raw_server(Script((value * 10_001,), content_type="application/json")) as server,
        connect(server.base_url) as client,
    ):
        with pytest.raises(APIResponseValidationError, match="too large"):
            await client.chat.completions.create(model="m", messages=[])
