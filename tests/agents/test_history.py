"""The second turn has what the first one said: signatures and reasoning as they came, arguments and ids that are valid.

The server answers the first turn with a tool call, and the test reads what the second turn sends.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from aimlasync import AnswerInvalidError, AsyncClient, Limits, agents
from aimlasync.agents import Run
from tests.support.servers import KEY, RawServer, Script, raw_server

CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"city":"Oslo"}'}}

MESSAGES: dict[str, dict[str, Any]] = {
    "gemini": {
        "content": None,
        "tool_calls": [{**CALL, "extra_content": {"google": {"thought_signature": "sig=="}}}],
        "extra_content": {"google": {"thought": True}},
    },
    "deepseek": {"content": "Let me look.", "reasoning_content": "He wants the weather.", "tool_calls": [CALL]},
    "openrouter": {
        "content": "",
        "reasoning": "Weather.",
        "reasoning_details": [
            {
                "type": "reasoning.text",
                "text": "Weather.",
                "signature": "sig",
                "format": "anthropic-claude-v1",
                "index": 0,
            },
            {"type": "reasoning.encrypted", "data": "AAAA", "id": "r1", "format": "openai-responses-v1", "index": 1},
        ],
        "tool_calls": [CALL],
    },
    "anthropic": {
        "content": "Let me look.",
        "thinking_blocks": [{"type": "thinking", "thinking": "Weather.", "signature": "sig"}],
        "provider_specific_fields": {"citations": [["u", 1]]},
        "tool_calls": [CALL],
    },
}

ITEMS: list[dict[str, Any]] = [
    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA", "format": "v1", "content": None},
    {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "Let me look.", "annotations": [], "thought_signature": "s"}],
    },
    {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "call_1",
        "name": "look",
        "arguments": '{"city":"Oslo"}',
        "status": "completed",
        "namespace": "weather",
        "extra_content": {"google": {"thought_signature": "sig"}},
    },
    {"type": "hologram", "id": "h_1", "light": {"nm": 500}},
]


async def look(city: str) -> str:
    """Look at the weather."""
    return f"{city}: rain"


def sse(*events: Any) -> list[bytes]:
    return [b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events)]


def chat_script(message: dict[str, Any], *, stream: bool, reason: str = "tool_calls") -> Script:
    head = {"id": "x", "model": "m"}
    if not stream:
        choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}
        body = json.dumps({**head, "object": "chat.completion", "choices": [choice]}).encode()
        return Script([body], content_type="application/json", end="keep")
    # Each field in a chunk of its own, texts in two halves, tool calls by index.
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None}]
    for name, value in message.items():
        if name in ("content", "reasoning", "reasoning_content") and value:
            deltas += [{name: value[: len(value) // 2]}, {name: value[len(value) // 2 :]}]
        elif name == "tool_calls":
            deltas += [{name: [{**call, "index": index}]} for index, call in enumerate(value)]
        else:
            deltas.append({name: value})
    chunks = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    return Script([*sse(*chunks), b"data: [DONE]\n\n"])


def responses_script(items: list[dict[str, Any]], *, stream: bool) -> Script:
    response = {"id": "resp_1", "object": "response", "status": "completed", "model": "m", "output": items}
    if not stream:
        return Script([json.dumps(response).encode()], content_type="application/json", end="keep")
    created = {"type": "response.created", "response": {**response, "status": "in_progress", "output": []}}
    done = [{"type": "response.output_item.done", "output_index": n, "item": item} for n, item in enumerate(items)]
    return Script(sse(created, *done, {"type": "response.completed", "response": response}))


DONE = {"content": "Rain.", "refusal": None}
TEXT = [{"type": "message", "id": "m", "role": "assistant", "content": [{"type": "output_text", "text": "Rain."}]}]


def client_of(server: RawServer) -> AsyncClient:
    return AsyncClient(api_key=KEY, base_url=server.base_url, limits=Limits(concurrency=2))


def sent(server: RawServer, turn: int = 1) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(server.bodies[turn])
    return body


async def run(client: AsyncClient, *, stream: bool, endpoint: Any) -> Run:
    agent = agents.Agent(model="m", endpoint=endpoint, tools=[look])
    if not stream:
        return await agents.run(client, agent, input="Weather in Oslo?")
    async with agents.stream(client, agent, input="Weather in Oslo?") as events:
        async for _ in events:
            pass
        return events.run


def without_nulls(message: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in message.items() if value not in (None, "")}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("vendor", MESSAGES)
async def test_a_chat_run_sends_back_what_the_server_said(vendor: str, stream: bool) -> None:
    message = MESSAGES[vendor]
    async with raw_server(
        chat_script(message, stream=stream), chat_script(DONE, stream=stream, reason="stop")
    ) as server:
        async with client_of(server) as client:
            finished = await run(client, stream=stream, endpoint="chat")
    said = sent(server)["messages"][1]
    assert said == without_nulls({"role": "assistant", **message})
    assert sent(server)["messages"][2] == {"role": "tool", "tool_call_id": "call_1", "content": "Oslo: rain"}
    loaded = Run.from_json(finished.to_json())
    assert (loaded.items[1], loaded.output) == (said, "Rain.")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("vendor", MESSAGES)
async def test_a_message_of_create_or_collect_is_sent_back_whole(vendor: str, stream: bool) -> None:
    message = MESSAGES[vendor]
    async with raw_server(chat_script(message, stream=stream)) as server, client_of(server) as client:
        if stream:
            reply = await (await client.chat.completions.create(model="m", messages=[], stream=True)).collect()
        else:
            reply = await client.chat.completions.create(model="m", messages=[])
        history: list[Any] = [{"role": "user", "content": "?"}, reply.choices[0].message]
        await client.chat.completions.create(model="m", messages=history, stream=stream)
    said = sent(server)["messages"][1]
    if stream:
        assert without_nulls(said) == without_nulls({"role": "assistant", **message})
    else:
        assert said == {"role": "assistant", **message}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_responses_run_sends_back_what_the_server_said(stream: bool) -> None:
    async with raw_server(responses_script(ITEMS, stream=stream), responses_script(TEXT, stream=stream)) as server:
        async with client_of(server) as client:
            finished = await run(client, stream=stream, endpoint="responses")
    assert sent(server)["input"][1:5] == ITEMS
    assert sent(server)["input"][5] == {"type": "function_call_output", "call_id": "call_1", "output": "Oslo: rain"}
    assert Run.from_json(finished.to_json()).items[1:5] == ITEMS


@pytest.mark.parametrize("stream", [False, True])
async def test_an_output_is_sent_back_whole(stream: bool) -> None:
    async with raw_server(responses_script(ITEMS, stream=stream)) as server, client_of(server) as client:
        if stream:
            reply = await (await client.responses.create(model="m", input="?", stream=True)).collect()
        else:
            reply = await client.responses.create(model="m", input="?")
        await client.responses.create(model="m", input=[{"role": "user", "content": "?"}, *reply.output], stream=stream)
    assert sent(server)["input"][1:] == ITEMS


async def test_a_reasoning_item_that_cannot_go_back_takes_the_ids_of_its_items_with_it() -> None:
    items = [{"type": "reasoning", "id": "rs_1", "summary": []}, ITEMS[2]]
    async with raw_server(responses_script(items, stream=False), responses_script(TEXT, stream=False)) as server:
        async with client_of(server) as client:
            await run(client, stream=False, endpoint="responses")
    assert sent(server)["input"][1] == {name: value for name, value in ITEMS[2].items() if name != "id"}


def call_of(arguments: str, id: str = "call_1") -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": "look", "arguments": arguments}}


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
@pytest.mark.parametrize(
    ("arguments", "mended", "told"),
    [
        ('{"city":"Os', "{}", "arguments of look are wrong"),
        ("null", "{}", "arguments of look are wrong"),
        ("[1]", "{}", "arguments of look are wrong"),
        ("", "{}", "arguments of look are wrong"),
        ("Oslo", "{}", "arguments of look are wrong"),
        ("[" * 100_000, "{}", "arguments of look are wrong"),
        ('{"city":"Os\nlo"}', '{"city":"Os\\nlo"}', "Os\nlo: rain"),
        ('{"city": "Oslo"}', '{"city": "Oslo"}', "Oslo: rain"),
        (json.dumps('{"city": "Oslo"}'), '{"city":"Oslo"}', "Oslo: rain"),
        (json.dumps("Oslo"), "{}", "arguments of look are wrong"),
        ('{"town":"Oslo"}', '{"town":"Oslo"}', "arguments of look are wrong"),
    ],
)
async def test_arguments_in_the_history_are_an_object(arguments: str, mended: str, told: str, endpoint: Any) -> None:
    if endpoint == "chat":
        first = chat_script({"content": None, "tool_calls": [call_of(arguments)]}, stream=False)
        last = chat_script(DONE, stream=False, reason="stop")
    else:
        first = responses_script([{**ITEMS[2], "arguments": arguments}], stream=False)
        last = responses_script(TEXT, stream=False)
    async with raw_server(first, last) as server, client_of(server) as client:
        await run(client, stream=False, endpoint=endpoint)
    if endpoint == "chat":
        _, call, result = sent(server)["messages"]
        assert (call["tool_calls"][0]["function"]["arguments"], told in result["content"]) == (mended, True)
    else:
        _, call, result = sent(server)["input"]
        assert (call["arguments"], call["namespace"], told in result["output"]) == (mended, "weather", True)


@pytest.mark.parametrize("arguments", ["", " ", "{}", "null", '"{}"'])
async def test_a_call_without_arguments_is_one_however_it_says_so(arguments: str) -> None:
    async def now() -> str:
        return "noon"

    call = {**call_of(arguments), "function": {"name": "now", "arguments": arguments}}
    first = chat_script({"content": None, "tool_calls": [call]}, stream=False)
    last = chat_script(DONE, stream=False, reason="stop")
    async with raw_server(first, last) as server, client_of(server) as client:
        await agents.run(client, model="m", tools=[now], input="go")
    _, call, result = sent(server)["messages"]
    assert (call["tool_calls"][0]["function"]["arguments"], result["content"]) == ("{}", "noon")


async def test_ids_of_calls_are_unique_within_a_run() -> None:
    def turn(*ids: str) -> Script:
        calls = [call_of(f'{{"city":"C{number}"}}', id) for number, id in enumerate(ids)]
        return chat_script({"tool_calls": calls}, stream=False)

    last = chat_script(DONE, stream=False, reason="stop")
    async with raw_server(turn("x", "x", ""), turn("x", "call_0_1"), last) as server, client_of(server) as client:
        await run(client, stream=False, endpoint="chat")
    messages = sent(server, 2)["messages"]
    ids = [call["id"] for message in messages for call in message.get("tool_calls") or ()]
    results = [message["tool_call_id"] for message in messages if message["role"] == "tool"]
    assert len(set(ids)) == 5
    assert (ids[0], results) == ("x", ids)


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
@pytest.mark.parametrize(
    ("name", "sent_as"),
    [
        ("functions.look", "functions_look"),
        ("look<|channel|>json", "look__channel__json"),
        ("", "unknown"),
        ("l\u00f6\u00f6k " * 20, "l__k_" * 12 + "l__k"),
        ("watch", "watch"),
    ],
)
async def test_a_name_that_no_tool_can_have_goes_back_as_one_that_servers_take(
    name: str, sent_as: str, endpoint: Any
) -> None:
    if endpoint == "chat":
        called = {**call_of("{}"), "function": {"name": name, "arguments": "{}"}}
        first = chat_script({"content": None, "tool_calls": [called]}, stream=False)
        last = chat_script(DONE, stream=False, reason="stop")
    else:
        first = responses_script([{**ITEMS[2], "name": name, "arguments": "{}"}], stream=False)
        last = responses_script(TEXT, stream=False)
    async with raw_server(first, last) as server, client_of(server) as client:
        await run(client, stream=False, endpoint=endpoint)
    _, call, result = sent(server)["messages" if endpoint == "chat" else "input"]
    assert (call["tool_calls"][0]["function"] if endpoint == "chat" else call)["name"] == sent_as
    told = result["content" if endpoint == "chat" else "output"]
    assert told == f"error: there is no tool {name[:64]!r}; the tools are: look"


ASKED: list[dict[str, Any]] = [
    {"type": "mcp_approval_request", "id": "1", "name": "t", "server_label": "s", "arguments": "{}"},
    {"type": "computer_call", "id": "1", "call_id": "c", "action": {"type": "click"}, "pending_safety_checks": []},
    {"type": "shell_call", "id": "1", "call_id": "c", "action": {"commands": ["ls"]}},
    {"type": "custom_tool_call", "id": "1", "call_id": "c", "name": "sql", "input": "select 1"},
    {"type": "tool_search_call", "execution": "client", "call_id": "c", "arguments": {}},
]
SAID = {
    "type": "message",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "So far.", "annotations": []}],
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("item", ASKED, ids=lambda item: item["type"])
async def test_what_nobody_answers_is_no_end_of_a_run(item: dict[str, Any], stream: bool) -> None:
    async def run_of(*output: dict[str, Any]) -> Any:
        async with raw_server(responses_script([*output], stream=stream)) as server, client_of(server) as client:
            return await run(client, stream=stream, endpoint="responses")

    for output in ((item,), (SAID, item)):
        with pytest.raises(AnswerInvalidError, match=f"waits for an answer to its {item['type']}"):
            await run_of(*output)
    # The server has done it, and says so or goes on.
    assert (await run_of(item, SAID)).output == "So far."
    if "call_id" in item:
        assert (await run_of(item, {"type": "some_output", "id": "2", "call_id": "c", "output": []})).output == ""
    assert (await run_of({**item, "execution": "server"})).output == ""
