"""What a body is, by its bytes: an answer, a stream, an error, or nothing; and what ends before anything was said."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from aimlasync import (
    APIResponseValidationError,
    APIStatusError,
    APITimeoutError,
    AsyncClient,
    Endpoint,
    InternalServerError,
    RateLimitError,
    Retry,
    StreamError,
    Timeout,
    TruncatedStreamError,
)
from aimlasync.client.framing import JsonParser, Unframed
from aimlasync.sse import Series
from tests.client.test_stream import DONE, chunk, connect, data
from tests.support.cases import case
from tests.support.servers import LEARNS_NOTHING, End, RawServer, Script, raw_server

JSON, EVENTS = "application/json", "text/event-stream"


def whole(content: str | None = "hello", finish: str | None = "stop", **more: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish, **more}
    return json.dumps({"id": "c", "choices": [choice]}).encode()


def response(status: str | None = "completed", text: str | None = "hello", **more: Any) -> bytes:
    parts = [{"type": "output_text", "text": text}]
    output = [] if text is None else [{"type": "message", "role": "assistant", "content": parts}]
    return json.dumps({"id": "r", "object": "response", "status": status, "output": output, **more}).encode()


def event(kind: str, **fields: Any) -> bytes:
    return b"event: %b\n%b" % (kind.encode(), data({"type": kind, **fields}))


CREATED = event("response.created", response={"id": "r", "status": "in_progress", "output": []})
ROLE = data({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
USAGE = data({"choices": [], "usage": {"total_tokens": 3}})


async def ask_chat(server: RawServer, stream: bool, **options: Any) -> str:
    async with connect(server, **options) as client:
        messages = [{"role": "user", "content": "hi"}]
        if not stream:
            return (await client.chat.completions.create(model="m", messages=messages)).text
        answer = await client.chat.completions.create(model="m", messages=messages, stream=True)
        pieces = [piece async for piece in answer.text]
        assert "".join(pieces) == (await answer.collect()).text
        return "".join(pieces)


async def ask_response(server: RawServer, stream: bool, **params: Any) -> tuple[str, str | None]:
    async with connect(server) as client:
        if not stream:
            reply = await client.responses.create(model="m", input="hi", **params)
        else:
            reply = await (await client.responses.create(model="m", input="hi", stream=True, **params)).collect()
        return reply.output_text, reply.status


STREAM = chunk("hel") + chunk("lo", finish="stop")
LINES = STREAM.replace(b"data: ", b"").replace(b"\n\n", b"\n")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    "body",
    [
        whole(),
        b"\xef\xbb\xbf" + whole(),
        json.dumps(json.loads(whole()), indent=2).encode(),
        whole() + DONE,
        whole() + b"\r\n\r\n" + DONE,
        whole() + whole(),
        b"data: %b\n\n%b" % (whole(), DONE),
        STREAM + DONE,
        b": waiting\n\n" + STREAM + DONE,
        b": waiting\n\n: waiting\n\n" + whole(),
        b"\xef\xbb\xbf: waiting\r\n\r\n" + json.dumps(json.loads(whole()), indent=2).encode() + b"\n: waiting\n",
        b"\r\n" + STREAM,
        LINES,
        json.dumps({"choices": [{"delta": {"content": "hello"}, "finish_reason": "stop"}]}).encode(),
        STREAM.replace(b"data: ", b"data: data: ") + DONE,
        STREAM.replace(b"\n\n", b"\n") + DONE,
        b"data: " + LINES.replace(b"\n", b"") + b"\n\n" + DONE,
    ],
    ids=[
        "json",
        "bom",
        "indented",
        "glued",
        "glued-lines",
        "twice",
        "json-in-an-event",
        "events",
        "comment-first",
        "comment-before-json",
        "comment-before-indented",
        "blank-first",
        "lines",
        "chunk-as-json",
        "wrapped-twice",
        "no-blank-lines",
        "two-in-an-event",
    ],
)
async def test_the_bytes_say_what_a_body_is(body: bytes, stream: bool) -> None:
    for kind in (JSON, EVENTS, "text/plain", "application/octet-stream", "application/x-ndjson", None):
        with case(kind):
            async with raw_server(Script([body], content_type=kind)) as server:
                assert await ask_chat(server, stream) == "hello"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (DONE, EVENTS),
        (USAGE + DONE, EVENTS),
        (USAGE, EVENTS),
        (ROLE + DONE, EVENTS),
        (ROLE + USAGE + DONE, EVENTS),
        (data({"choices": [{"text": "of another API", "finish_reason": "stop"}]}) + DONE, EVENTS),
        (whole(None, None), JSON),
        (json.dumps({"choices": [{"text": "of another API", "finish_reason": "stop"}]}).encode(), JSON),
        (b'{"choices": []}', JSON),
        (b"{}", EVENTS),
        (b"null", JSON),
        (b"", JSON),
    ],
    ids=[
        "done",
        "usage-done",
        "usage",
        "role-done",
        "role-usage",
        "text-event",
        "no-reason",
        "text",
        "no-choices",
        "empty-object",
        "null",
        "empty",
    ],
)
async def test_nothing_said_is_no_answer(body: bytes, kind: str, stream: bool) -> None:
    async with raw_server(Script([body] if body else [], content_type=kind)) as server:
        with pytest.raises(APIResponseValidationError):
            await ask_chat(server, stream)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("body", [whole(""), whole(None), ROLE + chunk(finish="stop") + DONE])
async def test_a_server_that_says_stop_and_nothing_else_has_answered(body: bytes, stream: bool) -> None:
    async with raw_server(Script([body])) as server:
        assert await ask_chat(server, stream) == ""


BOOM = {"error": {"message": "boom", "code": "x"}}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        (json.dumps(BOOM).encode(), APIStatusError, "boom"),
        (json.dumps(BOOM).encode() + DONE, APIStatusError, "boom"),
        (json.dumps(BOOM, indent=1).encode(), APIStatusError, "boom"),
        (b'{"code": 429, "msg": "slow down", "choices": null}', RateLimitError, "slow down"),
        (b'{"detail": "no such model"}', APIResponseValidationError, "no such model"),
        (whole("", "error", error={"code": 502, "message": "died"}), InternalServerError, "died"),
        (b"data: " + whole("", "error", error={"code": 502, "message": "died"}) + b"\n\n" + DONE, StreamError, "died"),
        (data(BOOM), StreamError, "boom"),
        (b"event: error\ndata: boom\n\n", StreamError, "boom"),
        (chunk("hel") + json.dumps(BOOM).encode() + b"\n\n" + DONE, StreamError, "boom"),
    ],
    ids=[
        "bare",
        "bare-done",
        "indented",
        "no-error-key",
        "detail",
        "of-a-choice",
        "of-a-choice-event",
        "event",
        "named-text",
        "bare-between",
    ],
)
async def test_an_error_under_a_200_is_heard(body: bytes, error: type[Exception], words: str, stream: bool) -> None:
    for kind in (JSON, EVENTS, "text/plain"):
        with case(kind):
            async with raw_server(Script([body], content_type=kind)) as server:
                with pytest.raises(error, match=words):
                    await ask_chat(server, stream)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    "beat",
    [
        b"event: ping\ndata: 2026-01-01T00:00:00Z\n\n",
        b"event: ping\ndata: 17\n\n",
        b"event: heartbeat\ndata: {}\n\n",
        b'data: {"type": "ping"}\n\n',
        b"data: ping\n\n",
        b"data: [KEEPALIVE]\n\n",
        b"data: null\n\n",
        b"data:\n\n",
    ],
)
async def test_a_heartbeat_is_neither_a_piece_nor_an_error(beat: bytes, stream: bool) -> None:
    async with raw_server(Script([beat, chunk("hel"), beat, chunk("lo", finish="stop"), beat, DONE])) as server:
        assert await ask_chat(server, stream) == "hello"


BEAT = b"event: ping\ndata: 17\n\n"


async def test_a_heartbeat_is_not_the_first_event() -> None:
    async with raw_server(Script([BEAT], end="stall")) as server:
        with pytest.raises(APITimeoutError, match=r"no event within 0\.1 s"):
            await ask_chat(server, True, timeout=Timeout(total=5, first_token=0.1))


@pytest.mark.parametrize("end", ["eof", "reset", "truncated_chunked"])
@pytest.mark.parametrize(
    "said", [[ROLE], [BEAT], [ROLE, BEAT, ROLE], [ROLE, data({"error": {"message": "busy", "code": 503}})]]
)
async def test_a_stream_that_broke_before_it_said_anything_is_tried_again(said: Sequence[bytes], end: End) -> None:
    async with raw_server(Script(said, end=end), Script([STREAM, DONE])) as server:
        retry = Retry(attempts=2, base=0.01)
        assert await ask_chat(server, True, retry=retry, limits=LEARNS_NOTHING) == "hello"
        assert len(server.requests) == 2


async def test_a_stream_that_said_something_is_not_tried_again() -> None:
    async with raw_server(Script([ROLE, chunk("hel")]), Script([STREAM, DONE])) as server:
        with pytest.raises(TruncatedStreamError) as cut:
            await ask_chat(server, True, retry=Retry(attempts=2))
        assert cut.value.partial.text == "hel"
        assert len(server.requests) == 1


async def test_a_stream_that_broke_before_it_said_anything_fails_over_and_gives_the_other_answer_alone() -> None:
    async with raw_server(Script([ROLE, CREATED])) as broken, raw_server(Script([STREAM, DONE])) as well:
        endpoints = [Endpoint(base_url=s.base_url, api_key="k", name=n) for s, n in ((broken, "a"), (well, "b"))]
        async with AsyncClient(endpoints=endpoints, timeout=5) as client:
            for _ in range(2):
                messages = [{"role": "user", "content": "hi"}]
                stream = await client.chat.completions.create(model="m", messages=messages, stream=True)
                assert len([piece async for piece in stream]) == 2
                assert stream.info.endpoint == "b"


async def test_a_reader_gets_a_stream_of_nothing_but_empty_pieces_in_the_end() -> None:
    async with raw_server(Script([ROLE * 150], end="stall")) as server, connect(server) as client:
        stream = await client.chat.completions.create(model="m", messages=[], stream=True)
        assert (await anext(stream)).choices[0].delta.content == ""
        await stream.close()


async def test_an_answer_that_was_not_to_be_streamed_is_not_bound_by_first_token() -> None:
    late = Script([b": working\n\n", STREAM, DONE])
    async with raw_server(late) as server:
        assert await ask_chat(server, False, timeout=Timeout(total=5, first_token=0.0001)) == "hello"


# Responses


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (response(), "completed"),
        (response() + b"\n\n" + DONE, "completed"),
        (response(None), "completed"),
        (response("incomplete"), "incomplete"),
        (response("succeeded"), "succeeded"),
        (CREATED + event("response.completed", response=json.loads(response())), "completed"),
        (event("keepalive") + event("response.completed", response=json.loads(response())) + DONE, "completed"),
        (data(json.loads(response())) + DONE, "completed"),
    ],
    ids=["json", "glued", "no-status", "incomplete", "own-word", "events", "keepalive", "json-in-an-event"],
)
async def test_a_response_is_read_by_its_bytes(body: bytes, status: str, stream: bool) -> None:
    for kind in (JSON, EVENTS, "text/plain", None):
        with case(kind):
            async with raw_server(Script([body], content_type=kind)) as server:
                assert await ask_response(server, stream) == ("hello", status)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    "body",
    [
        response("queued", None),
        response("in_progress"),
        response(None, None),
        b"{}",
        whole(),
        DONE,
        CREATED + DONE,
    ],
    ids=["queued", "in-progress", "nothing-but-an-id", "empty-object", "chat", "done", "created-done"],
)
async def test_what_is_not_done_or_no_response_is_no_answer(body: bytes, stream: bool) -> None:
    async with raw_server(Script([body])) as server:
        with pytest.raises(APIResponseValidationError):
            await ask_response(server, stream)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_in_the_background_a_queued_response_is_what_was_asked_for(stream: bool) -> None:
    async with raw_server(Script([response("queued", None)], content_type=JSON)) as server:
        assert await ask_response(server, stream, background=True) == ("", "queued")


@pytest.mark.parametrize("end", ["eof", "reset"])
async def test_a_response_that_broke_after_it_was_created_is_tried_again(end: End) -> None:
    good = CREATED + event("response.completed", response=json.loads(response()))
    item = {"type": "message", "id": "m", "role": "assistant", "content": []}
    begun = [CREATED, event("response.output_item.added", output_index=0, item=item)]
    async with raw_server(Script(begun, end=end), Script([good])) as server:
        async with connect(server, retry=Retry(attempts=2, base=0.01)) as client:
            stream = await client.responses.create(model="m", input="hi", stream=True)
            assert (await stream.collect()).output_text == "hello"
        assert len(server.requests) == 2


async def test_a_response_in_the_background_is_not_asked_for_twice() -> None:
    async with raw_server(Script([CREATED]), Script([CREATED])) as server:
        async with connect(server, retry=Retry(attempts=3, base=0.01)) as client:
            stream = await client.responses.create(model="m", input="hi", stream=True, background=True)
            with pytest.raises(TruncatedStreamError):
                await stream.collect()
        assert len(server.requests) == 1


# Framing


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize(
    "body",
    [
        STREAM + DONE,
        LINES,
        whole() + b"\n" + DONE,
        b"\xef\xbb\xbf" + LINES,
        whole() * 2,
        b": a\r\n\r\n:b\n\n" + whole(),
        b"\xef\xbb\xbf\n: a \n\n" + STREAM,
        b": a",
    ],
)
def test_framing_does_not_depend_on_how_a_body_is_cut(body: bytes, size: int) -> None:
    def read(pieces: Sequence[bytes]) -> list[bytes]:
        parser = Unframed(says_events=False)
        found = [one for piece in pieces for one in parser.read(piece)] + parser.end()
        return [data for one in found for data in (one.data if isinstance(one, Series) else [one.data])]

    assert read([body[i : i + size] for i in range(0, len(body), size)]) == read([body])


def test_a_json_value_that_is_not_valid_utf8_is_handed_on_as_it_came() -> None:
    parser = JsonParser()
    value = b'{"text": "\xed\xa0\xbd"}'
    assert parser.read(value) + parser.end() == [Series("message", [value])]


def test_a_json_value_of_many_lines_is_read_in_linear_time() -> None:
    parser = JsonParser()
    value = json.dumps({"a": ["x" * 50] * 20_000}, indent=0).encode()
    for at in range(0, len(value), 4096):
        assert parser.read(value[at : at + 4096]) == []
    (series,) = parser.end()
    assert series == Series("message", [value])
