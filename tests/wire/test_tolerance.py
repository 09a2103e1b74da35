"""Inputs that servers should not send and send all the same, and what they must not cost."""

from __future__ import annotations

import copy
import json
import pickle
import types
from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from aimlasync.bulk.tasks.confidence import confidence_of
from aimlasync.chat.assembler import Assembler as ChatAssembler
from aimlasync.chat.chunks import chunk_of, decode_chunk
from aimlasync.chat.types import decode_completion
from aimlasync.endpoints.endpoint import Endpoint, default_endpoints
from aimlasync.endpoints.providers import BYTESPIKE
from aimlasync.errors import (
    AimlasyncError,
    AnswerInvalidError,
    APIConnectionError,
    APITimeoutError,
    BudgetExceededError,
    OverloadedError,
    StreamError,
    TruncatedStreamError,
    UnsupportedRequestError,
)
from aimlasync.info import Info
from aimlasync.resilience.retry import Retry
from aimlasync.responses.assembler import Assembler
from aimlasync.responses.events import decode_event
from aimlasync.responses.types import decode_response
from aimlasync.wire.base import Unknown, encode
from aimlasync.wire.error_bodies import status_error
from aimlasync.wire.redaction import Secrets


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize(
    "error",
    [
        APIConnectionError("m"),
        status_error(429, b'{"error":{"message":"m","code":"c"}}', retry_after=2, info=Info()),
        APITimeoutError("m", phase="idle"),
        TruncatedStreamError("m", partial=3),
        AnswerInvalidError("m", reply=None),
        StreamError("m"),
        OverloadedError("m", retry_after=1.0),
        UnsupportedRequestError("m", status=400, param="p"),
        BudgetExceededError("m"),
    ],
    ids=lambda e: type(e).__name__,
)
@pytest.mark.parametrize("send", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
def test_error_survives_the_way_to_another_process(error: Any, send: Any) -> None:
    got = send(error)
    assert type(got) is type(error)
    assert (str(got), vars(got)) == (str(error), vars(error))


def test_headers_survive_the_way_to_another_process() -> None:
    error = status_error(429, b"", info=Info(headers=CIMultiDictProxy(CIMultiDict({"X-Request-Id": "r"}))))
    assert pickle.loads(pickle.dumps(error)).info.headers["x-request-id"] == "r"


def test_mapping_is_sent_as_an_object() -> None:
    assert encode({"metadata": types.MappingProxyType({"a": 1})}) == b'{"metadata":{"a":1}}'


def test_arguments_sent_as_an_object_are_their_json() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": {"to": "sales"}}}
    reply = decode_completion(json.dumps({"choices": [{"message": {"tool_calls": [call]}}]}).encode())
    assert reply.choices[0].message.tool_calls[0].function.arguments == '{"to":"sales"}'  # type: ignore[index]
    chunk = decode_chunk(json.dumps({"choices": [{"delta": {"tool_calls": [{"index": 0, **call}]}}]}).encode())
    assembler = ChatAssembler()
    assembler.add(chunk)
    assert assembler.whole().choices[0].message.tool_calls[0].function.arguments == '{"to":"sales"}'  # type: ignore[index]


@pytest.mark.parametrize(
    "raw",
    [
        b'{"choices":[{"message":{"content":"billing"},"logprobs":{"content":[{"token":"a","logprob":-Infinity}]}}]}',
        b'{"choices":[{"message":{"content":"billing"}}],"created":NaN}',
        b'{"choices":[{"message":{"content":"billing"}}],"created":1e999}',
        b'{"choices":[{"message":{"content":"billing"}}],"model":"a\\ud83d"}',
        b'{"choices":[{"message":{"content":"billing"}}],"model":"caf\xe9"}',
    ],
)
def test_value_that_strict_json_lacks_costs_only_itself(raw: bytes) -> None:
    reply = decode_completion(raw)
    assert reply.text == "billing"
    reply.to_json()
    encode(reply)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"ok \\ud83d", "ok \ufffd"),
        (b"ok \\ud83d\\ude00 \\ude00", "ok \U0001f600 \ufffd"),
        (b"caf\xe9", "caf\ufffd"),
        (b"a\tb\x1b[0m\x00\nc", "a\tb\x1b[0m\x00\nc"),
    ],
)
def test_broken_character_costs_only_itself(content: bytes, text: str) -> None:
    assert decode_completion(b'{"choices":[{"message":{"content":"' + content + b'"}}]}').text == text
    assert decode_chunk(b'{"choices":[{"delta":{"content":"' + content + b'"}}]}').choices[0].delta.content == text
    assert decode_event(b'{"type":"response.output_text.delta","delta":"' + content + b'"}').delta == text  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 5000,
        b'{"message":' + b"[" * 5000 + b"]" * 5000 + b"}",
        json.dumps({"message": '400 {"a":' + "[" * 5000 + "]" * 5000 + "}"}).encode(),
    ],
)
def test_too_deep_body_is_some_error(body: bytes) -> None:
    assert status_error(400, body).status == 400


