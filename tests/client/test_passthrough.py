"""Requests that another client wrote: what is sent, what comes back byte for byte, and what is held meanwhile."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from aimlasync import (
    APIResponseValidationError,
    APITimeoutError,
    AsyncClient,
    Budget,
    BudgetExceededError,
    Endpoint,
    Hedge,
    InternalServerError,
    Limits,
    Price,
    Retry,
    StreamError,
    Timeout,
    TruncatedStreamError,
    UnsupportedRequestError,
)
from aimlasync.client.passthrough import Forwarded
from aimlasync.responses.assembler import Assembler
from aimlasync.responses.events import decode_event
from aimlasync.simulator import Fault, Simulator
from aimlasync.wire.base import encode
from tests.support.servers import LEARNS_NOTHING, STEPS, Script, raw_server, turns, until

NANO = "openai/gpt-5-nano-2025-08-07"
KEY = "sk-sentinel-5f1c2e77aa"
# Spaces, order and an escape that no encoder of ours would write.
BODY = b'{ "messages": [{"content": "Hell\\u006f", "role": "user"}],  "model": "m" }'
STREAMED = BODY.replace(b'"model"', b'"stream": true, "model"')
ANSWER = b'{ "choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3, "completion_tokens": 4}, "new": 1.50 }'  # noqa: E501
EVENTS = [
    b': hello\n\ndata: { "choices": [{"delta": {"content": "h"}}] }\r\n\r\n',
    b'data: {"choices": [{"delta": {"content": "i"}, "finish_reason": "stop"}]}\n',
    b'\ndata: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}\n\ndata: [DONE]\n\n',
]


def whole(body: bytes = ANSWER, **script: Any) -> Script:
    return Script([body], **{"content_type": "application/json", "end": "keep", **script})


async def read(answer: Forwarded) -> bytes:
    return b"".join([piece async for piece in answer])


def gate(client: AsyncClient) -> Any:
    return client._pipeline.balancer.upstreams[0].limiter


# --- what is sent, and what comes back -------------------------------------------------------------------------------


async def test_a_request_and_its_answer_pass_byte_for_byte() -> None:
    async with raw_server(whole(headers=[("X-Thing", "a")])) as server:
        async with AsyncClient(api_key=KEY, base_url=server.base_url) as client:
            answer = await client.forward("POST", "chat/completions", BODY, extra_headers={"X-Mine": "b"})
            assert answer.body == ANSWER
            assert await read(answer) == ANSWER
    assert answer.status == 200
    assert answer.headers.get("x-thing") == "a"
    assert server.bodies == [BODY]
    assert b"X-Mine: b\r\n" in server.requests[0]
    assert f"Authorization: Bearer {KEY}".encode() in server.requests[0]


async def test_a_stream_passes_byte_for_byte_and_its_tokens_are_counted() -> None:
    async with raw_server(Script(EVENTS, end="keep")) as server:
        async with AsyncClient(api_key="k", base_url=server.base_url) as client:
            answer = await client.forward("POST", "chat/completions", STREAMED)
            assert answer.body is None
            assert gate(client).in_flight == 1
            pieces = [piece async for piece in answer]
            assert b"".join(pieces) == b"".join(EVENTS)
            assert len(pieces) > 1
            assert gate(client).in_flight == 0
            (upstream,) = client.statistics()
            assert (upstream.answered, upstream.prompt_tokens, upstream.completion_tokens) == (1, 3, 4)


async def test_what_was_read_with_the_terminal_mark_is_handed_on_too() -> None:
    tail = b'data: [DONE]\n\ndata: {"meta": {"usage": {"usd_spent": 0.5}}}\n\n'
    async with raw_server(Script([EVENTS[1] + b"\n" + tail], end="keep")) as server:
        async with AsyncClient(api_key="k", base_url=server.base_url) as client:
            answer = await client.forward("POST", "chat/completions", STREAMED)
            assert (await read(answer)).endswith(tail)
            assert answer.info.cost_usd == 0.5


async def test_usage_of_whole_answers_teaches_as_any_call_does(simulator: Simulator) -> None:
    endpoint = Endpoint.aimlapi(api_key="k", base_url=simulator.base_url)
    budget = Budget(1.0, prices={NANO: Price.per_million(input=0.05, output=0.4)})
    async with AsyncClient(endpoints=[endpoint], budget=budget) as client:
        body = json.dumps({"model": NANO, "input": "Hello"}).encode()
        answer = await client.forward("POST", "responses", body)
        assert json.loads(await read(answer))["output_text"]
        (upstream,) = client.statistics()
        assert upstream.answered == 1
        assert upstream.prompt_tokens > 0
        assert budget.spent == upstream.cost_usd == answer.info.cost_usd


async def test_only_an_endpoint_that_needs_a_translation_gets_another_body() -> None:
    body = b'{ "model": "openai/gpt-5-nano-2025-08-07", "messages": [{"role": "user", "content": "Hello"}] }'
    async with raw_server(whole(status=500)) as first, raw_server(whole()) as second:
        endpoints = [
            Endpoint.aimlapi(api_key="a", base_url=first.base_url),
            Endpoint.bytespike(api_key="b", base_url=second.base_url),
        ]
        async with AsyncClient(endpoints=endpoints, retry=Retry(base=0.001)) as client:
            assert await read(await client.forward("POST", "chat/completions", body)) == ANSWER
    assert first.bodies == [body]
    (sent,) = map(json.loads, second.bodies)
    assert sent == {**json.loads(body), "model": "gpt-5-nano"}


async def test_endpoints_that_no_table_names_get_the_bytes_as_they_are() -> None:
    async with raw_server(whole(status=500)) as first, raw_server(whole()) as second:
        endpoints = [Endpoint(base_url=server.base_url, api_key="k") for server in (first, second)]
        async with AsyncClient(endpoints=endpoints, retry=Retry(base=0.001)) as client:
            assert await read(await client.forward("POST", "chat/completions", BODY)) == ANSWER
    assert {*first.bodies, *second.bodies} == {BODY}


@pytest.mark.parametrize("body", [None, b"", b"[1]", b"{", b'"text"'])
async def test_a_body_that_is_no_object_is_refused_before_it_is_sent(body: bytes | None) -> None:
    async with raw_server(whole()) as server, AsyncClient(api_key="k", base_url=server.base_url) as client:
        with pytest.raises(UnsupportedRequestError, match="no JSON object"):
            await client.forward("POST", "chat/completions", body)
    assert server.requests == []


async def test_a_query_and_a_longer_path_reach_the_server() -> None:
    async with raw_server(whole(), whole()) as server:
        async with AsyncClient(api_key="k", base_url=server.base_url, default_query={"v": 1}) as client:
            await client.forward("POST", "deployments/gpt/chat/completions", BODY, query="api-version=1")
            options: Any = {"extra_query": {"a": [1, "b"], "c": {"d": True}, "none": None}}
            await client.chat.completions.create(model="m", messages=[], **options)
    assert [request.split(b" ")[1] for request in server.requests] == [
        b"/v1/deployments/gpt/chat/completions?v=1&api-version=1",
        b"/v1/chat/completions?v=1&a[]=1&a[]=b&c[d]=true",
    ]


# --- servers that answer in the other form ---------------------------------------------------------------------------


async def test_a_stream_that_nobody_asked_for_becomes_one_answer() -> None:
    async with raw_server(Script(EVENTS, end="keep")) as server:
        async with AsyncClient(api_key="k", base_url=server.base_url) as client:
            answer = await client.forward("POST", "chat/completions", BODY)
            assert answer.headers["content-type"] == "application/json"
            assert json.loads(await read(answer))["choices"][0]["message"]["content"] == "hi"


async def test_a_whole_answer_to_a_stream_request_becomes_events() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    reply = {"id": "r", "choices": [{"message": {"content": "hi", "tool_calls": [call]}, "finish_reason": "stop"}]}
    async with raw_server(whole(json.dumps(reply).encode())) as server:
        async with AsyncClient(api_key="k", base_url=server.base_url) as client:
            answer = await client.forward("POST", "chat/completions", STREAMED)
            assert answer.headers["content-type"] == "text/event-stream"
            chunk, done, end = (await read(answer)).split(b"\n\n")
    (choice,) = json.loads(chunk.removeprefix(b"data: "))["choices"]
    assert choice["delta"] == {"content": "hi", "tool_calls": [{"index": 0, **call}]}
    assert (done, end) == (b"data: [DONE]", b"")


async def test_a_whole_response_to_a_stream_request_becomes_its_terminal_event() -> None:
    reply = {"id": "r", "status": "completed", "output": [], "output_text": "hi"}
    async with raw_server(whole(json.dumps(reply).encode())) as server:
        async with AsyncClient(api_key="k", base_url=server.base_url) as client:
            answer = await client.forward("POST", "responses", b'{"model": "m", "input": "a", "stream": true}')
            created, completed, _ = (await read(answer)).split(b"\n\n")
    assert created.startswith(b"event: response.created\n")
    assert json.loads(completed.partition(b"data: ")[2])["response"] == reply


async def test_a_whole_response_to_a_stream_request_has_its_text_and_calls_in_events() -> None:
    text = {"type": "output_text", "text": "hi", "annotations": [], "logprobs": [{"token": "hi", "logprob": -0.1}]}
    parts = [text, {"type": "refusal", "refusal": "no"}, {"type": "new"}]
    message = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": parts}
    thought = {"type": "reasoning", "id": "t", "summary": []}
    call = {"type": "function_call", "id": "f", "call_id": "c", "name": "look", "arguments": "{}"}
    for status in ("completed", "incomplete"):
        reply = {"id": "r", "status": status, "output": [thought, message, call]}
        async with raw_server(whole(json.dumps(reply).encode())) as server:
            async with AsyncClient(api_key="k", base_url=server.base_url) as client:
                answer = await client.forward("POST", "responses", b'{"model": "m", "input": "a", "stream": true}')
                events = [json.loads(one.partition(b"data: ")[2]) for one in (await read(answer)).split(b"\n\n")[:-1]]
        said = [(one["type"].removeprefix("response."), one.get("delta")) for one in events]
        assert [one for one in said if one[1]] == [
            ("output_text.delta", "hi"),
            ("refusal.delta", "no"),
            ("function_call_arguments.delta", "{}"),
        ]
        assert [one["sequence_number"] for one in events] == list(range(len(events)))
        assert (events[0]["response"]["output"], events[-1]["response"]) == ([], reply)
        assert (said[-1][0], said[1][0]) == (status, "output_item.added")
        # Without its end, the events say all of it: each item, and what it is about.
        assert [one["item"] for one in events if one["type"] == "response.output_item.done"] == reply["output"]
        cut = Assembler()
        cut.add(*(decode_event(encode(one)) for one in events if not one["type"].endswith((".done", status))))
        assert [item.type for item in cut.whole().output] == ["reasoning", "message", "function_call"]
        assert (cut.whole().output_text, cut.whole().refusal) == ("hi", "no")


# --- failures --------------------------------------------------------------------------------------------------------


async def test_failures_before_the_first_event_are_retried(simulator: Simulator) -> None:
    simulator.faults = [Fault("status", status=500, times=1), Fault("cut_stream", at=0, times=1)]
    async with AsyncClient(api_key="k", base_url=simulator.base_url, retry=Retry(base=0.001)) as client:
        body = json.dumps({"model": NANO, "messages": [{"role": "user", "content": "Hi"}], "stream": True}).encode()
        answer = await client.forward("POST", "chat/completions", body)
        assert b"data: [DONE]" in await read(answer)
    assert answer.info.attempts == 3


async def test_the_last_failure_is_raised(simulator: Simulator) -> None:
    simulator.faults = [Fault("status", status=500)]
    async with AsyncClient(api_key="k", base_url=simulator.base_url, retry=Retry(attempts=2, base=0.001)) as client:
        with pytest.raises(InternalServerError):
            await client.forward("POST", "chat/completions", BODY.replace(b'"m"', f'"{NANO}"'.encode()))
    assert len(simulator.ledger) == 2


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (Script(EVENTS[:1], end="eof"), TruncatedStreamError),
        (Script(EVENTS[:1], end="reset"), TruncatedStreamError),
        (Script([EVENTS[0], b'data: {"error": {"message": "no"}}\n\n'], end="keep"), StreamError),
        (Script([EVENTS[0], b"data: {broken\n\n"], end="keep"), APIResponseValidationError),
        (Script(EVENTS[:1], end="stall"), APITimeoutError),
    ],
    ids=["cut", "reset", "error event", "garbage", "silence"],
)
async def test_a_stream_that_fails_gives_all_its_bytes_and_then_the_error(
    script: Script, expected: type[Exception]
) -> None:
    async with raw_server(script) as server:
        timeout = Timeout(total=5, idle=0.05 if expected is APITimeoutError else 5)
        async with AsyncClient(api_key="k", base_url=server.base_url, timeout=timeout) as client:
            answer = await client.forward("POST", "chat/completions", STREAMED)
            seen: list[bytes] = []

            async def take() -> None:
                async for piece in answer:
                    seen.append(piece)  # noqa: PERF401

            with pytest.raises(expected):
                await take()
            assert b"".join(seen) == b"".join(script.chunks)
            assert gate(client).in_flight == 0


# --- who leaves early ------------------------------------------------------------------------------------------------


async def test_closing_a_stream_gives_the_permit_back_at_once_and_drops_the_connection() -> None:
    async with raw_server(Script(EVENTS[:1], end="stall")) as server:
        async with AsyncClient(api_key="k", base_url=server.base_url) as client:
            answer = await client.forward("POST", "chat/completions", STREAMED)
            assert await anext(aiter(answer)) == EVENTS[0]
            await answer.close()
            assert gate(client).in_flight == 0
            await until(lambda: server.open_connections == 0)
            await answer.close()


@pytest.mark.parametrize(
    "script",
    [whole(), Script(EVENTS, end="keep"), Script(EVENTS[:1], end="stall")],
    ids=["whole", "stream", "stalled"],
)
async def test_forwarding_may_be_cancelled_at_any_step(script: Script) -> None:
    body = BODY if script.content_type == "application/json" else STREAMED
    tasks_before = asyncio.all_tasks()
    async with raw_server(script) as server:
        limits = Limits(concurrency=1)
        async with AsyncClient(api_key="k", base_url=server.base_url, limits=limits) as client:

            async def call() -> None:
                answer = await client.forward("POST", "chat/completions", body)
                async for _ in answer:
                    pass

            for step in range(60 if script.end == "stall" else STEPS):
                task = asyncio.ensure_future(call())
                await turns(step)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                assert (gate(client).in_flight, gate(client).waiting) == (0, 0)
                if not task.cancelled():
                    break
            assert task.cancelled() == (script.end == "stall")
        await until(lambda: server.open_connections == 0)
    await until(lambda: asyncio.all_tasks() == tasks_before)


async def test_a_stream_that_nobody_reads_on_keeps_no_permit() -> None:
    async with raw_server(Script(EVENTS[:1], end="stall")) as server:
        async with AsyncClient(api_key="k", base_url=server.base_url) as client:
            answer = await client.forward("POST", "chat/completions", STREAMED)
            assert gate(client).in_flight == 1
            del answer
            await until(lambda: gate(client).in_flight == 0)


async def test_of_two_hedged_streams_the_loser_holds_nothing() -> None:
    async with raw_server(Script(head=b"", end="stall"), Script(EVENTS, end="keep")) as server:
        hedge = Hedge(after=0.01, max_extra=1.0)
        async with AsyncClient(api_key="k", base_url=server.base_url, hedge=hedge) as client:
            answer = await client.forward("POST", "chat/completions", STREAMED)
            assert await read(answer) == b"".join(EVENTS)
            assert gate(client).in_flight == 0
    assert len(server.requests) == 2


# --- other paths -----------------------------------------------------------------------------------------------------


async def test_another_path_goes_to_the_first_endpoint_once_and_as_it_is() -> None:
    async with raw_server(whole(b"[1]", status=500)) as server, raw_server(whole()) as other:
        endpoints = [Endpoint(base_url=s.base_url, api_key=KEY) for s in (server, other)]
        async with AsyncClient(endpoints=endpoints) as client:
            answer = await client.forward(
                "POST", "files", b"--x--", query="a=b%20c", extra_headers={"content-type": "multipart/form-data"}
            )
            assert answer.status == 500
            assert await read(answer) == b"[1]"
            assert gate(client).in_flight == 0
    (request,) = server.requests
    assert request.startswith(b"POST /v1/files?a=b%20c HTTP/1.1\r\n")
    assert b"Content-Type: multipart/form-data" in request
    assert b"application/json\r\n" not in request.partition(b"Content-Type")[2]
    assert f"Authorization: Bearer {KEY}".encode() in request
    assert server.bodies == [b"--x--"]
    assert other.requests == []


@pytest.mark.parametrize(
    ("method", "first", "requests"),
    [
        ("POST", {"status": 429}, 2),
        ("POST", {"status": 503}, 2),
        ("POST", {"status": 500}, 1),
        ("POST", {"status": 502}, 1),
        ("GET", {"status": 502}, 2),
        ("DELETE", {"status": 504}, 2),
    ],
)
async def test_another_path_is_sent_again_where_that_does_no_harm(
    method: str, first: dict[str, Any], requests: int
) -> None:
    async with raw_server(whole(b"no", **first), whole(b"yes")) as server:
        retry = Retry(base=0.001, throttle_base=0.001)
        async with AsyncClient("k", server.base_url, retry=retry, limits=LEARNS_NOTHING) as client:
            answer = await client.forward(method, "embeddings", b"{}" if method == "POST" else None)
            assert await read(answer) == (b"yes" if requests == 2 else b"no")
            assert answer.status == (200 if requests == 2 else first["status"])
            assert answer.info.attempts == requests
            assert gate(client).in_flight == 0
    assert len(server.requests) == requests


async def test_another_path_waits_for_its_permit_and_holds_it_until_its_last_byte() -> None:
    async with raw_server(Script([b"a"], end="stall"), whole(b"yes")) as server:
        async with AsyncClient(api_key="k", base_url=server.base_url, limits=Limits(concurrency=1)) as client:
            first = await client.forward("POST", "embeddings", b"{}")
            second = asyncio.ensure_future(client.forward("POST", "embeddings", b"{}"))
            await until(lambda: gate(client).waiting == 1)
            assert len(server.requests) == 1
            await first.close()
            assert await read(await second) == b"yes"
            assert gate(client).in_flight == 0


async def test_another_path_that_nobody_reads_on_keeps_no_permit() -> None:
    async with raw_server(Script([b"a"], end="stall")) as server:
        async with AsyncClient(api_key="k", base_url=server.base_url) as client:
            answer = await client.forward("GET", "files")
            assert gate(client).in_flight == 1
            del answer
            await until(lambda: gate(client).in_flight == 0)


async def test_another_path_that_fails_does_not_show_the_key() -> None:
    async with raw_server(whole(f"your key {KEY} is bad".encode(), status=401)) as server:
        async with AsyncClient(api_key=KEY, base_url=server.base_url) as client:
            assert await read(await client.forward("GET", "files")) == b"your key [key] is bad"


@pytest.mark.parametrize("script", [Script(head=b"", end="stall"), Script([b"a"], end="stall")], ids=["head", "body"])
async def test_another_path_is_bounded_too(script: Script) -> None:
    async with raw_server(script) as server:
        async with AsyncClient(api_key="k", base_url=server.base_url) as client:
            with pytest.raises(APITimeoutError):
                await read(await client.forward("GET", "files", timeout=Timeout(total=0.05, idle=0.05)))
        await until(lambda: server.open_connections == 0)


async def test_a_call_counts_against_the_budget_it_brings(simulator: Simulator) -> None:
    own, clients = Budget(1.0), Budget(1.0)
    endpoint = Endpoint.aimlapi(api_key="k", base_url=simulator.base_url)
    body = json.dumps({"model": NANO, "messages": [{"role": "user", "content": "Hello"}]}).encode()
    async with AsyncClient(endpoints=[endpoint], budget=clients) as client:
        await read(await client.forward("POST", "chat/completions", body, budget=own))
        assert own.spent > 0
        assert clients.spent == 0
        with pytest.raises(BudgetExceededError):
            await client.chat.completions.create(model=NANO, messages=[], budget=Budget(0.0))
