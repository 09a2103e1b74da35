"""`parse` with tools: arguments as values, with a type for the answer or without, whole and streamed."""

from __future__ import annotations

import importlib
import json
from typing import Any

import msgspec
import pytest

from aimlasync import AnswerError, AnswerInvalidError, AnswerTruncatedError, AsyncClient
from tests.support.servers import Script, raw_server

openai: Any = pytest.importorskip("openai", reason="pip install 'aimlasync[test]' runs these tests")
pydantic: Any = importlib.import_module("pydantic")

HELLO: Any = [{"role": "user", "content": "Hi"}]


class Weather(pydantic.BaseModel):  # type: ignore[misc]
    city: str
    days: int


class Ticket(msgspec.Struct):
    team: str


LOOK_UP = {"name": "look_up", "strict": True, "parameters": {"type": "object", "properties": {}}}
LOOSE = {"name": "loose", "parameters": {"type": "object", "properties": {}}}
GOOD = '{"city": "Rome", "days": 2}'


def tools() -> list[Any]:
    made = openai.pydantic_function_tool(Weather)
    return [made, {"type": "function", "function": LOOK_UP}, {"type": "function", "function": LOOSE}]


def completion(*calls: tuple[str, str], content: str | None = None, finish: str = "tool_calls") -> Script:
    made = [{"id": n, "type": "function", "function": {"name": n, "arguments": a}} for n, a in calls]
    message = {"role": "assistant", "content": content, "tool_calls": made or None}
    return whole({"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": finish}]})


def response(*items: dict[str, Any]) -> Script:
    return whole({"id": "r", "status": "completed", "output": items})


def whole(value: Any) -> Script:
    return Script([json.dumps(value).encode()], content_type="application/json", end="keep")


CALLS = (("Weather", GOOD), ("look_up", '{"a": 1}'), ("loose", "{}"))


@pytest.mark.parametrize("form", [None, Ticket], ids=["no type", "a type"])
async def test_calls_of_a_completion_have_their_arguments_as_values(form: Any) -> None:
    async with raw_server(completion(*CALLS)) as server, AsyncClient("k", server.base_url) as client:
        reply = await client.chat.completions.parse(
            model="m", messages=HELLO, tools=iter(tools()), response_format=form
        )
    calls = reply.choices[0].message.tool_calls
    assert calls is not None
    assert [call.function.parsed_arguments for call in calls] == [Weather(city="Rome", days=2), {"a": 1}, None]
    assert reply.parsed is None
    dumped = reply.model_dump()["choices"][0]["message"]["tool_calls"]
    assert dumped[0]["function"] == {"name": "Weather", "arguments": GOOD, "parsed_arguments": json.loads(GOOD)}
    assert "parsed_arguments" not in reply.to_json()
    (body,) = map(json.loads, server.bodies)
    assert [tool["function"]["name"] for tool in body["tools"]] == ["Weather", "look_up", "loose"]
    assert ("response_format" in body) == (form is not None)


async def test_calls_of_a_response_have_their_arguments_as_values_and_texts_theirs() -> None:
    def item(name: str, arguments: str) -> dict[str, Any]:
        return {"type": "function_call", "call_id": name, "name": name, "arguments": arguments}

    def message(text: str) -> dict[str, Any]:
        return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}

    flat: list[Any] = [openai.pydantic_function_tool(Weather), {"type": "function", **LOOK_UP}]
    scripts = (
        response(*(item(*call) for call in CALLS[:2])),
        response({"type": "reasoning", "id": "x", "summary": []}, message('{"team": "sales"}')),
    )
    async with raw_server(*scripts) as server, AsyncClient("k", server.base_url) as client:
        called: Any = await client.responses.parse(model="m", input="Hi", tools=flat)
        assert [each.parsed_arguments for each in called.output] == [Weather(city="Rome", days=2), {"a": 1}]
        assert called.output_parsed is None
        told: Any = await client.responses.parse(model="m", input="Hi", tools=flat, text_format=Ticket)
    assert told.output[1].content[0].parsed == told.output_parsed == Ticket("sales")
    assert told.model_dump()["output"][1]["content"][0]["parsed"] == {"team": "sales"}
    assert [tool["name"] for tool in json.loads(server.bodies[0])["tools"]] == ["Weather", "look_up"]


@pytest.mark.parametrize(
    ("script", "kind", "said"),
    [
        (completion(("Weather", '{"city": "Rome"}')), AnswerInvalidError, "arguments of Weather do not fit: .*days"),
        (completion(("look_up", "{a")), AnswerInvalidError, "arguments of look_up do not fit"),
        (
            completion(("Weather", '{"city'), finish="length"),
            AnswerTruncatedError,
            "cut by an output cap before it was",
        ),
    ],
    ids=["wrong", "no JSON", "cut"],
)
async def test_arguments_that_do_not_fit_are_an_error_with_the_reply(
    script: Script, kind: type[AnswerError], said: str
) -> None:
    async with raw_server(script) as server, AsyncClient("k", server.base_url) as client:
        with pytest.raises(kind, match=f"(?s){said}") as caught:
            await client.chat.completions.parse(model="m", messages=HELLO, tools=tools())
    assert caught.value.reply.choices[0].message.tool_calls


async def test_a_refusal_without_a_type_is_read() -> None:
    refused = whole({"id": "c", "choices": [{"message": {"refusal": "no"}, "finish_reason": "stop"}]})
    async with raw_server(refused) as server, AsyncClient("k", server.base_url) as client:
        reply = await client.chat.completions.parse(model="m", messages=HELLO, tools=tools())
    assert reply.choices[0].message.refusal == "no"


def streamed(arguments: str, finish: str = "tool_calls") -> Script:
    call = {"index": 0, "id": "x", "type": "function", "function": {"name": "Weather", "arguments": arguments}}
    choices = [{"index": 0, "delta": {"tool_calls": [call]}}, {"index": 0, "delta": {}, "finish_reason": finish}]
    events = [b"data: %b\n\n" % json.dumps({"id": "c", "choices": [choice]}).encode() for choice in choices]
    return Script([*events, b"data: [DONE]\n\n"])


async def test_a_streamed_completion_has_its_arguments_as_values() -> None:
    async with raw_server(streamed(GOOD)) as server, AsyncClient("k", server.base_url) as client:
        async with client.chat.completions.stream(model="m", messages=HELLO, tools=tools()) as events:
            reply = await events.get_final_completion()
    calls = reply.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].function.parsed_arguments == Weather(city="Rome", days=2)


async def test_a_streamed_call_that_is_cut_raises_what_parse_raises() -> None:
    async with raw_server(streamed('{"city', "length")) as server, AsyncClient("k", server.base_url) as client:
        async with client.chat.completions.stream(model="m", messages=HELLO, tools=tools()) as events:
            with pytest.raises(AnswerTruncatedError):
                await events.get_final_completion()


async def test_a_streamed_response_has_its_arguments_as_values() -> None:
    item = {"type": "function_call", "call_id": "c", "name": "Weather", "arguments": GOOD}
    done = {"type": "response.completed", "response": {"id": "r", "status": "completed", "output": [item]}}
    script = Script([b"data: %b\n\n" % json.dumps(done).encode()])
    async with raw_server(script) as server, AsyncClient("k", server.base_url) as client:
        tool = openai.pydantic_function_tool(Weather)
        async with client.responses.stream(model="m", input="Hi", tools=[tool]) as events:
            reply: Any = await events.get_final_response()
    assert reply.output[0].parsed_arguments == Weather(city="Rome", days=2)
    assert json.loads(server.bodies[0])["tools"][0]["name"] == "Weather"
