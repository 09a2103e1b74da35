"""Error bodies that are long, cut or deep are heard as far as they came; JSON behind a byte order mark is JSON."""

from __future__ import annotations

import json

import pytest

from aimlasync import AsyncClient, Retry, errors
from aimlasync.wire.error_bodies import status_error
from tests.support.servers import Script, raw_server

KEY = "sk-sentinel-5f1c2e77aa"
HELLO = [{"role": "user", "content": "Hello"}]
BOM = b"\xef\xbb\xbf"

QUOTA = b'{"error": {"message": "You exceeded your quota", "type": "a", "code": "insufficient_quota"'
PADDING = b', "padding": "' + b"x" * 2**21


@pytest.mark.parametrize(
    "script",
    [
        Script([QUOTA], status=429, content_type="application/json"),
        Script([QUOTA, PADDING, b'"}}'], status=429, content_type="application/json"),
        Script([QUOTA, b"}", b" " * 2**21, b"}"], status=429, content_type="application/json"),
        Script([QUOTA, b', "a": '], status=429, content_type="application/json", end="reset"),
        Script([QUOTA, b', "a": '], status=429, content_type="application/json", end="truncated_chunked"),
        Script([b"\xef\xbb\xbf" + QUOTA, b"}}"], status=429, content_type="application/json"),
        Script([(QUOTA + b"}}").decode().encode("utf-16")], status=429, content_type="application/json"),
        Script([QUOTA.decode().encode("utf-16-be")], status=429, content_type="application/json"),
        Script([QUOTA, b', "a": ', b"[" * 50_000, b"]" * 50_000, b"}}"], status=429, content_type="application/json"),
        Script([QUOTA, b', "a": ', b"[" * 900, b"]" * 900, b"}}"], status=429, content_type="application/json"),
        Script([b"id:1\nevent:error\n:HTTP_STATUS/429\ndata:", QUOTA, b"}}\n\n"], status=429),
        Script([b"data: ", QUOTA, b"}}\r\n\r\ndata: [DONE]\r\n"], status=429),
        Script([b'{"message": "429 ', json.dumps(QUOTA.decode())[1:-1].encode()], status=500),
    ],
    ids=[
        "cut",
        "padded",
        "blank",
        "reset",
        "broken",
        "marked",
        "utf-16",
        "cut utf-16",
        "deep",
        "less deep",
        "event",
        "data",
        "cut upstream",
    ],
)
async def test_what_a_long_or_cut_body_says_is_heard(script: Script) -> None:
    async with raw_server(script) as server:
        for stream in (False, True):
            # A client of its own: the next call of one waits after a 429.
            async with AsyncClient(api_key=KEY, base_url=server.base_url, retry=Retry(attempts=3, base=0.0)) as client:
                with pytest.raises(errors.APIStatusError, match=r"\AHTTP \d+: You exceeded your quota") as caught:
                    await client.chat.completions.create(model="m", messages=HELLO, stream=stream)
                assert caught.value.code == "insufficient_quota"
                assert not caught.value.retryable
                assert caught.value.info is not None
                assert caught.value.info.attempts == 1
                assert len(caught.value.message) < 5_000
                assert len(repr(caught.value.body)) <= 2**20 + 200
                json.dumps(caught.value.body)


def test_a_long_message_is_cut_and_is_whole_in_the_body() -> None:
    failed = status_error(400, json.dumps({"error": {"message": "x" * 100_000}}).encode())
    assert len(failed.message) < 4_100
    assert len(failed.body["error"]["message"]) == 100_000


async def test_what_is_forwarded_of_a_long_or_broken_error_body_is_what_came() -> None:
    scripts = (
        Script([QUOTA, PADDING], status=429, content_type="application/json"),
        Script([QUOTA], status=429, content_type="application/json", end="truncated_chunked"),
    )
    for script, length in zip(scripts, (2**20, len(QUOTA)), strict=True):
        async with raw_server(script) as server, AsyncClient(api_key=KEY, base_url=server.base_url) as client:
            answer = await client.forward("GET", "files")
            assert (answer.status, len(b"".join([piece async for piece in answer]))) == (429, length)


