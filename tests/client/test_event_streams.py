"""`chat.completions.stream` and `responses.stream`: AsyncOpenAI's events over our streams."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import msgspec
import pytest

from aimlasync import AsyncClient, LengthFinishReasonError, TruncatedStreamError
from tests.support.servers import Script, raw_server

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


class Ticket(msgspec.Struct):
    team: str


def chunks(*deltas: dict[str, Any], finish: str = "stop", done: bool = True, **more: Any) -> Script:
    said = [{"index": 0, "delta": delta, **more} for delta in deltas]
    if done:
        said.append({"index": 0, "delta": {}, "finish_reason": finish})
    events = [b"data: %b\n\n" % json.dumps({"id": "c", "model": "m", "choices": [choice]}).encode() for choice in said]
    return Script([*events, b"data: [DONE]\n\n"] if done else events)


def call(index: int, **function: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, "id": f"id{index}", "type": "function", "function": function}]}


async def events_of(script: Script, **options: Any) -> tuple[list[Any], Any]:
    async with raw_server(script) as server, AsyncClient("k", server.base_url) as client:
        async with client.beta.chat.completions.stream(**CHAT, **options) as stream:
            events = [event async for event in stream]
            return events, await stream.get_final_completion()


async def test_a_text_comes_as_deltas_with_a_snapshot_and_is_done_once() -> None:
    events, reply = await events_of(chunks({"role": "assistant", "content": "Hel"}, {"content": "lo"}))
    assert [event.type for event in events] == ["chunk", "content.delta"] * 2 + ["chunk", "content.done"]
    assert [(e.delta, e.snapshot) for e in events if e.type == "content.delta"] == [("Hel", "Hel"), ("lo", "Hello")]
    assert (events[-1].content, events[-1].parsed, reply.text) == ("Hello", None, "Hello")
    assert events[0].chunk.choices[0].delta.content == "Hel"
    assert events[0].snapshot.text == "Hello"


async def test_an_answer_of_a_type_is_parsed_as_it_comes_and_at_its_end() -> None:
    script = chunks({"content": '{"team": "bil'}, {"content": 'ling"}'})
    events, reply = await events_of(script, response_format=Ticket)
    assert [e.parsed for e in events if e.type == "content.delta"] == [{"team": "bil"}, {"team": "billing"}]
    assert events[-1].parsed == reply.choices[0].message.parsed == Ticket("billing")


async def test_an_answer_of_a_type_that_is_cut_raises_what_parse_raises() -> None:
    with pytest.raises(LengthFinishReasonError):
        await events_of(chunks({"content": '{"te'}, finish="length"), response_format=Ticket)


async def test_calls_come_as_arguments_and_are_done_each() -> None:
    strict = {"type": "function", "function": {"name": "f", "parameters": {}, "strict": True}}
    loose = {"type": "function", "function": {"name": "g", "parameters": {}}}
    pieces = [call(0, name="f", arguments=""), call(0, arguments='{"a"'), call(0, arguments=": 1}")]
    script = chunks(*pieces, call(1, name="g", arguments="{}"), finish="tool_calls")
    events, reply = await events_of(script, tools=(tool for tool in (strict, loose)))
    deltas = [e for e in events if e.type == "tool_calls.function.arguments.delta"]
    assert [(e.name, e.index, e.arguments_delta, e.arguments) for e in deltas] == [
        ("f", 0, "", ""),
        ("f", 0, '{"a"', '{"a"'),
        ("f", 0, ": 1}", '{"a": 1}'),
        ("g", 1, "{}", "{}"),
    ]
    done = [e for e in events if e.type == "tool_calls.function.arguments.done"]
    assert [(e.name, e.parsed_arguments) for e in done] == [("f", {"a": 1}), ("g", None)]
    assert [each.function.name for each in reply.choices[0].message.tool_calls] == ["f", "g"]


@pytest.mark.parametrize("index", [0, None, "none"], ids=["all 0", "null", "none"])
@pytest.mark.parametrize("together", [False, True])
async def test_calls_without_an_index_of_their_own_are_told_apart(together: bool, index: Any) -> None:
    # Gemini's endpoint says none, and gateways say 0.
    calls = [call(0, name=name, arguments='{"a": 1}')["tool_calls"][0] | {"id": f"id {name}"} for name in "fg"]
    for each in calls:
        each["index"] = index
        if index == "none":
            del each["index"]
    deltas = [{"tool_calls": calls}] if together else [{"tool_calls": [each]} for each in calls]
    strict = [{"type": "function", "function": {"name": name, "parameters": {}, "strict": True}} for name in "fg"]
    events, reply = await events_of(chunks(*deltas, finish="tool_calls"), tools=strict)
    done = [e for e in events if e.type == "tool_calls.function.arguments.done"]
    assert [(e.name, e.index, e.arguments, e.parsed_arguments) for e in done] == [
        ("f", 0, '{"a": 1}', {"a": 1}),
        ("g", 1, '{"a": 1}', {"a": 1}),
    ]
    assert [each.function.name for each in reply.choices[0].message.tool_calls] == ["f", "g"]


async def test_events_dump_themselves_with_all_that_the_server_sent() -> None:
    events, reply = await events_of(chunks({"content": "Hi", "mood": "calm"}, logprobs={"content": [{"token": "Hi"}]}))
    said = {event.type: json.loads(event.model_dump_json(exclude_none=True)) for event in events}
    assert {kind: each["type"] for kind, each in said.items()} == {kind: kind for kind in said}
    for event in events:
        for twin in (copy.deepcopy(event), pickle.loads(pickle.dumps(event))):
            assert (twin.type, twin.to_dict()) == (event.type, event.to_dict())
    assert events[0].model_dump()["chunk"]["choices"][0]["delta"] == {"content": "Hi", "mood": "calm"}
    assert said["logprobs.content.delta"]["content"][0]["token"] == "Hi"
    assert said["chunk"]["snapshot"]["choices"][0]["message"]["content"] == reply.text == "Hi"


async def test_the_text_before_a_call_is_done_before_the_call_is() -> None:
    script = chunks({"content": "Let me look."}, call(0, name="f", arguments="{}"), finish="tool_calls")
    events, _ = await events_of(script)
    kinds = [event.type for event in events if event.type != "chunk"]
    assert kinds == [
        "content.delta",
        "tool_calls.function.arguments.delta",
        "content.done",
        "tool_calls.function.arguments.done",
    ]


async def test_refusals_and_logprobs_have_events() -> None:
    token = {"token": "No", "logprob": -0.5, "bytes": None, "top_logprobs": []}
    events, _ = await events_of(chunks({"refusal": "No"}, logprobs={"content": None, "refusal": [token]}))
    kinds = ["chunk", "refusal.delta", "logprobs.refusal.delta", "chunk", "refusal.done", "logprobs.refusal.done"]
    assert [event.type for event in events] == kinds
    assert (events[4].refusal, events[5].refusal[0].token) == ("No", "No")


async def test_a_stream_that_is_cut_raises_and_one_that_is_left_is_closed() -> None:
    with pytest.raises(TruncatedStreamError):
        await events_of(chunks({"content": "Hel"}, done=False))
    async with raw_server(chunks({"content": "Hel"}, {"content": "lo"})) as server:
        async with AsyncClient("k", server.base_url) as client:
            async with client.chat.completions.stream(**CHAT) as stream:
                async for _ in stream:
                    break
            assert client.statistics()[0].in_flight == 0


def response_script(text: str) -> Script:
    item: dict[str, Any] = {"id": "i", "type": "message", "role": "assistant", "status": "completed"}
    item["content"] = [{"type": "output_text", "text": text, "annotations": []}]
    base: dict[str, Any] = {"id": "r", "object": "response", "created_at": 1, "model": "m", "output": []}
    at = {"item_id": "i", "output_index": 0, "content_index": 0}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {**base, "status": "in_progress"}},
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": []}},
        {"type": "response.output_text.delta", **at, "delta": text[:5]},
        {"type": "response.output_text.delta", **at, "delta": text[5:]},
        {"type": "response.output_text.done", **at, "text": text},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {**base, "status": "completed", "output": [item]}},
    ]
    return Script([f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events])


async def test_a_response_comes_as_its_events_with_snapshots_and_the_value() -> None:
    text = '{"team": "billing"}'
    async with raw_server(response_script(text)) as server, AsyncClient("k", server.base_url) as client:
        async with client.responses.stream(model="m", input="Hi", text_format=Ticket) as stream:
            events = [event async for event in stream]
            reply = await stream.get_final_response()
    assert [e.snapshot for e in events if e.type == "response.output_text.delta"] == [text[:5], text]
    assert [e.parsed for e in events if e.type == "response.output_text.done"] == [Ticket("billing")]
    assert (reply.parsed, reply.output_text, events[-1].type) == (Ticket("billing"), text, "response.completed")
    assert json.loads(server.bodies[0])["text"]["format"]["type"] == "json_schema"


@pytest.mark.parametrize("indices", [(0, 1), (0, 0), (None, None)], ids=str)
async def test_the_snapshot_of_an_item_has_nothing_of_the_one_before(indices: tuple[int | None, ...]) -> None:
    item = {"type": "function_call", "name": "f", "arguments": '{"a": 1}', "status": "completed"}
    events: list[dict[str, Any]] = []
    for number, index in enumerate(indices):
        at = {} if index is None else {"output_index": index}
        own = {**item, "id": f"i{number}", "call_id": f"c{number}"}
        events.append({"type": "response.output_item.added", **at, "item": {**own, "arguments": ""}})
        delta = {"type": "response.function_call_arguments.delta", **at, "item_id": own["id"]}
        events += [{**delta, "delta": '{"a"'}, {**delta, "delta": ": 1}"}]
        events.append({"type": "response.output_item.done", **at, "item": own})
    events.append({"type": "response.completed", "response": {"id": "r", "status": "completed", "output": []}})
    script = Script([f"data: {json.dumps(event)}\n\n".encode() for event in events])
    async with raw_server(script) as server, AsyncClient("k", server.base_url) as client:
        async with client.responses.stream(model="m", input="Hi") as stream:
            said = [event.snapshot async for event in stream if event.type.endswith(".delta")]
            reply = await stream.get_final_response()
    assert [each["arguments"] for each in reply.to_dict()["output"]] == ['{"a": 1}'] * 2
    assert said == ['{"a"', '{"a": 1}'] * 2


async def test_a_format_that_is_no_type_is_refused_as_parse_refuses_it() -> None:
    async with AsyncClient("k", "http://127.0.0.1:1") as client:
        given: Any = {"model": "m", "input": "Hi", "text_format": {"type": "json_schema"}}
        with pytest.raises(TypeError, match="is no type"):
            client.responses.stream(**given)
        with pytest.raises(TypeError, match="is no type"):
            await client.responses.parse(**given)


async def test_parse_refuses_to_stream_and_says_what_does() -> None:
    streamed: Any = {"stream": True}
    async with raw_server(chunks({"content": "Hi"})) as server, AsyncClient("k", server.base_url) as client:
        for ask in (
            client.chat.completions.parse(**CHAT, response_format=Ticket, **streamed),
            client.beta.chat.completions.parse(**CHAT, **streamed),
            client.responses.parse(model="m", input="Hi", text_format=Ticket, **streamed),
        ):
            with pytest.raises(TypeError, match=r"parse returns a whole answer: .* use \.stream\(\.\.\.\)"):
                await ask
        assert server.requests == []
