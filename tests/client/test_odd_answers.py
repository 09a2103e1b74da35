"""What servers and gateways send beside the protocol, as public bug reports tell it, and what a caller is owed."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from aimlasync import (
    AimlasyncError,
    APIResponseValidationError,
    AuthenticationError,
    InsufficientCreditError,
    RateLimitError,
    Retry,
    StreamError,
    TruncatedStreamError,
)
from aimlasync.client.response_stream import ResponseStream
from aimlasync.endpoints.ratelimit_headers import read
from aimlasync.wire.error_bodies import status_error, stream_error
from tests.client.test_endings import CREATED, EVENTS, JSON, ask_chat, event, response, whole
from tests.client.test_stream import DONE, chunk, connect, data
from tests.support.servers import LEARNS_NOTHING, Script, raw_server

ENDED = "response.completed"


@pytest.mark.parametrize("body", [b": waiting\n\n", b": waiting\n\n: wai", b": wai"])
async def test_nothing_but_comments_is_a_cut_stream_whatever_its_type(body: bytes) -> None:
    for kind in (JSON, EVENTS, None):
        async with raw_server(Script([body], content_type=kind)) as server:
            with pytest.raises(TruncatedStreamError, match="ended before its first event"):
                await ask_chat(server, False)


async def test_a_response_that_met_a_limit_before_it_said_anything_is_tried_again() -> None:
    error = {"code": "rate_limit_exceeded", "message": "Please retry after 0.01 seconds."}
    failed = event("response.failed", response={"status": "failed", "error": error})
    good = CREATED + event("response.completed", response=json.loads(response()))
    async with raw_server(Script([CREATED, failed]), Script([good]), Script([failed])) as server:
        async with connect(server, retry=Retry(attempts=2, base=0.01), limits=LEARNS_NOTHING) as client:
            stream = await client.responses.create(model="m", input="hi", stream=True)
            assert (await stream.collect()).output_text == "hello"
            with pytest.raises(StreamError, match="Please retry") as caught:
                await client.responses.create(model="m", input="hi", stream=True)
        assert (caught.value.code, len(server.requests)) == ("rate_limit_exceeded", 4)


async def test_the_name_of_an_event_is_its_type_where_its_data_has_none() -> None:
    item = {"type": "message", "id": "m", "role": "assistant", "content": []}
    events = {
        "response.created": {"response": {"id": "r", "status": "in_progress"}},
        "response.output_item.added": {"output_index": 0, "item": item},
        "response.output_text.delta": {"output_index": 0, "delta": "hello", "type": None},
        "response.completed": {"response": {"id": "r", "status": "completed", "output": []}},
    }
    body = b"".join(b"event: %b\n%b" % (kind.encode(), data(said)) for kind, said in events.items())
    async with raw_server(Script([body])) as server, connect(server) as client:
        stream = await client.responses.create(model="m", input="hi", stream=True)
        assert [piece.type async for piece in stream] == list(events)
        assert (await stream.collect()).output_text == "hello"


@pytest.mark.parametrize("is_part", [False, True], ids=["text", "part"])
@pytest.mark.parametrize("kind", ["response.content_part.delta", "response.text.delta"])
async def test_pieces_of_a_text_by_another_name_are_its_text_as_they_come(kind: str, is_part: bool) -> None:
    # OpenRouter's documentation; some servers have a part of a content in each.
    said = [{"type": "output_text", "text": text} if is_part else text for text in ("hel", "lo")]
    begun = [CREATED, *(event(kind, item_id="m", output_index=0, content_index=0, delta=delta) for delta in said)]
    begun.insert(1, event("response.content_part.delta", output_index=0, delta={"type": "thought", "text": "hm"}))
    end = event(ENDED, response={"id": "r", "status": "completed", "output": []})
    lines = b"\n".join(each.partition(b"data: ")[2].strip() for each in begun[1:])
    whole, cut = Script([*begun, end]), (Script(begun), Script([lines], content_type=JSON))
    async with raw_server(whole, whole, *cut) as server, connect(server) as client:
        stream = await client.responses.create(model="m", input="hi", stream=True)
        assert [piece async for piece in stream.text] == ["hel", "lo"]
        assert (await stream.collect()).output_text == "hello"
        stream = await client.responses.create(model="m", input="hi", stream=True)
        assert [piece.to_dict().get("delta") async for piece in stream if piece.type == kind][-2:] == said
        for _ in cut:
            with pytest.raises(TruncatedStreamError) as caught:
                await (await client.responses.create(model="m", input="hi", stream=True)).collect()
            assert caught.value.partial.output_text == "hello"


@pytest.mark.parametrize("kind", ["reasoning", "reasoning_summary"])
async def test_pieces_of_reasoning_by_another_name_are_in_the_response(kind: str) -> None:
    pieces = [event(f"response.{kind}.delta", output_index=0, delta={"text": text}) for text in ("so", " on")]
    end = event(ENDED, response={"id": "r", "status": "completed", "output": []})
    text = event("response.output_text.delta", output_index=1, delta="hello")
    async with raw_server(Script([CREATED, *pieces, text, end])) as server, connect(server) as client:
        stream = await client.responses.create(model="m", input="hi", stream=True)
        assert [piece async for piece in stream.text] == ["hello"]
        thought, said = (await stream.collect()).to_dict()["output"]
        assert (thought["type"], said["type"]) == ("reasoning", "message")
        parts = thought["summary"] if kind == "reasoning_summary" else thought["content"]
        assert [part["text"] for part in parts] == ["so on"]


@pytest.mark.parametrize("status", ["completed", "incomplete", "cancelled", "failed", "in_progress"])
async def test_an_end_of_a_response_by_another_name_is_one_by_its_status(status: str) -> None:
    begun = [CREATED, event("response.output_text.delta", output_index=0, delta="hello")]
    error = {"code": "server_error", "message": "boom"} if status == "failed" else None
    end = event("response.done", response={"id": "r", "status": status, "output": [], "error": error})
    async with raw_server(Script([*begun, end])) as server, connect(server, retry=Retry(attempts=1)) as client:
        stream = await client.responses.create(model="m", input="hi", stream=True)
        if status in ("failed", "in_progress"):
            kind, words = (StreamError, "boom") if error else (TruncatedStreamError, "ended before the answer did")
            with pytest.raises(kind, match=words):
                await stream.collect()
        else:
            whole = await stream.collect()
            assert (whole.output_text, whole.status, whole.id) == ("hello", status, "r")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("end", [{}, {"message": {}}, {"delta": {}}], ids=["together", "message", "delta"])
async def test_pieces_of_messages_in_place_of_deltas_are_one_answer(end: dict[str, Any], stream: bool) -> None:
    first = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "h"}}]}
    more = [{"choices": [{"index": 0, "message": {"content": text}}]} for text in ("e", "l")]
    last: list[dict[str, Any]] = [{"index": 0, "message": {"content": "lo"}, "finish_reason": None if end else "stop"}]
    pieces = [first, *more, {"choices": last}]
    if end:
        pieces.append({"choices": [{"index": 0, "finish_reason": "stop", **end}]})
    async with raw_server(Script([b"".join(map(data, pieces)) + DONE])) as server:
        assert await ask_chat(server, stream) == "hello"


@pytest.mark.parametrize("name", ["content", "reasoning_content", "refusal"])
@pytest.mark.parametrize(
    ("deltas", "whole_text"),
    [(["hel", "lo", "hello"], "hello"), (["hello"], "hello"), (["ha", "ha"], "haha"), (["ha", "ha"], "ha")],
    ids=["repeated", "once", "its own", "repeated at once"],
)
async def test_a_last_delta_that_repeats_the_message_beside_it_is_no_more_text(
    name: str, deltas: list[str], whole_text: str
) -> None:
    pieces = [{"index": 0, "delta": {name: text}} for text in deltas]
    pieces[-1] |= {"message": {"role": "assistant", name: whole_text}, "finish_reason": "stop"}
    body = b"".join(data({"choices": [piece]}) for piece in pieces) + DONE
    async with raw_server(Script([body]), Script([body])) as server, connect(server) as client:
        stream = await client.chat.completions.create(model="m", messages=[], stream=True)
        told = "".join([getattr(chunk.choices[0].delta, name) or "" async for chunk in stream])
        reply = await stream.collect()
        assert (told, getattr(reply.choices[0].message, name)) == (whole_text, whole_text)


@pytest.mark.parametrize(
    "said", [{"base_resp": {"status_code": 1002, "status_msg": "slow down"}}, {"code": 1302, "message": "slow down"}]
)
async def test_the_last_words_of_a_stream_that_ended_are_told(said: dict[str, Any]) -> None:
    async with raw_server(Script([chunk("hel"), data(said)])) as server:
        with pytest.raises(TruncatedStreamError, match="ended before the answer did: slow down"):
            await ask_chat(server, True)


@pytest.mark.parametrize("tail", [b"", DONE], ids=["before-done", "behind-done"])
async def test_a_cost_beside_the_usage_is_that_of_the_call(tail: bytes) -> None:
    stated = data({"choices": [], "type": "inference-cost", "cost": "0.00006972"})
    usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    answer = {**json.loads(whole()), "usage": usage}
    body = data({"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}], "usage": usage}) + tail + stated
    scripts = Script([body]), Script([json.dumps({**answer, "cost": 0.5}).encode()], content_type=JSON)
    async with raw_server(*scripts) as server, connect(server) as client:
        stream = await client.chat.completions.create(model="m", messages=[], stream=True)
        assert (await stream.collect()).info.cost_usd == 0.00006972
        assert (await client.chat.completions.create(model="m", messages=[])).info.cost_usd == 0.5


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("nothing", ["", {}, [], False, 0, None])
async def test_an_error_that_is_none_does_not_cost_the_answer(nothing: Any, stream: bool) -> None:
    answers = [json.dumps({**json.loads(whole()), "error": nothing}).encode()]
    pieces = [({"content": "hel"}, None), ({"content": "lo"}, "stop")]
    choices = [{"choices": [{"delta": delta, "finish_reason": reason}], "error": nothing} for delta, reason in pieces]
    answers.append(b"".join(map(data, choices)))
    for answer in answers:
        async with raw_server(Script([answer], content_type=JSON)) as server:
            assert await ask_chat(server, stream) == "hello"


@pytest.mark.parametrize("beat", ["keepalive", "response.keep_alive", "response.ping"])
async def test_a_heartbeat_of_a_response_bars_no_retry(beat: str) -> None:
    good = event(beat, sequence_number=1) + CREATED + event("response.completed", response=json.loads(response()))
    begun = [CREATED, event(beat, sequence_number=1)]
    async with raw_server(Script(begun, end="reset"), Script([good])) as server:
        async with connect(server, retry=Retry(attempts=2, base=0.01)) as client:
            stream = await client.responses.create(model="m", input="hi", stream=True)
            assert [piece.type async for piece in stream] == ["response.created", "response.completed"]
        assert len(server.requests) == 2


@pytest.mark.parametrize("kind", ["api_error", "server_error", "InternalServerError", "internal_error", "bad_gateway"])
async def test_a_server_that_failed_with_a_200_is_asked_again(kind: str) -> None:
    failed = json.dumps({"error": {"message": "Internal Network Failure", "type": kind}}).encode()
    async with raw_server(Script([failed], content_type=JSON), Script([whole()], content_type=JSON)) as server:
        assert await ask_chat(server, False, retry=Retry(attempts=2, base=0.01)) == "hello"


@pytest.mark.parametrize(
    "body",
    [
        {"base_resp": {"status_code": 1002, "status_msg": "rate limit exceeded(RPM)"}},
        {"id": "c", "choices": None, "base_resp": {"status_code": 1002, "status_msg": "rate limit"}},
        {"error": {"message": "Too many requests, please slow down", "type": "upstream"}},
        {"success": False, "message": "request was throttled"},
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_limit_that_a_200_tells_in_words_is_one(body: dict[str, Any], stream: bool) -> None:
    scripts = [Script([one], content_type=JSON) for one in (json.dumps(body).encode(), whole())]
    async with raw_server(*scripts) as server:
        retry = Retry(attempts=2, throttle_base=0.01)
        assert await ask_chat(server, stream, retry=retry, limits=LEARNS_NOTHING) == "hello"
    # An `error` between events is a StreamError.
    events = [] if "error" in body else [Script([data(body)]), Script([data(body) + DONE])]
    for told in (scripts[0], *events):
        async with raw_server(told) as server:
            with pytest.raises(RateLimitError, match=r"rate limit|slow down|throttled"):
                await ask_chat(server, stream)


@pytest.mark.parametrize("choices", [{}, {"id": "c", "choices": None}])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_an_empty_account_that_a_200_tells_in_words_is_one(choices: dict[str, Any], stream: bool) -> None:
    body = {**choices, "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}
    for told in (Script([json.dumps(body).encode()], content_type=JSON), Script([data(body)])):
        async with raw_server(told) as server:
            with pytest.raises(InsufficientCreditError, match="insufficient balance") as caught:
                await ask_chat(server, stream, retry=Retry(attempts=2, base=0.01))
            assert (caught.value.retryable, len(server.requests)) == (False, 1)


@pytest.mark.parametrize(
    ("body", "retryable"),
    [
        # LM Studio, text-generation-inference, and a gateway that calls every error an invalid request.
        ({"message": "The number of tokens to keep is greater than the context length (4096)"}, False),
        ({"message": "m", "http_status_code": 422}, False),
        ({"message": "m", "http_status_code": 500}, True),
        ({"message": "m", "code": "rate_limit_error", "type": "invalid_request_error"}, True),
        ({"message": "<400> DataInspectionFailed", "code": "data_inspection_failed"}, False),
        ({"message": "m", "type": "moderation_blocked"}, False),
        ({"message": "m", "code": "rate_limit_error", "type": "insufficient_quota"}, False),
    ],
)
def test_an_error_in_a_stream_is_retryable_by_all_that_it_says(body: Any, retryable: bool) -> None:
    assert stream_error({"error": body}, partial=None, info=None, billed=None).retryable is retryable


@pytest.mark.parametrize(
    ("message", "code", "retryable"),
    [
        # Cerebras has one code for the limits of a minute and of a day.
        ("Tokens per minute limit exceeded", "token_quota_exceeded", True),
        ("Tokens per day limit exceeded", "token_quota_exceeded", False),
        ("you may send 60 RPM", "quota_exceeded", True),
        ("0 tokens per minute", "insufficient_quota", False),
    ],
)
def test_the_limit_of_a_minute_is_no_quota_that_somebody_must_raise(message: str, code: str, retryable: bool) -> None:
    body = json.dumps({"message": message, "type": "too_many_tokens_error", "code": code})
    assert status_error(429, body.encode()).retryable is retryable


def test_a_window_is_told_by_its_name() -> None:
    headers = {
        "x-ratelimit-limit-requests-day": "14400",
        "x-ratelimit-remaining-requests-day": "14000",
        "x-ratelimit-reset-requests-day": "30000.5",
        "x-ratelimit-limit-tokens-minute": "60000",
        "x-ratelimit-remaining-tokens-minute": "0",
        "x-ratelimit-reset-tokens-minute": "33.01",
    }
    signal = read(headers, unit="requests")
    assert signal is not None
    assert (signal.pause, signal.remaining_requests, signal.reset_requests) == (33.01, 14_000, 30_000.5)
    assert (signal.limit_tokens, signal.remaining_tokens, signal.reset_tokens) == (60_000, 0, 33.01)


@pytest.mark.parametrize(
    "kind", ["requests-1h", "req-minute", "tokens-per-day", "tokens-prompt", "tokens-generated", "requests-hour"]
)
def test_each_window_is_known_by_what_remains(kind: str) -> None:
    signal = read({f"x-ratelimit-remaining-{kind}": "5"}, unit="requests")
    assert signal is not None
    assert (signal.remaining_tokens if "tokens" in kind else signal.remaining_requests) == 5


@pytest.mark.parametrize(
    ("text", "left", "reset"),
    [
        ('"default";r=0;t=30', 0, 30),
        ('"burst";r=5;t=1, "daily";r=0;t=100', 0, 100),
        ('"default"; r = 7', 7, None),
        ("limit=100, remaining=0, reset=50", 0, 50),
        ('"default"', None, None),
        ('"default";q=100;w=60', None, None),
    ],
)
def test_the_one_header_of_the_later_drafts_is_read(text: str, left: int | None, reset: float | None) -> None:
    signal = read({"ratelimit": text}, unit="requests")
    found = (None, None, None) if signal is None else (signal.remaining_requests, signal.reset_requests, signal.pause)
    assert found == (left, reset, reset if left == 0 else None)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("encoding", "body", "words"),
    [
        ("gzip", whole(), "cannot be read: Can not decode content-encoding: gzip"),
        ("br", b"no brotli", "cannot be read: Can not decode content-encoding: br"),
        ("gzip, gzip", gzip.compress(gzip.compress(whole())), "encoded as gzip, gzip, which was not asked for"),
    ],
    ids=["not-gzip", "br", "twice"],
)
async def test_a_body_in_an_encoding_that_cannot_be_read_is_told_and_not_paid_for_again(
    encoding: str, body: bytes, words: str, stream: bool
) -> None:
    script = Script([body], content_type=JSON, headers=[("Content-Encoding", encoding)])
    async with raw_server(script) as server:
        with pytest.raises(AimlasyncError, match=words):
            await ask_chat(server, stream, retry=Retry(attempts=3, base=0.01))
        assert len(server.requests) == 1


@pytest.mark.parametrize("comment", [b": OPENROUTER PROCESSING", b":", b":keep-alive 12"])
async def test_a_comment_that_is_sent_on_as_data_says_nothing(comment: bytes) -> None:
    said = b"data: %b\n\n" % comment
    async with raw_server(Script([said + said, chunk("hel"), said, chunk("lo", finish="stop"), DONE])) as server:
        assert await ask_chat(server, False) == "hello"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_text_of_the_older_api_is_no_empty_answer(stream: bool) -> None:
    choices = [{"index": 0, "text": text, "finish_reason": reason} for text, reason in (("hi", None), ("", "stop"))]
    body = b"".join(data({"id": "c", "choices": [choice]}) for choice in choices)
    async with raw_server(Script([body, DONE])) as server:
        with pytest.raises(APIResponseValidationError, match="says nothing"):
            await ask_chat(server, stream)


@pytest.mark.parametrize("blank", [b"", b"\n", b"\n\n\n", b" \r\n \r\n"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_blank_lines_and_then_nothing_are_no_answer_and_the_call_is_tried_again(
    blank: bytes, stream: bool
) -> None:
    scripts = [Script([body] if body else [], content_type=JSON, end="keep") for body in (blank, whole())]
    async with raw_server(*scripts) as server:
        assert await ask_chat(server, stream, retry=Retry(attempts=2, base=0.01)) == "hello"
        assert len(server.requests) == 2


@pytest.mark.parametrize("begun", [b"", chunk("hel"), chunk("hel") * 3])
@pytest.mark.parametrize("end", [b"", b"\n\n", b"\n\n" + DONE])
async def test_an_error_in_a_field_of_that_name_is_told(begun: bytes, end: bytes) -> None:
    error = {"code": 400, "message": "the request exceeds the available context size", "type": "invalid_request_error"}
    said = b"error: " + json.dumps(error).encode() + end
    async with raw_server(Script([piece for piece in (begun, said) if piece])) as server:
        with pytest.raises(StreamError, match="exceeds the available context") as caught:
            await ask_chat(server, False, retry=Retry(attempts=2, base=0.01))
        assert len(server.requests) == 1
    assert (caught.value.code, caught.value.partial.text) == ("400", "hel" * begun.count(b"hel"))


def indexed(index: int, content: str | None, finish: str | None = None) -> bytes:
    return data({"id": "c", "choices": [{"index": index, "delta": {"content": content}, "finish_reason": finish}]})


@pytest.mark.parametrize(
    ("indices", "n", "texts"),
    [
        # text-generation-inference until 1.4 and Foundry Local count the chunks.
        ([0, 1, 2, 3], None, ["hello"]),
        ([1, 2, 3, 4], 1, ["hello"]),
        ([1, 1, 1, 1], None, ["hello"]),
        ([-1, -1, -1, 0], None, ["hello"]),
        ([0, 1, 2, 2], None, ["hello"]),
        # What was asked for, or an index that goes back, tells that there are several.
        ([1, 0, 1, 0], 2, ["e", "hllo"]),
        ([0, 1, 0, 1, 0, 0], None, ["hllo", "e"]),
    ],
)
async def test_one_choice_is_one_whatever_its_pieces_are_numbered(
    indices: list[int], n: int | None, texts: list[str]
) -> None:
    said = ["", "", "h", "e", "llo", ""][-len(indices) :]
    pieces = [indexed(index, text) for index, text in zip(indices, said, strict=True)]
    ends = [indexed(index, None, "stop") for index in range(len(texts))] if len(texts) > 1 else []
    pieces[-1] = indexed(indices[-1], "", None if ends else "stop")
    async with raw_server(Script([*pieces, *ends, DONE])) as server, connect(server) as client:
        more: dict[str, Any] = {} if n is None else {"n": n}
        reply = await client.chat.completions.create(model="m", messages=[], **more)
        stream = await client.chat.completions.create(model="m", messages=[], stream=True, **more)
        text = "".join([piece async for piece in stream.text])
    assert [choice.message.content or "" for choice in reply.choices] == texts
    assert [choice.index for choice in reply.choices] == list(range(len(texts)))
    assert text == texts[0]


@pytest.mark.parametrize("order", [1, -1])
async def test_the_text_of_a_stream_is_that_of_the_first_choice_wherever_a_chunk_has_it(order: int) -> None:
    pairs = [[{"index": index, "delta": {"content": text}} for index, text in enumerate(two)] for two in ("hx", "iy")]
    pairs.append([{"index": index, "delta": {}, "finish_reason": "stop"} for index in (0, 1)])
    body = b"".join(data({"choices": pair[::order]}) for pair in pairs) + DONE
    async with raw_server(Script([body])) as server, connect(server) as client:
        stream = await client.chat.completions.create(model="m", messages=[], stream=True, n=2)
        assert "".join([piece async for piece in stream.text]) == "hi"
        assert [choice.message.content for choice in (await stream.collect()).choices] == ["hi", "xy"]


async def test_an_answer_that_is_no_text_and_no_object_is_told() -> None:
    async with raw_server(Script([b'[["\xff\xfe"], 1]'], content_type=JSON)) as server:
        with pytest.raises(APIResponseValidationError):
            await ask_chat(server, False)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("output", [{"output": "hello"}, {"output": 3}, {"output": None}, {"output": ["hello"]}, {}])
async def test_a_completed_response_without_a_list_of_output_is_no_empty_answer(
    output: dict[str, Any], stream: bool
) -> None:
    said = {"id": "r", "object": "response", "status": "completed", **output}
    for told in (Script([json.dumps(said).encode()], content_type=JSON), Script([event(ENDED, response=said)])):
        async with raw_server(told) as server, connect(server) as client:
            with pytest.raises(APIResponseValidationError, match="has no output, a list of items"):
                await client.responses.create(model="m", input="hi", stream=stream)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_whole_answer_of_another_api_is_none_of_responses_and_is_asked_once(stream: bool) -> None:
    message = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "hi"}]}
    async with raw_server(Script([json.dumps(message).encode()], content_type=JSON)) as server:
        async with connect(server, retry=Retry(attempts=3, base=0.0)) as client:
            with pytest.raises(APIResponseValidationError, match=r'no output, a list of items: {"type": "message"'):
                await client.responses.create(model="m", input="hi", stream=stream)
        assert len(server.requests) == 1


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_response_may_say_nothing_or_say_it_elsewhere(stream: bool) -> None:
    answers: list[dict[str, Any]] = [{"output": []}, {"output": None, "output_text": "hello"}]
    for said in (*answers, {"output": "x", "status": "incomplete"}):
        body = {"id": "r", "object": "response", "status": "completed", **said}
        end = "response.incomplete" if "status" in said else ENDED
        for told in (Script([json.dumps(body).encode()], content_type=JSON), Script([event(end, response=body)])):
            async with raw_server(told) as server, connect(server) as client:
                reply = await client.responses.create(model="m", input="hi", stream=stream)
                whole = await reply.collect() if isinstance(reply, ResponseStream) else reply
                assert (whole.id, whole.output_text) == ("r", body.get("output_text", ""))


async def test_a_page_before_any_answer_asks_for_the_base_url() -> None:
    page = Script([b"<html><title>Welcome</title></html>"], content_type="text/html")
    async with raw_server(page, Script([whole("yes")], content_type=JSON), page) as server:
        async with connect(server, retry=Retry(attempts=1)) as client:
            with pytest.raises(APIResponseValidationError, match="Welcome; a page, and no answer so far"):
                await client.chat.completions.create(model="m", messages=[])
            assert (await client.chat.completions.create(model="m", messages=[])).text == "yes"
            with pytest.raises(APIResponseValidationError, match=r"Welcome$"):
                await client.chat.completions.create(model="m", messages=[])


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        ({"error": {"message": "no such key", "code": 401}}, AuthenticationError, "no such key"),
        ({"detail": "not ready"}, APIResponseValidationError, "a body that lists no models: not ready"),
        ({"success": False, "errors": [{"message": "no route"}]}, APIResponseValidationError, "models: no route"),
    ],
)
async def test_what_is_no_catalogue_is_not_an_empty_one(body: Any, kind: Any, words: str) -> None:
    script = Script([json.dumps(body).encode()], content_type="application/json", end="keep")
    async with raw_server(script) as server, connect(server, retry=Retry(attempts=1)) as client:
        with pytest.raises(kind, match=words):
            await client.models.list()
