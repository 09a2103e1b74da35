"""How streams end: each ending a server can make, on a real socket, whole and in every chunking."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any
from weakref import ref

import pytest

from aimlasync import (
    AimlasyncError,
    APIResponseValidationError,
    APIStatusError,
    APITimeoutError,
    AsyncClient,
    Retry,
    StreamError,
    Timeout,
    TruncatedStreamError,
)
from aimlasync.client.chat_stream import ChatStream
from aimlasync.responses.items import OutputMessage
from aimlasync.transport import AiohttpTransport
from aimlasync.wire.base import Unknown
from tests.support.servers import LEARNS_NOTHING, End, RawServer, Script, raw_server, soon_over, until

DONE = b"data: [DONE]\n\n"


def chunk(content: str | None = None, *, finish: str | None = None, **extra: Any) -> bytes:
    delta = {} if content is None else {"content": content}
    body = {"id": "c-7", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **extra}
    return b"data: %b\n\n" % json.dumps(body).encode()


def data(body: Any) -> bytes:
    return b"data: %b\n\n" % json.dumps(body).encode()


GOOD = (chunk("one "), chunk("two"), chunk(finish="stop"), DONE)


def connect(server: RawServer, **options: Any) -> AsyncClient:
    options.setdefault("retry", Retry(attempts=1))
    options.setdefault("timeout", Timeout(total=60, connect=60))
    return AsyncClient(api_key="k", base_url=server.base_url, **options)


async def open_chat(client: AsyncClient, **more: Any) -> ChatStream:
    asked: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **more}
    stream: ChatStream = await client.chat.completions.create(**asked, stream=True)
    return stream


async def read_chat(*chunks: bytes, end: End = "eof", **script: Any) -> tuple[str, AimlasyncError | None]:
    """Return the text that was delivered, and the error that ended it."""
    text = ""
    async with raw_server(Script(chunks, end=end, **script)) as server, connect(server) as client:
        try:
            stream = await open_chat(client)
            async for piece in stream.text:
                text += piece
            assert (await stream.collect()).text == text
        except AimlasyncError as error:
            assert client._pipeline.balancer.upstreams[0].limiter.in_flight == 0
            return text, error
        assert client._pipeline.balancer.upstreams[0].limiter.in_flight == 0
    return text, None


@pytest.mark.parametrize(
    ("chunks", "finish"),
    [
        (GOOD, "stop"),
        (GOOD[:-1], "stop"),
        ((*GOOD[:-1], data({"choices": [], "usage": {"total_tokens": 3}})), "stop"),
        ((chunk("one "), chunk("two"), data({"choices": [], "usage": {"total_tokens": 3}})), None),
        ((chunk("one "), chunk("two"), data({"meta": {"usage": {"usd_spent": 0.1, "credits_used": 2}}})), None),
        ((chunk("one "), chunk("two"), DONE), None),
        ((chunk("one "), chunk("two", finish="made_up_reason"), DONE), "made_up_reason"),
    ],
    ids=["done", "finish", "finish-usage", "usage-tail", "cost-tail", "done-only", "unknown-finish"],
)
async def test_every_terminal_mark_completes_the_answer(chunks: Sequence[bytes], finish: str | None) -> None:
    async with raw_server(Script(chunks)) as server, connect(server) as client:
        whole = await (await open_chat(client)).collect()
    assert whole.text == "one two"
    assert whole.choices[0].finish_reason == finish


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 10_000])
async def test_chunking_does_not_change_the_answer(size: int) -> None:
    body = b"".join([chunk("\u00e9\U0001f980 "), b": a comment\n\n", chunk("two"), chunk(finish="stop"), DONE])
    pieces = (
        [body[i : i + size] for i in range(0, len(body), size)]
        if size > 1
        else [body[:40]] + [body[i : i + 1] for i in range(40, 90)] + [body[90:]]
    )
    assert await read_chat(*pieces) == ("\u00e9\U0001f980 two", None)


@pytest.mark.parametrize("end", ["eof", "reset", "truncated_chunked"])
async def test_a_cut_before_the_end_is_never_a_success(end: End) -> None:
    text, error = await read_chat(chunk("one "), chunk("two"), end=end)
    assert text == "one two"
    assert isinstance(error, TruncatedStreamError)
    assert error.partial.text == "one two"
    assert error.retryable


async def test_a_reset_after_the_finish_reason_but_before_a_clean_end_is_a_cut() -> None:
    text, error = await read_chat(*GOOD[:-1], end="reset")
    assert (text, type(error)) == ("one two", TruncatedStreamError)


async def test_one_finished_choice_of_two_is_not_the_end() -> None:
    other = data({"choices": [{"index": 1, "delta": {"content": "b"}}]})
    async with raw_server(Script([chunk("a"), other, chunk(finish="stop")])) as server, connect(server) as client:
        with pytest.raises(TruncatedStreamError):
            await (await open_chat(client, n=2)).collect()


async def test_half_an_event_at_the_end_is_a_cut() -> None:
    _, error = await read_chat(chunk("one"), chunk("two")[:30])
    assert isinstance(error, TruncatedStreamError)
    assert error.partial.text == "one"


async def test_garbage_in_the_middle_is_named_and_what_came_before_is_kept() -> None:
    text, error = await read_chat(chunk("one"), b"data: {not json}\n\n", chunk("two"), DONE)
    assert text == "one"
    assert isinstance(error, APIResponseValidationError)
    assert error.raw == b"{not json}"
    assert error.partial.text == "one"


async def test_an_event_of_a_gateway_that_wraps_nothing_is_skipped() -> None:
    assert await read_chat(chunk("one"), b"data: data:\n\n", b"data: data: \n\n", chunk(finish="stop"), DONE) == (
        "one",
        None,
    )


@pytest.mark.parametrize(
    ("frame", "words", "retryable"),
    [
        (data({"error": {"message": "engine overloaded", "code": 503}}), "engine overloaded", True),
        (data({"error": "plain words"}), "plain words", True),
        (data({"error": {"message": "no", "type": "invalid_request_error"}, "choices": []}), "no", False),
        (data({"object": "error", "message": "worker died", "code": 500}), "worker died", True),
        (b'event: error\ndata: {"message": "over"}\n\n', "over", True),
        (chunk("x", finish="error"), "finish_reason 'error'", True),
        (data({"error": {"message": "You have insufficient_quota", "code": "insufficient_quota"}}), "quota", False),
    ],
)
async def test_an_error_object_in_the_stream_is_an_error(frame: bytes, words: str, retryable: bool) -> None:
    _, error = await read_chat(chunk("one"), frame, DONE)
    assert isinstance(error, StreamError)
    assert words in error.message
    assert error.retryable is retryable
    assert error.partial.text.startswith("one")


async def test_an_error_event_that_repeats_a_chunk_is_an_error() -> None:
    again = b"event: error\n" + chunk("one ")
    text, error = await read_chat(chunk("one "), chunk("one "), again, DONE)
    assert text == "one one "
    assert isinstance(error, StreamError)


async def iterated(pieces: AsyncIterator[Any]) -> None:
    async for _ in pieces:
        pass


async def read_at_once(stream: ChatStream) -> None:
    while await stream.read_some():
        pass


@pytest.mark.parametrize(
    "read_on",
    [iterated, lambda stream: iterated(stream.text), ChatStream.collect, read_at_once],
    ids=["pieces", "text", "whole", "reads"],
)
async def test_what_the_reader_of_a_stream_that_failed_held_is_free_when_it_has_ended(read_on: Any) -> None:
    class Held:
        pass

    async def read(client: AsyncClient) -> ref[Held]:
        held = Held()
        stream = await open_chat(client)
        for _ in range(2):
            with pytest.raises(TruncatedStreamError, match="ended before the answer did") as caught:
                await read_on(stream)
            assert caught.value.info is stream.info
            assert caught.value.partial is not None
            del caught
        return ref(held)

    async with raw_server(Script([chunk("a")])) as server, connect(server) as client:
        gc.collect()
        gc.disable()
        try:
            assert (await asyncio.create_task(read(client)))() is None
        finally:
            gc.enable()


async def test_all_of_a_read_is_delivered_before_the_error_that_came_with_it() -> None:
    text, error = await read_chat(b"".join([chunk("a")] * 99 + [data("no chunk")]), end="keep")
    assert text == "a" * 99
    assert isinstance(error, APIResponseValidationError)


async def test_a_cost_far_behind_the_end_is_still_the_answers() -> None:
    cost = data({"choices": [], "meta": {"usage": {"usd_spent": 0.5}}})
    body = b"".join([chunk("a"), chunk(finish="stop"), DONE, *[chunk("late")] * 99, cost])
    async with raw_server(Script([body], end="keep")) as server, connect(server) as client:
        whole = await (await open_chat(client)).collect()
    assert whole.text == "a"
    assert whole.info.cost_usd == 0.5


async def test_error_null_is_no_error() -> None:
    assert await read_chat(chunk("one", error=None), *GOOD[2:]) == ("one", None)


async def test_the_first_terminal_ends_the_stream_though_the_server_goes_on() -> None:
    assert await read_chat(*GOOD, chunk("again"), DONE) == ("one two", None)


async def test_a_stream_whose_socket_stays_open_after_done_ends_at_once() -> None:
    assert await read_chat(*GOOD, end="stall") == ("one two", None)


async def test_a_whole_json_answer_is_a_stream_of_one_piece() -> None:
    body = {
        "id": "x",
        "choices": [
            {
                "index": 0,
                "finish_reason": "tool_calls",
                "message": {
                    "content": "hello",
                    "tool_calls": [{"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                },
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }
    script = Script([json.dumps(body).encode()], content_type="application/json; charset=utf-8")
    async with raw_server(script) as server, connect(server) as client:
        whole = await (await open_chat(client)).collect()
    assert whole.text == "hello"
    assert whole.usage is not None
    assert whole.usage.total_tokens == 3
    assert whole.choices[0].message.tool_calls is not None
    assert whole.choices[0].message.tool_calls[0].function.name == "f"


async def test_a_stream_nobody_asked_for_is_still_the_answer() -> None:
    async with raw_server(Script(GOOD)) as server, connect(server) as client:
        reply = await client.chat.completions.create(model="m", messages=[])
    assert reply.text == "one two"


@pytest.mark.parametrize(
    ("content_type", "body", "kind"),
    [
        ("text/html", b"<html><title>Sorry</title><body>Bad gateway</body></html>", APIResponseValidationError),
        ("application/json", b'{"error": {"message": "no capacity", "code": 503}}', APIStatusError),
        ("application/json", b'{"detail": "hm"}', APIResponseValidationError),
        ("application/json", b"{", APIResponseValidationError),
    ],
)
async def test_what_is_no_stream_is_an_error_that_says_what_it_is(
    content_type: str, body: bytes, kind: type[AimlasyncError]
) -> None:
    _, error = await read_chat(body, content_type=content_type)
    assert isinstance(error, kind)
    assert error.info is not None
    assert error.info.status == 200


async def test_no_content_type_is_taken_for_a_stream() -> None:
    assert await read_chat(*GOOD, content_type=None) == ("one two", None)


async def test_a_compressed_stream_is_read() -> None:
    body = gzip.compress(b"".join(GOOD))
    assert await read_chat(body, headers=[("Content-Encoding", "gzip")]) == ("one two", None)


async def test_a_stream_is_asked_for_uncompressed() -> None:
    async with raw_server(Script(GOOD)) as server, connect(server) as client:
        await (await open_chat(client)).collect()
        head = server.requests[0].lower()
    assert b"accept-encoding: identity" in head
    assert b"text/event-stream" in head


async def test_silence_before_the_first_event_is_first_token() -> None:
    timeout = Timeout(total=5, first_token=0.05)
    async with raw_server(Script([b": ping\n\n"] * 3, end="stall")) as server:
        async with connect(server, timeout=timeout) as client:
            with pytest.raises(APITimeoutError) as caught:
                await open_chat(client)
    assert caught.value.phase == "first_token"


async def test_silence_before_the_headers_is_first_token_too() -> None:
    timeout = Timeout(total=5, first_token=0.05)
    async with raw_server(Script(head=b"", end="stall")) as server, connect(server, timeout=timeout) as client:
        with pytest.raises(APITimeoutError) as caught:
            await open_chat(client)
    assert caught.value.phase == "first_token"


async def test_silence_between_events_is_idle_and_comments_do_not_count() -> None:
    timeout = Timeout(total=5, first_token=1, idle=0.05)
    script = Script([chunk("one"), *[b": keep-alive\n\n"] * 40], end="stall")
    async with raw_server(script) as server, connect(server, timeout=timeout) as client:
        stream = await open_chat(client)
        with pytest.raises(APITimeoutError) as caught:
            await stream.collect()
    assert caught.value.phase == "idle"
    assert caught.value.partial.text == "one"


async def test_a_slow_reader_is_not_a_silent_server() -> None:
    timeout = Timeout(total=5, idle=0.03)
    async with raw_server(Script(GOOD)) as server, connect(server, timeout=timeout) as client:
        stream = await open_chat(client)
        text = ""
        async for piece in stream.text:
            await asyncio.sleep(0.05)
            text += piece
    assert text == "one two"


async def test_the_total_covers_the_stream() -> None:
    async with raw_server(Script([chunk("one")], end="stall")) as server:
        async with connect(server) as client:
            stream = await soon_over(lambda total: open_chat(client, timeout=Timeout(total=total, idle=None)))
            with pytest.raises(APITimeoutError) as caught:
                await stream.collect()
    assert caught.value.phase == "total"
    assert not caught.value.retryable


@pytest.mark.parametrize(
    "first",
    [
        Script([b": hello\n\n"], end="eof"),
        Script(end="reset"),
        Script([data({"error": {"message": "try again", "code": 500}})]),
        Script([b'{"error": {"message": "busy"}}'], status=503, content_type="application/json"),
    ],
    ids=["empty", "reset", "error-event", "503"],
)
async def test_a_failure_before_the_first_event_is_retried(first: Script) -> None:
    options = {"retry": Retry(attempts=2, base=0.001), "limits": LEARNS_NOTHING}
    async with raw_server(first, Script(GOOD)) as server, connect(server, **options) as client:
        whole = await (await open_chat(client)).collect()
        assert len(server.requests) == 2
    assert whole.text == "one two"
    assert whole.info.attempts == 2


async def test_a_failure_after_the_first_event_is_never_retried() -> None:
    retry = Retry(attempts=3, base=0.001)
    async with raw_server(Script([chunk("one")], end="reset")) as server, connect(server, retry=retry) as client:
        stream = await open_chat(client)
        with pytest.raises(TruncatedStreamError):
            await stream.collect()
        assert len(server.requests) == 1


def in_use(client: AsyncClient) -> int:
    """Connections that are not idle."""
    transport: Any = client._pipeline.enter()[1]
    if isinstance(transport, AiohttpTransport):
        return len(transport._session.connector._acquired)  # type: ignore[union-attr]
    return sum(connection.reply is not None for connection in transport.connections)


async def test_the_connection_is_used_again_after_a_stream() -> None:
    async with raw_server(Script(GOOD, end="keep")) as server, connect(server) as client:
        for _ in range(3):
            await (await open_chat(client)).collect()
            # The rest of the body, its last chunk, is read in the background before the connection goes back.
            await until(lambda: not in_use(client))
        assert server.connections == 1


async def test_leaving_the_block_drops_the_connection_and_the_permit() -> None:
    async with raw_server(Script([chunk("one")], end="stall")) as server, connect(server) as client:
        async with await open_chat(client) as stream:
            async for _ in stream:
                break
        assert client._pipeline.balancer.upstreams[0].limiter.in_flight == 0
        await until(lambda: server.open_connections == 0)
        with pytest.raises(AimlasyncError, match="closed"):
            await stream.collect()


async def test_a_stream_left_without_closing_gives_its_permit_back() -> None:
    async with raw_server(Script([chunk("one")], end="stall")) as server, connect(server) as client:
        async for _ in await open_chat(client):
            break
        gc.collect()
        await until(
            lambda: client._pipeline.balancer.upstreams[0].limiter.in_flight == 0 and server.open_connections == 0
        )


async def test_a_cancelled_read_gives_everything_back() -> None:
    async with raw_server(Script([chunk("one")], end="stall")) as server, connect(server) as client:
        stream = await open_chat(client)
        task = asyncio.create_task(stream.collect())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert client._pipeline.balancer.upstreams[0].limiter.in_flight == 0
        with pytest.raises(AimlasyncError, match="a read of the stream was cancelled, which closed it"):
            await stream.collect()
        await until(lambda: server.open_connections == 0)


async def test_cost_and_usage_of_the_tail_are_in_the_answer() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    tail = (
        data({"choices": [], "usage": usage}),
        data({"meta": {"usage": {"credits_used": 2480, "usd_spent": 0.00124}}}),
    )
    async with raw_server(Script([*GOOD[:-1], *tail, DONE])) as server, connect(server) as client:
        whole = await (await open_chat(client)).collect()
    assert whole.usage is not None
    assert whole.usage.total_tokens == 7
    assert (whole.info.cost_usd, whole.info.credits) == (0.00124, 2480)
    assert whole.info.timing.total is not None


async def test_a_cost_that_nobody_stated_is_none() -> None:
    async with raw_server(Script(GOOD)) as server, connect(server) as client:
        whole = await (await open_chat(client)).collect()
    assert whole.info.cost_usd is None


# Responses


def event(kind: str, **fields: Any) -> bytes:
    body = {"type": kind, "sequence_number": 1, **fields}
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), json.dumps(body).encode())


def response(**fields: Any) -> dict[str, Any]:
    return {"id": "r-1", "object": "response", "created_at": 5, "model": "m", "output": [], **fields}


def said(text: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"type": "message", "id": "i-1", "role": "assistant", "status": "completed", "content": content}


CREATED = event("response.created", response=response(status="in_progress"))
DELTAS = (
    event("response.output_text.delta", output_index=0, content_index=0, item_id="i-1", delta="one "),
    event("response.output_text.delta", output_index=0, content_index=0, item_id="i-1", delta="two"),
)
COMPLETED = event("response.completed", response=response(status="completed", output=[said("one two")]))


async def read_response(*chunks: bytes, end: End = "eof") -> tuple[str, Any, AimlasyncError | None]:
    text = ""
    async with raw_server(Script(chunks, end=end)) as server, connect(server) as client:
        stream = await client.responses.create(model="m", input="hi", stream=True)
        try:
            async for piece in stream.text:
                text += piece
            return text, await stream.collect(), None
        except AimlasyncError as error:
            return text, None, error


@pytest.mark.parametrize("tail", [(), (DONE,), (data({"meta": {"usage": {"usd_spent": 0.5}}}),)])
async def test_a_completed_run_is_complete_with_or_without_done(tail: Sequence[bytes]) -> None:
    text, whole, error = await read_response(CREATED, *DELTAS, COMPLETED, *tail)
    assert error is None
    assert text == whole.output_text == "one two"
    assert whole.status == "completed"


async def test_an_incomplete_run_is_an_answer_that_says_so() -> None:
    cut = response(status="incomplete", incomplete_details={"reason": "max_output_tokens"}, output=[said("one two")])
    _, whole, error = await read_response(CREATED, *DELTAS, event("response.incomplete", response=cut))
    assert error is None
    assert whole.truncated


async def test_a_failed_run_is_an_error_with_what_it_had_said() -> None:
    failed = response(status="failed", error={"code": "server_error", "message": "gave up"})
    text, _, error = await read_response(CREATED, *DELTAS, event("response.failed", response=failed))
    assert text == "one two"
    assert isinstance(error, StreamError)
    assert "gave up" in error.message
    assert error.code == "server_error"


@pytest.mark.parametrize(
    "fields",
    [
        {"code": "server_error", "message": "gave up", "param": None},
        {"error": {"code": "server_error", "message": "gave up", "param": None}},
        {"code": 500, "message": "gave up"},
    ],
)
async def test_an_error_event_flat_or_nested_is_an_error(fields: dict[str, Any]) -> None:
    _, _, error = await read_response(CREATED, DELTAS[0], event("error", **fields))
    assert isinstance(error, StreamError)
    assert "gave up" in error.message
    assert isinstance(error.partial.output[0], OutputMessage)


async def test_a_run_without_its_terminal_event_is_a_cut_with_the_text_so_far() -> None:
    text, _, error = await read_response(CREATED, *DELTAS)
    assert text == "one two"
    assert isinstance(error, TruncatedStreamError)
    assert error.partial.output_text == "one two"


async def test_an_event_of_a_new_type_is_delivered_as_it_came() -> None:
    strange = event("response.brand_new", surprise=[1])
    async with raw_server(Script([CREATED, strange, COMPLETED])) as server, connect(server) as client:
        pieces = [piece async for piece in await client.responses.create(model="m", input="hi", stream=True)]
    assert isinstance(pieces[1], Unknown)
    unknown: Unknown = pieces[1]
    assert unknown.type == "response.brand_new"
    assert unknown.to_dict()["surprise"] == [1]


async def test_a_completed_event_with_empty_output_keeps_what_was_streamed() -> None:
    empty = event("response.completed", response=response(status="completed"))
    _, whole, error = await read_response(CREATED, *DELTAS, empty)
    assert error is None
    assert whole.output_text == "one two"


async def test_a_whole_response_answers_a_streamed_call() -> None:
    body = json.dumps(response(output=[said("one two")], status="completed")).encode()
    async with raw_server(Script([body], content_type="application/json")) as server, connect(server) as client:
        stream = await client.responses.create(model="m", input="hi", stream=True)
        assert "".join([text async for text in stream.text]) == "one two"
        assert (await stream.collect()).output_text == "one two"


@pytest.mark.parametrize("named", [True, False])
async def test_events_that_come_together_are_the_same_as_one_by_one(named: bool) -> None:
    kinds = ["response.output_text.delta", "response.refusal.delta", "response.function_call_arguments.delta"]
    bodies: list[dict[str, Any]] = [{"type": "response.created", "response": {"id": "r", "status": "in_progress"}}]
    bodies += [{"type": kinds[0], "output_index": 0, "content_index": 0, "delta": f"{at} "} for at in range(70)]
    bodies += [{"type": kind, "output_index": 1, "content_index": 0, "delta": "x"} for kind in kinds]
    bodies += [{"type": kinds[0], "delta": 1, "more": [2]}, {"type": "response.new", "x": 1}, {"type": kinds[0]}]
    bodies += [{"type": "response.completed", "response": {"id": "r", "status": "completed", "output": []}}]
    events = [
        (b"event: %b\n" % body["type"].encode() if named else b"") + data({**body, "sequence_number": at})
        for at, body in enumerate(bodies)
    ]
    read = []
    for chunks in (events, [b"".join(events)]):
        async with raw_server(Script(chunks)) as server, connect(server) as client:
            stream = await client.responses.create(model="m", input="hi", stream=True)
            pieces = [(type(piece), piece.to_dict(), piece.raw) async for piece in stream]
            read.append((pieces, stream.sequence_number, (await stream.collect()).to_dict()))
    assert read[0] == read[1]
    assert len(read[0][0]) == len(bodies)
    assert read[0][1] == len(bodies) - 1