@pytest.mark.parametrize("kind", [[], {}, ["message"]])
def test_type_that_is_no_text_is_unknown(kind: Any) -> None:
    item = {"type": kind, "id": "x"}
    assert isinstance(decode_event(json.dumps(item).encode()), Unknown)
    reply = decode_response(json.dumps({"output": [item], "output_text": "sales"}).encode())
    assert isinstance(reply.output[0], Unknown)
    assert reply.output_text == "sales"


@pytest.mark.parametrize("at", range(160, 205, 3))
def test_key_cut_by_the_end_of_an_excerpt_is_not_shown(at: int) -> None:
    key = "0f3a9c55d1e24b7788aa66cc33ee1100"
    failed = status_error(401, f"{'x' * at}{key} and more".encode())
    Secrets([key]).redact(failed)
    assert key[:10] not in failed.message


def ev(**f: Any) -> Any:
    return decode_event(json.dumps(f).encode())


def test_refusal_of_a_cut_stream_is_kept() -> None:
    a = Assembler()
    a.add(ev(type="response.created", response={"id": "r", "status": "in_progress"}))
    for d in ("I ", "can't"):
        a.add(ev(type="response.refusal.delta", output_index=0, content_index=0, delta=d))
    assert a.whole().refusal == "I can't"
    a.add(ev(type="response.refusal.done", output_index=0, content_index=0, refusal="I can not"))
    a.add(ev(type="response.completed", response={"id": "r", "output": []}))
    assert (a.whole().refusal, a.whole().output_text) == ("I can not", "")


def test_events_are_left_as_they_were_and_the_answer_can_be_taken_again() -> None:
    created = ev(type="response.created", response={"id": "r", "status": "in_progress"})
    added = ev(type="response.output_item.added", output_index=0, item={"type": "message", "id": "m", "content": []})
    a = Assembler()
    for e in (created, added, ev(type="response.output_text.delta", delta="a")):
        a.add(e)
    early = a.whole()
    assert (created.response.output, created.response.output_text, added.item.content) == ([], "", [])
    a.add(ev(type="response.output_text.delta", delta="b"))
    assert (early.output_text, a.whole().output_text) == ("a", "ab")


def test_endless_retries_never_overflow() -> None:
    assert Retry(attempts=10**6).delay(5000, APIConnectionError("x"), remaining=1e9, draw=lambda: 1) == 30


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1"])
def test_cost_that_is_no_amount_is_unknown(value: str) -> None:
    info = Info()
    info.saw_headers(200, {"x-aimlapi-usd-spent": value, "x-aimlapi-credits-used": value})
    assert (info.cost_usd, info.credits) == (None, None)


def test_code_interpreter_call_is_sent_back_with_its_null_outputs() -> None:
    item = {
        "type": "code_interpreter_call",
        "id": "i",
        "code": "1",
        "container_id": "c",
        "outputs": None,
        "status": "completed",
    }
    assert json.loads(encode(decode_response(json.dumps({"output": [item]}).encode()).output)) == [item]


def test_legacy_function_call_is_in_the_chunk_of_a_whole_answer() -> None:
    r = decode_completion(b'{"choices":[{"message":{"function_call":{"name":"f","arguments":"{}"}}}]}')
    a = ChatAssembler()
    a.add(chunk_of(r))
    assert a.whole().choices[0].message.function_call == r.choices[0].message.function_call


@pytest.mark.parametrize("calls", ["{}", 7, True, {"name": "f"}, [[]], ["f", {"id": "c", "function": {"name": "f"}}]])
def test_a_whole_answer_becomes_a_chunk_whatever_its_calls_are(calls: Any) -> None:
    choice = {"message": {"content": None, "tool_calls": calls}, "finish_reason": "stop"}
    body = json.dumps({"choices": [None, "7", choice, 1.5]}).encode()
    reply = decode_completion(body)
    (made,), (whole,) = chunk_of(reply).choices, reply.choices
    assert made.finish_reason == "stop"
    assert [(c.index, c.id or "") for c in made.delta.tool_calls or ()] == [
        (number, c.id) for number, c in enumerate(whole.message.tool_calls or ())
    ]
    assert reply.to_dict() == json.loads(body)


def test_one_object_in_place_of_a_list_of_them_is_its_only_item() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    whole = {"choices": {"message": {"role": "assistant", "tool_calls": call}, "finish_reason": "tool_calls"}}
    reply = decode_completion(json.dumps(whole).encode())
    assert [c.to_dict() for c in reply.choices[0].message.tool_calls or ()] == [call]
    assert reply.to_dict() == whole
    pieces = [{"index": 0, "function": {"arguments": text}} for text in ("{", "}")]
    assembler = ChatAssembler()
    for said in ({**call, "index": 0, "function": {"name": "f", "arguments": ""}}, *pieces):
        assembler.add(decode_chunk(json.dumps({"choices": [{"delta": {"tool_calls": said}}]}).encode()))
    assert [c.to_dict() for c in assembler.whole().choices[0].message.tool_calls or ()] == [call]


