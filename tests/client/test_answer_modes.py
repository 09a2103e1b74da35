"""Structured answers from models that do not know JSON schemas: each is asked in the surest way that it has."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Literal

import msgspec
import pytest

from aimlasync import (
    AnswerInvalidError,
    APIStatusError,
    AsyncClient,
    BadRequestError,
    Endpoint,
    Retry,
    UnsupportedRequestError,
)
from aimlasync.simulator import Answer, Call, Problem, SimRequest, Simulator
from aimlasync.structured.modes import MODES
from tests.support.servers import Script, raw_server

MODEL = "openai/gpt-4.1-nano-2025-04-14"


class Ticket(msgspec.Struct):
    """What a customer wants."""

    team: Literal["support", "billing", "sales"]
    urgent: bool
    words: list[str]


TEXT = "Please send the invoice to the billing team."
MESSAGES = [{"role": "system", "content": "Sort the mail."}, {"role": "user", "content": TEXT}]


async def ask(client: AsyncClient, api: str, **options: Any) -> Any:
    if api == "chat":
        return await client.chat.completions.parse(model=MODEL, messages=MESSAGES, response_format=Ticket, **options)
    return await client.responses.parse(
        model=MODEL, input=TEXT, instructions="Sort the mail.", text_format=Ticket, **options
    )


@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("vendor", ["aimlapi", "openai"])
@pytest.mark.parametrize("kind", MODES)
async def test_each_kind_of_model_answers_and_refuses_once(kind: Any, vendor: Any, api: str) -> None:
    async with Simulator(vendor=vendor, structured=kind) as simulator:
        async with AsyncClient("k", simulator.base_url, retry=Retry(attempts=1)) as client:
            first = await ask(client, api)
            assert (first.parsed.team, first.info.structured) == ("billing", kind)
            assert first.info.attempts == MODES.index(kind) + 1
            again = await asyncio.gather(*(ask(client, api) for _ in range(5)))
            assert [each.info.structured for each in again] == [kind] * 5
            assert {each.parsed.team for each in again} == {"billing"}
    assert simulator.ledger.by_status().get(400, 0) == MODES.index(kind)


@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("kind", MODES)
async def test_a_way_can_be_fixed(kind: Any, api: str) -> None:
    async with Simulator(keep_bodies=True) as simulator:
        async with AsyncClient("k", simulator.base_url) as client:
            reply = await ask(client, api, structured=kind)
            assert (reply.parsed.team, reply.info.structured, reply.info.attempts) == ("billing", kind, 1)
    body: Any = simulator.ledger[0].body
    form = body.get("response_format") if api == "chat" else body.get("text", {}).get("format")
    assert (form or {}).get("type") == {"tool": None, "text": None}.get(kind, kind)
    assert ("tools" in body) is (kind == "tool")
    assert "structured" not in body
    said = json.dumps(body.get("messages", body.get("input")))
    assert ("JSON schema" in said) is (kind in ("json_object", "text"))


async def test_a_fixed_way_that_is_refused_is_the_servers_error() -> None:
    async with Simulator(structured="text") as simulator:
        async with AsyncClient("k", simulator.base_url) as client:
            with pytest.raises(BadRequestError, match="json_object"):
                await ask(client, "chat", structured="json_object")
    assert len(simulator.ledger) == 1


async def test_a_way_that_there_is_not_is_refused_before_anything_is_sent() -> None:
    async with Simulator() as simulator, AsyncClient("k", simulator.base_url) as client:
        with pytest.raises(UnsupportedRequestError, match="structured must be one of 'auto', 'json_schema'"):
            await ask(client, "chat", structured="json")
    assert len(simulator.ledger) == 0


async def test_create_sends_a_schema_as_it_is_unless_it_is_told_otherwise() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "T", "schema": {"type": "object", "properties": {}}}}
    async with Simulator(structured="tool", keep_bodies=True) as simulator:
        async with AsyncClient("k", simulator.base_url) as client:
            with pytest.raises(BadRequestError):
                await client.chat.completions.create(model=MODEL, messages=MESSAGES, response_format=form)
            reply = await client.chat.completions.create(
                model=MODEL, messages=MESSAGES, response_format=form, structured="auto"
            )
            assert reply.choices[0].message.tool_calls is not None
            stream = await client.chat.completions.create(
                model=MODEL, messages=MESSAGES, response_format=form, structured="auto", stream=True
            )
            assert stream.info.structured == "tool"
            assert (await stream.collect()).choices[0].message.tool_calls


async def test_what_is_no_refusal_of_the_way_is_raised_at_once_and_teaches_nothing() -> None:
    def answer(request: SimRequest) -> None:
        raise Problem(400, "messages[0].content: Expected a string")

    async with Simulator(answer=answer) as simulator, AsyncClient("k", simulator.base_url) as client:
        with pytest.raises(BadRequestError, match="content"):
            await ask(client, "chat")
        assert len(simulator.ledger) == 1


async def test_a_request_that_is_refused_in_every_way_teaches_nothing() -> None:
    broken = True

    def answer(request: SimRequest) -> None:
        if broken:
            raise Problem(400, "response_format and tools cannot be used with this prompt")

    async with Simulator(answer=answer) as simulator, AsyncClient("k", simulator.base_url) as client:
        with pytest.raises(BadRequestError, match="cannot be used"):
            await ask(client, "chat")
        assert len(simulator.ledger) == len(MODES)
        broken = False
        assert (await ask(client, "chat")).info.structured == "json_schema"


async def test_each_endpoint_is_asked_in_its_own_way_and_learns_for_itself() -> None:
    async with Simulator(vendor="openai", structured="json_object") as weak, Simulator(vendor="openai") as sure:
        endpoints = [
            Endpoint(base_url=each.base_url, api_key="k", name=name) for name, each in (("weak", weak), ("sure", sure))
        ]
        async with AsyncClient(endpoints=endpoints) as client:
            ways = set()
            for key in map(str, range(12)):
                reply = await ask(client, "chat", affinity=key)
                ways.add((reply.info.endpoint, reply.info.structured))
                assert reply.parsed.team == "billing"
    assert ways == {("weak", "json_object"), ("sure", "json_schema")}
    assert weak.ledger.by_status()[400] == 2


async def test_users_tools_stay_usable_beside_the_answer() -> None:
    tools = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}]
    async with raw_server(_script(*REFUSALS[0]), GOOD) as server, AsyncClient("k", server.base_url) as client:
        await ask(client, "chat", tools=tools)
        body = json.loads(server.bodies[1])
    assert [tool["function"]["name"] for tool in body["tools"]] == ["look_up", "give_final_answer"]
    assert body["tool_choice"] == "required"


@pytest.mark.parametrize("kind", MODES)
async def test_an_answer_of_another_type_is_the_same_error_in_each_way(kind: Any) -> None:
    wrong = '{"team":"legal","urgent":true,"words":[]}'

    def answer(request: SimRequest) -> Answer:
        return Answer(calls=[Call("give_final_answer", wrong)]) if request.tools else Answer(text=wrong)

    async with Simulator(structured=kind, answer=answer) as simulator:
        async with AsyncClient("k", simulator.base_url) as client:
            with pytest.raises(AnswerInvalidError, match=r"the answer is not a Ticket: Invalid enum value 'legal'"):
                await ask(client, "chat")


# Refusals as servers word them.
REFUSALS = [
    # DeepSeek
    (400, {"error": {"message": "This response_format type is unavailable now", "type": "invalid_request_error"}}),
    # OpenAI, gpt-4 and gpt-3.5
    (
        400,
        {
            "error": {
                "message": "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this "
                "model. Learn more about supported models at the Structured Outputs guide",
                "param": None,
            }
        },
    ),
    # Groq
    (400, {"error": {"message": "This model does not support response format `json_schema`. See supported models"}}),
    # llama-cpp-python, Mistral (FastAPI)
    (
        422,
        {
            "detail": [
                {
                    "type": "literal_error",
                    "loc": ["body", "response_format", "type"],
                    "msg": "Input should be 'text' or 'json_object'",
                }
            ]
        },
    ),
    # a strict gateway
    (422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "response_format"], "msg": "Extra inputs"}]}),
    # OpenRouter
    (404, {"error": {"message": "No endpoints found that support structured outputs", "code": 404}}),
    # LiteLLM
    (400, {"error": {"message": "litellm.UnsupportedParamsError: x does not support parameters: ['response_format']"}}),
    # a server behind a server
    (500, {"error": {"message": "response_format is not supported by the backend"}}),
    # Gemini, with tools beside the schema
    (400, {"error": {"message": "Function calling with a response mime type: 'application/json' is unsupported"}}),
    # Gemini, whose endpoint translates the schema
    (400, [{"error": {"message": "Unknown name \"$ref\" at 'generation_config.response_schema': Cannot find field"}}]),
    # TGI
    (422, {"error": "Input validation error: grammar is not supported", "error_type": "validation"}),
    (501, {"error": {"message": "json_schema: not implemented"}}),
]
# What only looks like one.
OTHERS = [
    (400, {"error": {"message": "Invalid schema for response_format 'T': 'additionalProperties' is required"}}),
    (400, {"error": {"message": "Failed to generate JSON. See 'failed_generation'", "code": "json_validate_failed"}}),
    (400, {"error": {"message": "This model's maximum context length is 8192 tokens"}}),
    (401, {"error": {"message": "your key may not use response_format"}}),
    (429, {"error": {"message": "rate limit on response_format"}}),
    (400, {"error": {"message": "bad request"}}),
]


def _script(status: int, body: Any) -> Script:
    return Script([json.dumps(body).encode()], status=status, content_type="application/json", end="keep")


GOOD = _script(
    200,
    {
        "id": "1",
        "object": "chat.completion",
        "choices": [
            {"index": 0, "message": {"content": '{"team":"sales","urgent":false,"words":[]}'}, "finish_reason": "stop"}
        ],
    },
)


@pytest.mark.parametrize(("status", "body"), REFUSALS)
async def test_refusals_are_known_however_they_are_worded(status: int, body: Any) -> None:
    async with raw_server(_script(status, body), GOOD) as server:
        async with AsyncClient("k", server.base_url, retry=Retry(attempts=1)) as client:
            reply = await ask(client, "chat")
    # The tool was not called, and the text is an answer all the same.
    assert (reply.parsed.team, reply.info.structured, reply.info.attempts) == ("sales", "tool", 2)


UNAVAILABLE = "This response_format type is unavailable now"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        # DeepSeek's reasoner
        ([UNAVAILABLE, "deepseek-reasoner does not support this tool_choice"], "json_object"),
        # Qwen, which thinks
        (
            [
                UNAVAILABLE,
                "The tool_choice parameter does not support being set to required or object in thinking mode",
                "Json mode response is not supported when enable_thinking is true",
            ],
            "text",
        ),
        # Groq
        ([UNAVAILABLE, "tools are not supported", "json mode cannot be combined with tool/function calling"], "text"),
    ],
)
async def test_a_model_may_refuse_several_ways_in_a_row(said: list[str], kind: str) -> None:
    refusals = [_script(400, {"error": {"message": each}}) for each in said]
    async with raw_server(*refusals, GOOD) as server, AsyncClient("k", server.base_url) as client:
        assert (await ask(client, "chat")).info.structured == kind
        assert (await ask(client, "chat")).info.attempts == 1


@pytest.mark.parametrize(("status", "body"), OTHERS)
async def test_other_errors_are_not_taken_for_refusals(status: int, body: Any) -> None:
    async with raw_server(_script(status, body)) as server:
        async with AsyncClient("k", server.base_url, retry=Retry(attempts=1)) as client:
            with pytest.raises(APIStatusError) as caught:
                await ask(client, "chat")
    assert caught.value.info is not None
    assert caught.value.info.attempts == 1


@pytest.mark.parametrize(
    ("messages", "where"),
    [
        ([{"role": "user", "content": "a"}], 0),
        ([{"role": "user", "content": [{"type": "text", "text": "a"}]}], 0),
        ([{"role": "developer", "content": "a"}, {"role": "user", "content": "b"}], 0),
        ([{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}], 1),
        ([{"role": "assistant", "content": "a"}], 0),
    ],
)
async def test_the_schema_joins_a_message_that_is_there(messages: Any, where: int) -> None:
    async with raw_server(GOOD) as server, AsyncClient("k", server.base_url) as client:
        before = json.dumps(messages)
        await client.chat.completions.parse(model="m", messages=messages, response_format=Ticket, structured="text")
        assert json.dumps(messages) == before
        sent = json.loads(server.bodies[0])["messages"]
    assert "JSON schema" in json.dumps(sent[where])
    assert sum("JSON schema" in json.dumps(each) for each in sent) == 1
