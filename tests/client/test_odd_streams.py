"""Streams that end as public bug reports tell: which of them are whole, and what is told of those that are not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aimlasync import APIResponseValidationError, Retry, StreamError, TruncatedStreamError
from aimlasync.chat.chunks import decode_chunk
from aimlasync.chat.types import decode_completion
from aimlasync.responses.events import decode_event
from aimlasync.wire.base import encode
from tests.client.test_endings import CREATED, event
from tests.client.test_stream import DONE, GOOD, chunk, connect, data, open_chat, read_chat
from tests.support.servers import Script, raw_server

# Words that serialisers write where there is no reason.
UNSAID = ["", "null", "None", "FINISH_REASON_UNSPECIFIED"]


@pytest.mark.parametrize("word", UNSAID)
async def test_a_reason_that_is_none_ends_no_answer(word: str) -> None:
    cut = (chunk("one ", finish=word), chunk("two", finish=word))
    text, error = await read_chat(*cut)
    assert (text, type(error)) == ("one two", TruncatedStreamError)
    assert await read_chat(*cut, chunk(finish="stop")) == ("one two", None)


@pytest.mark.parametrize("word", UNSAID)
async def test_a_reason_that_is_none_says_nothing(word: str) -> None:
    text, error = await read_chat(chunk(finish=word), DONE)
    assert (text, "says nothing" in str(error)) == ("", True)


@pytest.mark.parametrize("word", UNSAID)
@pytest.mark.parametrize("more", [{}, {"unheard_of": 1}])
def test_a_reason_that_is_none_is_sent_on_as_it_came(word: str, more: dict[str, Any]) -> None:
    for part, decode in (("delta", decode_chunk), ("message", decode_completion)):
        choice = {"index": 0, part: {"content": "hi"}, "finish_reason": word, **more}
        said = decode(json.dumps({"choices": [choice]}).encode())
        assert said.choices[0].finish_reason is None
        assert said.to_dict()["choices"] == [choice]


@pytest.mark.parametrize(
    "mark", [b'data: "[DONE]"\n\n', b"data: '[DONE]'\n\n", b"data: [done]\n\n", b'data: " [DONE] "\n\n']
)
async def test_the_mark_of_the_end_is_one_in_quotes_too(mark: bytes) -> None:
    assert await read_chat(chunk("one"), chunk(finish="stop"), mark) == ("one", None)
    assert await read_chat(chunk("one"), mark) == ("one", None)


async def test_nothing_behind_a_whole_answer_costs_it() -> None:
    junk = b"data: true\n\ndata: bye\n\n"
    usage = data({"choices": [], "usage": {"total_tokens": 7}})
    async with raw_server(Script([*GOOD[:3], junk, usage, DONE])) as server, connect(server) as client:
        whole = await (await open_chat(client)).collect()
    assert (whole.text, whole.usage and whole.usage.total_tokens) == ("one two", 7)
    text, error = await read_chat(chunk("one"), junk)
    assert (text, type(error)) == ("one", APIResponseValidationError)


@pytest.mark.parametrize(
    "failure",
    [
        {"code": "InternalError.Algo", "message": "it broke", "request_id": "r"},
        {"detail": "it broke"},
        {"id": "c-7", "choices": None, "base_resp": {"status_code": 1000, "status_msg": "it broke"}},
        {"object": "chat.completion.chunk", "choices": [], "message": "it broke"},
        {"text": "it broke", "error_code": 50001},
        {"modelStreamErrorException": {"message": "it broke", "originalStatusCode": 500}},
        {"fault": {"faultstring": "it broke", "detail": {"errorcode": "policies.ratelimit.QuotaViolation"}}},
    ],
)
async def test_a_failure_by_any_name_is_one_with_the_mark_of_the_end_behind_it(failure: dict[str, Any]) -> None:
    text, error = await read_chat(chunk("one"), data(failure), DONE)
    assert (text, type(error), "it broke" in str(error)) == ("one", StreamError, True)
    assert isinstance(error, StreamError)
    assert (error.partial.text, error.body) == ("one", failure)
    # Words before and behind the answer are none.
    assert await read_chat(data({"message": "wait"}), chunk("one"), DONE) == ("one", None)
    assert await read_chat(*GOOD[:3], data(failure), DONE) == ("one two", None)


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (b"context deadline exceeded\n", ": context deadline exceeded"),
        (b"<html><body>502 Bad Gateway</body></html>", ": 502 Bad Gateway"),
        (b'data: {"id": "c-7", "choi', "did"),
        (b": waiting", "did"),
    ],
)
async def test_words_that_end_a_stream_are_told(last: bytes, words: str) -> None:
    text, error = await read_chat(chunk("one"), last)
    assert (text, type(error)) == ("one", TruncatedStreamError)
    assert str(error).endswith(words)


@pytest.mark.parametrize("kind", ["message_stop", "response.completed"])
async def test_a_stream_of_another_api_is_told(kind: str) -> None:
    text, error = await read_chat(
        data({"type": "message_start"}), b"event: %b\n%b" % (kind.encode(), data({"type": kind}))
    )
    assert (text, type(error)) == ("", TruncatedStreamError)
    assert str(error).endswith(f": its last event, {kind}, is none of chat/completions")


@pytest.mark.parametrize("kind", ["message_stop", "response.completed", "status"])
async def test_a_whole_answer_of_another_api_is_paid_once(kind: str) -> None:
    script = Script([data({"type": "message_start"}), data({"type": kind})])
    async with raw_server(script) as server, connect(server, retry=Retry(attempts=2, base=0.01)) as client:
        with pytest.raises(TruncatedStreamError):
            await client.chat.completions.create(model="m", messages=[], stream=True)
        # What is only said beside an answer may come before one the next time.
        assert len(server.requests) == (2 if kind == "status" else 1)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_body_that_is_no_answer_is_told_by_its_first_words(stream: bool) -> None:
    body = b'{"candidates": [{"content": {"parts": [{"text": "hi"}]}}]}'
    async with raw_server(Script([body], content_type="application/json", end="keep")) as server:
        async with connect(server) as client:
            with pytest.raises(APIResponseValidationError, match=r'has no choices: {"candidates": ') as caught:
                await client.chat.completions.create(model="m", messages=[], stream=stream)
            with pytest.raises(APIResponseValidationError, match=r'a list of items: {"candidates": '):
                await client.responses.create(model="m", input="hi", stream=stream)
    assert caught.value.raw == body


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("body", [b"", b'{"status": "pending-evaluation"}'])
async def test_a_request_that_is_answered_elsewhere_is_not_sent_again(body: bytes, stream: bool) -> None:
    script = Script([body] if body else [], status=202, content_type="application/json", end="keep")
    async with raw_server(script) as server, connect(server, retry=Retry(attempts=3, base=0.01)) as client:
        with pytest.raises(APIResponseValidationError, match=r"HTTP 202 .*the server took the request"):
            await client.chat.completions.create(model="m", messages=[], stream=stream)
        assert len(server.requests) == 1


async def test_a_response_that_failed_is_no_answer_by_whatever_event_it_ends() -> None:
    error = {"code": "server_error", "message": "boom"}
    for end in ("response.failed", "response.completed", "response.done"):
        failed = event(end, response={"id": "r", "status": "failed", "output": [], "error": error})
        delta = event("response.output_text.delta", output_index=0, delta="hello")
        async with raw_server(Script([CREATED, delta, failed])) as server, connect(server) as client:
            stream = await client.responses.create(model="m", input="hi", stream=True)
            with pytest.raises(StreamError, match="boom") as caught:
                await stream.collect()
        assert (caught.value.code, caught.value.partial.output_text) == ("server_error", "hello")


async def test_why_a_response_failed_is_told_where_only_its_details_say_it() -> None:
    details = {"id": "r", "status": "failed", "output": [], "incomplete_details": {"reason": "content_filter"}}
    delta = event("response.output_text.delta", output_index=0, delta="hello")
    async with raw_server(Script([CREATED, delta, event("response.failed", response=details)])) as server:
        async with connect(server) as client:
            stream = await client.responses.create(model="m", input="hi", stream=True)
            with pytest.raises(StreamError, match="content_filter") as caught:
                await stream.collect()
    assert (caught.value.code, caught.value.retryable) == ("content_filter", False)


@pytest.mark.parametrize(
    "said",
    [
        {"type": "response.shell_call_output_content.done", "output": [{"stdout": "x", "stderr": ""}]},
        {"type": "response.shell_call.failed", "error": {"message": "no such container"}},
        {"type": "", "object": "response", "output": []},
    ],
)
async def test_what_is_said_of_an_item_ends_no_response(said: dict[str, Any]) -> None:
    # The output of a hosted shell (vercel/ai has such a stream of OpenAI's).
    whole = {"id": "r", "status": "completed", "output": [{"type": "message", "content": "It ran."}]}
    for place in ({"output_index": 0}, {"item_id": "sh_1"}):
        script = Script([CREATED, data({**said, **place}), event("response.completed", response=whole)])
        async with raw_server(script) as server, connect(server) as client:
            stream = await client.responses.create(model="m", input="hi", stream=True)
            reply = await stream.collect()
        assert (reply.id, reply.status, reply.output_text) == ("r", "completed", "It ran.")
    # Fields without a value are about no item.
    failed = data({"type": "response.error", "error": {"message": "boom"}, "output_index": None, "item_id": None})
    async with raw_server(Script([CREATED, failed])) as server, connect(server) as client:
        with pytest.raises(StreamError, match="boom"):
            await (await client.responses.create(model="m", input="hi", stream=True)).collect()


@pytest.mark.parametrize("kind", ["completed", "incomplete", "failed"])
def test_an_end_counts_more_than_the_status_of_the_beginning(kind: str) -> None:
    for status in ({}, {"status": None}, {"status": "in_progress"}, {"status": "queued"}):
        ended: Any = decode_event(encode({"type": f"response.{kind}", "response": {"id": "r", **status}}))
        assert (ended.response.status, ended.response.is_done) == (kind, True)
    kept: Any = decode_event(encode({"type": f"response.{kind}", "response": {"id": "r", "status": "cancelled"}}))
    assert kept.response.status == "cancelled"


async def test_a_stream_that_groq_stopped_early_is_no_answer() -> None:
    stopped = chunk(x_groq={"id": "req_1", "error": "over capacity, try again in 3s"})
    text, error = await read_chat(chunk("one", x_groq={"id": "req_1"}), stopped, DONE)
    assert (text, type(error)) == ("one", StreamError)
    assert "over capacity" in str(error)
    assert isinstance(error, StreamError)
    assert (error.retry_after, error.partial.x_groq) == (3, {"id": "req_1"})


async def test_the_block_of_groq_is_in_the_whole_answer() -> None:
    usage = {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}
    last = chunk(finish="stop", x_groq={"seed": 5, "error": None, "usage": usage})
    async with raw_server(Script([chunk("one", x_groq={"id": "req_1"}), last, DONE])) as server:
        async with connect(server) as client:
            whole = await (await open_chat(client)).collect()
    assert whole.to_dict()["x_groq"] == {"id": "req_1", "seed": 5, "error": None, "usage": usage}
    assert whole.usage is not None
    assert whole.usage.total_tokens == 3


@pytest.mark.parametrize("finish", [None, "stop", "error"])
async def test_an_error_in_a_choice_is_one_whatever_its_finish_reason(finish: str | None) -> None:
    error = {"code": 502, "message": "upstream died"}
    failed = data({"id": "c-7", "choices": [{"index": 0, "delta": {}, "finish_reason": finish, "error": error}]})
    text, raised = await read_chat(chunk("one"), failed, DONE)
    assert (text, type(raised)) == ("one", StreamError)
    assert isinstance(raised, StreamError)
    assert (raised.code, raised.retryable, raised.partial.text) == ("502", True, "one")
    # Before anything was said, the call is tried again.
    async with raw_server(Script([failed, DONE]), Script(GOOD)) as server:
        async with connect(server, retry=Retry(attempts=2, base=0.01)) as client:
            assert (await (await open_chat(client)).collect()).text == "one two"
        assert len(server.requests) == 2


async def test_no_error_in_a_choice_is_none() -> None:
    nothing: Any
    for nothing in (None, "", {}, False):
        fine = data({"choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop", "error": nothing}]})
        assert await read_chat(fine, DONE) == ("hi", None)


async def test_a_response_that_runs_on_is_told_with_what_waits_for_it() -> None:
    running = json.dumps({"id": "resp_7", "object": "response", "status": "in_progress", "output": []}).encode()
    async with raw_server(Script([running], content_type="application/json")) as server, connect(server) as client:
        for stream in (False, True):
            with pytest.raises(APIResponseValidationError, match=r"in_progress, not done; .*wait\('resp_7'\) waits"):
                await client.responses.create(model="m", input="hi", stream=stream)


@pytest.mark.parametrize(
    ("said", "code", "retryable"),
    [
        # DashScope, and a gateway.
        (
            {"code": "DataInspectionFailed", "message": "it may contain inappropriate content"},
            "DataInspectionFailed",
            False,
        ),
        ({"code": "InternalError.Algo", "message": "it broke", "request_id": "r"}, "InternalError.Algo", True),
        ({"detail": "busy, try again in 2s"}, None, True),
    ],
)
async def test_a_failure_in_place_of_an_answer_is_told_by_all_that_it_says(
    said: dict[str, Any], code: str | None, retryable: bool
) -> None:
    text, error = await read_chat(data(said))
    assert (text, type(error)) == ("", StreamError)
    assert isinstance(error, StreamError)
    assert (error.code, error.retryable, error.body) == (code, retryable, said)
    assert error.retry_after == (2 if "detail" in said else None)


async def test_what_the_last_chunk_alone_says_of_the_answer_is_kept() -> None:
    said: dict[str, Any] = {"model": "m-7", "created": 7, "service_tier": "flex", "system_fingerprint": "fp"}
    for last in (chunk(finish="stop", **said), chunk(finish="stop") + data({"choices": [], "usage": None, **said})):
        async with raw_server(Script([chunk("one"), last, DONE])) as server, connect(server) as client:
            whole = (await (await open_chat(client)).collect()).to_dict()
        assert {name: whole.get(name) for name in said} == said


@pytest.mark.parametrize(
    "end", [(DONE,), (data({"choices": [], "usage": {"total_tokens": 7}}),)], ids=["mark", "usage"]
)
async def test_half_a_tool_call_without_a_reason_to_finish_is_no_answer(end: tuple[bytes, ...]) -> None:
    def calls(arguments: str, finish: str | None = None) -> bytes:
        call = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}
        return data({"id": "c-7", "choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": finish}]})

    for half in ('{"a": ', '{"a": {}', " {"):
        _, error = await read_chat(calls(half), *end)
        assert isinstance(error, TruncatedStreamError)
        (call,) = error.partial.choices[0].message.tool_calls
        assert call.function.arguments == half
        # The server says how it ended, and that is told with the answer.
        assert await read_chat(calls(half, "length"), *end) == ("", None)
    for whole in ('{"a": 1}', "{}", "", "none"):
        assert await read_chat(calls(whole), *end) == ("", None)


PART = {"type": "output_text", "text": "42", "annotations": []}
WHOLE_ITEM = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [PART]}


@pytest.mark.parametrize(
    "said",
    [
        [("output_text.done", {"text": "42"})],
        [("content_part.done", {"part": PART})],
        [("content_part.added", {"part": PART}), ("output_text.done", {"text": "42"})],
        [("output_item.done", {"item": WHOLE_ITEM})],
        [("output_item.added", {"item": WHOLE_ITEM}), ("output_item.done", {"item": WHOLE_ITEM})],
        [("output_text.delta", {"delta": "4", "content_index": 1}), ("output_text.delta", {"delta": "2"})],
        [("content_part.added", {"part": PART}), ("output_text.delta", {"delta": "42"})],
        [("output_item.added", {"item": WHOLE_ITEM}), ("output_text.delta", {"delta": "42"})],
        [],
    ],
    ids=lambda said: " ".join(kind for kind, _ in said) or "completed",
)
async def test_a_text_that_comes_whole_is_in_the_text_once(said: list[Any]) -> None:
    # gemini-web2api#57: created, output_text.done, completed.
    ends = [("output_text.done", {"text": "42"}), ("content_part.done", {"part": PART})]
    ends.append(("output_item.done", {"item": WHOLE_ITEM}))
    end = event("response.completed", response={"id": "r", "status": "completed", "output": [WHOLE_ITEM]})
    for more in ([], ends if said else []):
        events = [event(f"response.{kind}", **{"output_index": 0, **fields}) for kind, fields in (*said, *more)]
        async with raw_server(Script([CREATED, *events, end])) as server, connect(server) as client:
            stream = await client.responses.create(model="m", input="hi", stream=True)
            assert "".join([text async for text in stream.text]) == "42"
            assert (await stream.collect()).output_text == "42"
            # What the server sent, and nothing else.
            stream = await client.responses.create(model="m", input="hi", stream=True)
            assert len([piece async for piece in stream]) == len(events) + 2


async def test_whole_messages_under_one_index_are_all_in_the_text() -> None:
    items = [{**WHOLE_ITEM, "id": f"m{n}", "content": [{**PART, "text": f"{n}, "}]} for n in range(3)]
    events = [event("response.output_item.done", output_index=0, item=item) for item in items]
    end = event("response.completed", response={"id": "r", "status": "completed", "output": []})
    async with raw_server(Script([CREATED, *events, end])) as server, connect(server) as client:
        stream = await client.responses.create(model="m", input="hi", stream=True)
        assert [text async for text in stream.text] == ["0, ", "1, ", "2, "]
        assert (await stream.collect()).output_text == "0, 1, 2, "


async def test_the_rest_of_a_stored_stream_says_no_text_again() -> None:
    end = event("response.completed", response={"id": "r", "status": "completed", "output": [WHOLE_ITEM]})
    async with raw_server(Script([end])) as server, connect(server) as client:
        stream = await client.responses.retrieve("r", stream=True, starting_after=9)
        assert [text async for text in stream.text] == []
        assert (await stream.collect()).output_text == "42"


@pytest.mark.parametrize("beat", ["[]", '""', "5", "1718000000.5", "true"])
async def test_a_value_that_says_nothing_is_a_sign_of_life(beat: str) -> None:
    said = f"data: {beat}\n\n".encode()
    assert await read_chat(said, chunk("one "), said, chunk("two"), said, chunk(finish="stop"), DONE) == (
        "one two",
        None,
    )
    text, error = await read_chat(chunk("one"), said)
    assert (text, type(error)) == ("one", TruncatedStreamError)
    # Words are told.
    text, error = await read_chat(chunk("one"), b'data: "no more"\n\n', chunk("two"))
    assert (text, "no more" in str(error)) == ("one", True)


@pytest.mark.parametrize("split", [False, True], ids=["in one read", "in many"])
@pytest.mark.parametrize(("first", "second"), [(r"\ud83d", r"\ude00"), (r"\uD83D", r"\uDE00")])
async def test_a_character_of_which_two_pieces_have_a_half_each_is_whole(first: str, second: str, split: bool) -> None:
    # Gateways that count in UTF-16 cut there.
    def pieces(text: str) -> list[bytes]:
        # A backslash that stands for itself begins no escape.
        texts = ["one", rf"\\ud83d{first}", rf"{second}!", rf"{first}{second}", rf"\\{first}x", f"{second}"]
        return [text.replace("TEXT", each).encode() for each in texts]

    call = '{"index": 0, "id": "c", "function": {"name": "f", "arguments": "TEXT"}}'
    delta = f'{{"content": "TEXT", "reasoning_content": "TEXT", "tool_calls": [{call}]}}'
    chunks = pieces(f'data: {{"choices": [{{"index": 0, "delta": {delta}}}]}}\n\n')
    event = '{"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "TEXT"}'
    end = {"type": "response.completed", "response": {"id": "r", "status": "completed", "output": []}}
    chat = [*chunks, data({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}), DONE]
    said = [*pieces(f"data: {event}\n\n"), data(end)]
    whole = "one\\ud83d😀!😀\\\ufffdx\ufffd"
    for script in (chat, said):
        async with raw_server(Script(script if split else [b"".join(script)])) as server, connect(server) as client:
            if script is chat:
                stream: Any = await open_chat(client)
            else:
                stream = await client.responses.create(model="m", input="hi", stream=True)
            assert "".join([piece async for piece in stream.text]) == whole
            reply = await stream.collect()
            if script is said:
                assert reply.output_text == whole
            else:
                message = reply.choices[0].message
                assert (message.content, message.reasoning_content) == (whole, whole)
                assert message.tool_calls[0].function.arguments == whole