@pytest.mark.parametrize("number", ["NaN", "inf", "-Infinity"])
def test_a_number_written_as_a_text_that_is_none_is_left_out(number: str) -> None:
    body = {"output": [], "temperature": number, "top_p": "0.5"}
    response = decode_response(json.dumps(body).encode())
    assert (response.temperature, response.top_p) == (None, 0.5)
    assert response.to_dict() == body


@pytest.mark.parametrize("stated", ["null", "NaN", "-Infinity", '"-inf"', "-1e999"])
def test_a_probability_that_is_not_stated_is_no_certainty(stated: str) -> None:
    token = f'{{"token": "\\"a\\"", "logprob": {stated}, "top_logprobs": null}}'
    choice = f'{{"message": {{"content": "a"}}, "logprobs": {{"content": [{token}]}}}}'
    reply = decode_completion(f'{{"choices": [{choice}]}}'.encode())
    logprobs = reply.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert [one.logprob for one in logprobs.content] == [float("-inf")]
    assert confidence_of(reply, "a") is None
    assert logprobs.content[0].to_dict()["logprob"] == (stated.strip('"') if '"' in stated else None)


def test_status_that_stays_wrong_is_not_made_retryable_by_a_header() -> None:
    assert not any(status_error(s, b"", should_retry=True).retryable for s in (400, 401, 402, 403, 404, 413, 422))


def test_custom_call_is_sent_back_without_a_function() -> None:
    call = {"id": "c", "type": "custom", "custom": {"name": "sql", "input": "1"}}
    r = decode_completion(json.dumps({"choices": [{"message": {"tool_calls": [call]}}]}).encode())
    assert json.loads(encode(r.choices[0].message.tool_calls)) == [call]


@pytest.mark.parametrize(
    "url",
    [
        "user:hunter2@llm.example/v1",
        "ftp://user:hun/ter2@llm.example",
        "https://user:hun/ter2@llm.example/v1",
        "https://user:123/hunter2@llm.example",
    ],
)
def test_password_in_a_mistyped_url_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ValueError, match="base_url") as caught:
        Endpoint(base_url=url, api_key="k")
    assert "ter2" not in str(caught.value)
    assert "user" not in str(caught.value).replace("a user", "")


@pytest.mark.parametrize("url", ["https://llm.example:99999/v1", "https://llm.example:https/v1"])
def test_url_with_an_impossible_port_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="port"):
        Endpoint(base_url=url, api_key="k")


def test_blank_key_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AIML_API_KEY", "AIMLAPI_API_KEY", "BYTESPIKE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(AimlasyncError, match="BYTESPIKE_API_KEY"):
        default_endpoints("  ", None, allow_http=False)
    with pytest.raises(AimlasyncError, match="AIML_API_KEY"):
        Endpoint.aimlapi(api_key=" ")


def test_space_before_a_bytespike_key_does_not_send_it_to_aimlapi() -> None:
    assert default_endpoints(" sk-byts-1", None, allow_http=False)[0].provider is BYTESPIKE


def test_doubled_slash_before_a_known_tail_is_cleaned() -> None:
    assert (
        Endpoint(base_url="https://llm.example/v1//chat/completions", api_key="k").base_url == "https://llm.example/v1"
    )


def test_calls_without_an_index_are_told_apart_by_id_or_name() -> None:
    def piece(**call: Any) -> bytes:
        return json.dumps({"choices": [{"delta": {"tool_calls": [call]}}]}).encode()

    shapes: list[list[dict[str, Any]]] = [
        [{"function": {"name": name, "arguments": "{}"}} for name in ("f", "g")],
        [{"id": name, "function": {"name": name, "arguments": "{}"}} for name in ("f", "g")],
        [{"index": 0, "id": name, "function": {"name": name, "arguments": "{}"}} for name in ("f", "g")],
        [
            {"index": 0, "id": "f", "function": {"name": "f", "arguments": "{}"}},
            {"index": 0, "id": "g", "function": {"name": "g", "arguments": "{"}},
            {"index": 0, "function": {"arguments": "}"}},
        ],
    ]
    for shape in shapes:
        assembler = ChatAssembler()
        for call in shape:
            assembler.add(decode_chunk(piece(**call)))
        calls = assembler.whole().choices[0].message.tool_calls
        assert calls is not None
        assert [(call.function.name, call.function.arguments) for call in calls] == [("f", "{}"), ("g", "{}")]


def test_an_error_that_is_a_text_is_a_failed_run() -> None:
    reply = decode_response(b'{"id": "r", "error": "boom"}')
    assert reply.status == "failed"
    assert reply.error is not None
    assert reply.error.message == "boom"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (["h", "i"], "hi"),
        (["h", {"type": "text", "text": "i"}, {"type": "image_url"}, 5, None], "hi"),
        ([{"type": "image_url"}, 5], ""),
    ],
)
def test_a_content_that_is_a_list_is_the_texts_in_it(content: list[Any], text: str) -> None:
    for part, decode in (("message", decode_completion), ("delta", decode_chunk)):
        choice = {"index": 0, part: {"content": content}, "finish_reason": None}
        made: Any = decode(json.dumps({"choices": [choice]}).encode())
        assert (getattr(made.choices[0], part).content or "") == text
        assert made.to_dict()["choices"] == [choice]