@pytest.mark.parametrize("depth", [40, 900, 100_000])
async def test_a_deep_error_under_a_200_is_an_error(depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    body = b'{"error": {"message": "no", "code": "insufficient_quota", "a": %b}}' % deep
    scripts = (
        Script([body], content_type="application/json"),
        Script([b"data: %b\n\n" % body]),
        Script([b"event: error\ndata: %b\n\n" % body]),
    )
    for script in scripts:
        async with raw_server(script) as server:
            async with AsyncClient(api_key=KEY, base_url=server.base_url, max_retries=0) as client:
                for stream in (False, True):
                    with pytest.raises(errors.AimlasyncError) as caught:
                        await client.chat.completions.create(model="m", messages=HELLO, stream=stream)
                    repr(vars(caught.value))


ANSWER = b'{"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}'
RESPONSE = b'{"id": "r", "status": "completed", "output_text": "hi", "output": []}'
CHUNK = b'{"choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}]}'
COMPLETED = b'{"type": "response.completed", "response": %b}' % RESPONSE


async def test_answers_behind_a_byte_order_mark_are_answers() -> None:
    async with raw_server(Script([BOM + ANSWER], content_type="application/json", end="keep")) as server:
        async with AsyncClient(api_key=KEY, base_url=server.base_url) as client:
            reply = await client.chat.completions.create(model="m", messages=HELLO)
            assert reply.text == "hi"
            assert reply.to_dict() == json.loads(ANSWER)
            answer = await client.forward(
                "POST", "chat/completions", json.dumps({"model": "m", "messages": HELLO}).encode()
            )
            assert b"".join([piece async for piece in answer]) == BOM + ANSWER
            stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
            assert (await stream.collect()).text == "hi"
    async with raw_server(Script([BOM + RESPONSE], content_type="application/json")) as server:
        async with AsyncClient(api_key=KEY, base_url=server.base_url) as client:
            assert (await client.responses.create(model="m", input="a")).output_text == "hi"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
async def test_an_answer_in_another_unicode_encoding_is_an_answer(encoding: str) -> None:
    said = ANSWER.decode().encode(encoding)
    async with raw_server(Script([said], content_type="application/json", end="keep")) as server:
        async with AsyncClient(api_key=KEY, base_url=server.base_url) as client:
            reply = await client.chat.completions.create(model="m", messages=HELLO)
            assert reply.text == "hi"
            assert reply.to_dict() == json.loads(ANSWER)


@pytest.mark.parametrize("models", [b'{"data": [{"id": "m"}]}', b'[{"id": "m"}]'])
async def test_lists_behind_a_byte_order_mark_are_lists(models: bytes) -> None:
    scripts = (
        Script([BOM + models], content_type="application/json", end="keep"),
        Script([BOM + b'{"data": {"id": "m"}}'], content_type="application/json", end="keep"),
    )
    async with raw_server(*scripts) as server, AsyncClient(api_key=KEY, base_url=server.base_url) as client:
        assert [model.id async for model in client.models.list()] == ["m"]
        assert (await client.models.retrieve("m")).id == "m"


@pytest.mark.parametrize("start", [b"", BOM])
async def test_events_behind_a_byte_order_mark_are_events(start: bytes) -> None:
    chat = Script([start + b"data: " + BOM + CHUNK + b"\n\ndata: " + BOM + b"[DONE]\n\n"], end="keep")
    run = Script([start + b"data: " + BOM + COMPLETED + b"\n\n"], end="keep")
    failed = Script([start + b"data: " + BOM + b'{"error": {"message": "no", "code": "invalid"}}\n\n'], end="keep")
    async with raw_server(chat, run, failed) as server:
        async with AsyncClient(api_key=KEY, base_url=server.base_url) as client:
            stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
            assert (await stream.collect()).text == "hi"
            events = await client.responses.create(model="m", input="a", stream=True)
            assert (await events.collect()).output_text == "hi"
            with pytest.raises(errors.StreamError, match="no"):
                await client.chat.completions.create(model="m", messages=HELLO, stream=True)
