"""Tool calling of the simulator over real sockets: scripts, rules, and what it refuses, as two clients see it."""

from __future__ import annotations

import contextlib
import importlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from aimlasync import AsyncClient, Endpoint, Limits, Retry
from aimlasync.errors import APIResponseValidationError, APIStatusError, BadRequestError, NotFoundError, RateLimitError
from aimlasync.simulator import Answer, Call, Fault, Problem, SimRequest, Simulator
from aimlasync.simulator.model import extract
from aimlasync.simulator.vendor import stored

NANO = "openai/gpt-5-nano-2025-08-07"
PRO = "openai/gpt-5-pro"
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = {"name": "get_weather", "description": "The weather in a city.", "parameters": CITY, "strict": True}
TIME = {"name": "get_time", "description": "The local time of a city.", "parameters": CITY, "strict": True}
ROME = Call.of("get_weather", city="Rome")
BOTH = [ROME, Call.of("get_time", city="Paris")]
ASK = "What is the weather in Rome?"
Json = dict[str, Any]

Connect = Callable[[Simulator], Any]


def ours(sim: Simulator) -> AsyncClient:
    # A limit that is stated: a rate that is learned would keep the call after a refusal waiting for a second.
    endpoint = Endpoint(base_url=sim.base_url, api_key="test", limits=Limits(concurrency=8))
    return AsyncClient(endpoints=[endpoint], retry=Retry(attempts=1))


def openais(sim: Simulator) -> Any:
    openai = importlib.import_module("openai")
    # To load the authorities that are trusted takes longer than a test does, and none of them is asked.
    client = openai.DefaultAsyncHttpxClient(verify=False)
    return openai.AsyncOpenAI(base_url=sim.base_url, api_key="test", max_retries=0, http_client=client)


@pytest.fixture(params=["aimlasync", "openai"])
def connect(request: pytest.FixtureRequest) -> Connect:
    """How a test makes its client: each sees well-formed calls."""
    if request.param == "openai":
        pytest.importorskip("openai", reason="pip install 'aimlasync[bench]' runs these tests with openai's client too")
        return openais
    return ours


@asynccontextmanager
async def talking(connect: Connect = ours, **options: Any) -> AsyncIterator[tuple[Any, Simulator]]:
    async with AsyncExitStack() as stack:
        sim = await stack.enter_async_context(Simulator(**options))
        yield await stack.enter_async_context(connect(sim)), sim


def offered(*tools: Json, api: str = "chat") -> list[Json]:
    return [
        {"type": "function", "function": tool} if api == "chat" else {"type": "function", **tool}
        for tool in tools or (WEATHER, TIME)
    ]


class Turn:
    """What came of one call: the text, the calls, and the items or message that the next request brings along."""

    def __init__(self, text: str, calls: list[tuple[str, str, str]], said: list[Json], id: str, finish: str) -> None:
        self.text = text
        self.calls = calls
        """(id, name, arguments)"""
        self.said = said
        self.id = id
        self.finish = finish

    @property
    def made(self) -> list[tuple[str, str]]:
        return [(name, arguments) for _, name, arguments in self.calls]


async def chat(client: Any, messages: str | list[Json], *, stream: bool = False, **body: Any) -> Turn:
    messages = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
    body = {"model": NANO, "messages": messages, **body}
    if not stream:
        choice = (await client.chat.completions.create(**body)).choices[0]
        text = choice.message.content or choice.message.refusal or ""
        found = [(call.id, call.function.name, call.function.arguments) for call in choice.message.tool_calls or ()]
        finish = choice.finish_reason
    else:
        text, finish = "", ""
        parts: dict[int, list[Any]] = {}
        async for chunk in await client.chat.completions.create(**body, stream=True):
            for choice in chunk.choices or ():
                delta = choice.delta
                text += delta.content or delta.refusal or ""
                for part in delta.tool_calls or ():
                    # Only the first piece of a call says whose it is.
                    held = parts.setdefault(part.index, [part.id, part.function.name, ""])
                    held[2] += part.function.arguments or ""
                finish = choice.finish_reason or finish
        found = [(str(id), str(name), arguments) for id, name, arguments in (parts[at] for at in sorted(parts))]
    said: Json = {"role": "assistant", "content": text}
    if found:
        said["tool_calls"] = [
            {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
            for id, name, arguments in found
        ]
    return Turn(text, found, [said], "", finish)


async def respond(client: Any, given: str | list[Json], *, stream: bool = False, **body: Any) -> Turn:
    body = {"model": NANO, "input": given, **body}
    if not stream:
        response = await client.responses.create(**body)
    else:
        pieces: dict[int, str] = {}
        async for event in await client.responses.create(**body, stream=True):
            if event.type == "response.function_call_arguments.delta":
                pieces[event.output_index] = pieces.get(event.output_index, "") + event.delta
            elif event.type == "response.function_call_arguments.done":
                assert pieces.get(event.output_index, "") == event.arguments
            elif event.type == "response.completed":
                response = event.response
    found = [(item.call_id, item.name, item.arguments) for item in response.output if item.type == "function_call"]
    said = [item.to_dict() for item in response.output]
    return Turn(response.output_text, found, said, response.id, "tool_calls" if found else "stop")


def results(turn: Turn, *outputs: str, api: str) -> list[Json]:
    pairs = zip(turn.calls, outputs, strict=True)
    if api == "chat":
        return [{"role": "tool", "tool_call_id": call[0], "content": output} for call, output in pairs]
    return [{"type": "function_call_output", "call_id": call[0], "output": output} for call, output in pairs]


TURN: dict[str, Callable[..., Awaitable[Turn]]] = {"chat": chat, "responses": respond}
ON_BOTH = pytest.mark.parametrize("api", ["chat", "responses"])
BOTH_WAYS = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
# Stored nowhere and sent back whole, so that a reasoning model's items have to come encrypted.
STATELESS: dict[str, Json] = {"chat": {}, "responses": {"include": ["reasoning.encrypted_content"], "store": False}}


# Scripts


@ON_BOTH
@BOTH_WAYS
async def test_a_script_says_its_turns_in_order_whoever_asks(connect: Connect, api: str, stream: bool) -> None:
    script = [Answer(text="Let me look.", calls=BOTH), Call.of("get_weather", city="Oslo"), "All is well."]
    async with talking(connect, script=script) as (client, sim):
        said: list[Json] = [{"role": "user", "content": "Hello"}]
        turns = []
        for outputs in (("sunny", "12:30"), ("snow",), ()):
            turn = await TURN[api](client, said, stream=stream, tools=offered(api=api), **STATELESS[api])
            turns.append(turn)
            said += turn.said + results(turn, *outputs, api=api)
        assert turns[0].text == "Let me look."
        assert turns[0].made == [("get_weather", '{"city":"Rome"}'), ("get_time", '{"city":"Paris"}')]
        assert turns[1].made == [("get_weather", '{"city":"Oslo"}')]
        assert (turns[2].text, turns[2].made) == ("All is well.", [])
        assert [turn.finish for turn in turns] == ["tool_calls", "tool_calls", "stop"]
        ids = [call[0] for turn in turns for call in turn.calls]
        assert len(set(ids)) == 3
        assert [one.turn for one in sim.ledger] == [0, 1, 2]
        assert [one.results for one in sim.ledger] == [0, 2, 3]
        assert [one.called for one in sim.ledger] == [("get_weather", "get_time"), ("get_weather",), ()]
        assert all(one.completion_tokens > 0 for one in sim.ledger)


MALFORMED = [
    Call("get_weather", '{"city": "Ro'),
    Call("get_weather", '{"city": 7, "days": []}'),
    Call("get_weather", ""),
    Call("no_such_tool", "{}"),
    Call("get_weather", '["Rome"]', id="call_fixed"),
]


@ON_BOTH
@BOTH_WAYS
async def test_malformed_calls_arrive_as_they_were_written(connect: Connect, api: str, stream: bool) -> None:
    async with talking(connect, script=[Answer(calls=MALFORMED)]) as (client, _):
        turn = await TURN[api](client, "Hello", stream=stream, tools=offered(api=api))
    assert turn.made == [(call.name, call.arguments) for call in MALFORMED]
    assert turn.calls[-1][0] == "call_fixed"


@ON_BOTH
async def test_the_last_turn_is_repeated_for_ever(connect: Connect, api: str) -> None:
    async with talking(connect, script=[ROME]) as (client, _):
        said: list[Json] = [{"role": "user", "content": "Hello"}]
        for _ in range(6):
            turn = await TURN[api](client, said, tools=offered(api=api), **STATELESS[api])
            assert turn.made == [("get_weather", '{"city":"Rome"}')]
            said += turn.said + results(turn, "sunny", api=api)


@ON_BOTH
@BOTH_WAYS
async def test_a_script_refuses(connect: Connect, api: str, stream: bool) -> None:
    async with talking(connect, script=[Answer(refusal="I will not.")]) as (client, _):
        turn = await TURN[api](client, "Hello", stream=stream, tools=offered(api=api))
    assert turn.made == []
    said = turn.text or turn.said[-1]["content"][0]["refusal"]
    assert said == "I will not."


@ON_BOTH
async def test_a_request_chooses_its_script_by_header_by_metadata_and_by_model(api: str) -> None:
    scripts = {"loops": [ROME], "fails": [Problem(429)], "talks": ["done"]}
    async with talking(vendor="aimlapi", script=scripts) as (client, sim):
        tools = offered(api=api)
        assert (await TURN[api](client, ASK, tools=tools, extra_headers={"X-Script": "talks"})).text == "done"
        assert (await TURN[api](client, "Hi", tools=tools, extra_body={"metadata": {"script": "loops"}})).made
        assert (await TURN[api](client, "Hi", tools=tools, model="loops")).made
        assert not (await TURN[api](client, "Hi", tools=tools)).made
        with pytest.raises(BadRequestError, match="no script 'typo'; known: loops, fails, talks"):
            await TURN[api](client, "Hi", extra_headers={"X-Script": "typo"})
        with pytest.raises(NotFoundError):
            await TURN[api](client, "Hi", model="typo")
        assert [one.script for one in sim.ledger][:4] == ["talks", "loops", "loops", ""]
        with pytest.raises(RateLimitError):
            await TURN[api](client, "Hi", model="fails")


@ON_BOTH
async def test_a_problem_in_a_script_is_given_once_to_each_conversation(api: str) -> None:
    script = [Problem(429), Problem(500), ROME, Problem(503), "done", Problem(402)]
    async with talking(vendor="aimlapi", script=script) as (client, sim):
        tools = offered(api=api)
        for _ in range(2):
            with pytest.raises(APIStatusError):
                await TURN[api](client, "Hi", tools=tools)
        assert (await TURN[api](client, "Hi", tools=tools)).made
        # Another conversation meets its own.
        with pytest.raises(RateLimitError):
            await TURN[api](client, "Hello", tools=tools)
        assert [one.status for one in sim.ledger] == [429, 500, 200, 429]


@ON_BOTH
async def test_the_hook_comes_before_the_script_and_may_leave_it_to_it(api: str) -> None:
    def answer(request: SimRequest) -> str | None:
        return f"turn {request.turn}" if request.text == "hook" else None

    async with talking(answer=answer, script=["scripted"]) as (client, _):
        assert (await TURN[api](client, "hook")).text == "turn 0"
        assert (await TURN[api](client, "Hello")).text == "scripted"


@ON_BOTH
async def test_a_body_and_events_can_be_written_by_hand(api: str) -> None:
    by_hand: Json = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": []}
    by_hand["choices"] = [{"index": 0, "message": {"role": "assistant", "content": "mine"}, "finish_reason": "stop"}]
    if api == "responses":
        content = [{"type": "output_text", "text": "mine", "annotations": []}]
        message = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": content}
        by_hand = {"id": "x", "object": "response", "created_at": 1, "model": "m", "output": [message]}
    async with talking(script=[Answer(raw=by_hand)]) as (client, _):
        assert (await TURN[api](client, "Hello")).text == "mine"
    async with talking(script=[Answer(raw=json.dumps(by_hand).encode())]) as (client, _):
        assert (await TURN[api](client, "Hello")).text == "mine"
    done = {"type": "response.completed", "sequence_number": 0, "response": by_hand}
    piece = {"index": 0, "delta": {"content": "mine"}, "finish_reason": "stop"}
    chunk = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [piece]}
    events: list[Any] = [chunk, b"[DONE]"] if api == "chat" else [done]
    async with talking(script=[Answer(raw=events)]) as (client, _):
        assert (await TURN[api](client, "Hello", stream=True)).text == "mine"


@pytest.mark.parametrize(
    ("script", "error"),
    [("text", TypeError), ([ROME, None], TypeError), ({"empty": []}, ValueError), ({"one": ROME}, TypeError)],
)
def test_a_script_that_is_none_is_refused(script: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="script"):
        Simulator(script=script)


@pytest.mark.parametrize(
    ("kind", "members", "words"),
    [
        (Answer, {"text": 5}, "(text=...) takes str, not int"),
        (Answer, {"text": None}, "(text=...) takes str, not NoneType"),
        (Answer, {"refusal": []}, "(refusal=...) takes str | None, not list"),
        (Answer, {"calls": Call("a")}, "(calls=...) takes list, not Call"),
        (Answer, {"calls": ["a"]}, "(calls=...) takes a list of Call, not ['a']"),
        (Answer, {"reasoning_tokens": "9"}, "(reasoning_tokens=...) takes int | None, not str"),
        (Answer, {"raw": object()}, "(raw=...) takes bytes or a JSON value: "),
        (Call, {"name": None}, "(name=...) takes str, not NoneType"),
        (Call, {"name": "a", "id": 7}, "(id=...) takes str | None, not int"),
    ],
)
def test_a_wrong_type_in_an_answer_is_refused_where_it_is_written(kind: Any, members: Any, words: str) -> None:
    with pytest.raises(TypeError, match=re.escape(f"{kind.__name__}{words}")):
        kind(**members)


@ON_BOTH
async def test_a_fault_comes_before_the_script_and_the_turn_is_asked_again(api: str) -> None:
    async with talking(script=[ROME, "done"], faults=[Fault("malformed_json", times=1)]) as (client, sim):
        with pytest.raises(APIResponseValidationError):
            await TURN[api](client, "Hello")
        assert (await TURN[api](client, "Hello")).made == [("get_weather", '{"city":"Rome"}')]
        assert [(one.status, one.turn) for one in sim.ledger] == [(200, 0), (200, 0)]


# Rules


@ON_BOTH
@BOTH_WAYS
async def test_tools_that_the_text_names_are_called_and_what_they_say_is_told(
    connect: Connect, api: str, stream: bool
) -> None:
    async with talking(connect) as (client, _):
        said: list[Json] = [{"role": "user", "content": "What are the weather and time in Rome and New York?"}]
        tools = offered(api=api)
        turn = await TURN[api](client, said, stream=stream, tools=tools, **STATELESS[api])
        assert turn.made == [
            ("get_weather", '{"city":"Rome"}'),
            ("get_weather", '{"city":"New York"}'),
            ("get_time", '{"city":"Rome"}'),
            ("get_time", '{"city":"New York"}'),
        ]
        said += turn.said + results(turn, '{"sky":"clear","degrees":21}', "rain.", "{'hour': 12}", "{error}", api=api)
        last = await TURN[api](client, said, stream=stream, tools=tools, **STATELESS[api])
        assert last.made == []
        assert last.text == (
            "Here is what the tools say: weather for Rome: sky clear, degrees 21; weather for New York: rain; "
            "time for Rome: hour 12; time for New York: {error}."
        )


@ON_BOTH
async def test_without_parallel_calls_they_come_one_after_the_other(connect: Connect, api: str) -> None:
    async with talking(connect) as (client, _):
        said: list[Json] = [{"role": "user", "content": "The weather in Rome and Oslo, please."}]
        made = []
        for _ in range(3):
            turn = await TURN[api](client, said, tools=offered(api=api), parallel_tool_calls=False, **STATELESS[api])
            made.append(turn.made)
            said += turn.said + results(turn, *["rain"] * len(turn.calls), api=api)
        assert made == [[("get_weather", '{"city":"Rome"}')], [("get_weather", '{"city":"Oslo"}')], []]


@ON_BOTH
async def test_tool_choice_is_obeyed(connect: Connect, api: str) -> None:
    async with talking(connect) as (client, _):
        tools = offered(api=api)
        chosen = {"type": "function", "function": {"name": "get_time"}}
        if api == "responses":
            chosen = {"type": "function", "name": "get_time"}
        assert (await TURN[api](client, ASK, tools=tools, tool_choice="none")).made == []
        assert (await TURN[api](client, "Hello", tools=tools, tool_choice="auto")).made == []
        assert len((await TURN[api](client, "Hello", tools=tools, tool_choice="required")).made) == 1
        assert (await TURN[api](client, ASK, tools=tools, tool_choice=chosen)).made == [("get_time", '{"city":"Rome"}')]


@ON_BOTH
async def test_an_answer_of_a_given_form_comes_after_the_tools_and_takes_their_values(
    connect: Connect, api: str
) -> None:
    schema = {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "degrees": {"type": "integer"},
            "sky": {"enum": ["clear", "cloudy"], "type": "string"},
        },
        "required": ["city", "degrees", "sky"],
        "additionalProperties": False,
    }
    form: Json = {"response_format": {"type": "json_schema", "json_schema": {"name": "w", "schema": schema}}}
    if api == "responses":
        form = {"text": {"format": {"type": "json_schema", "name": "w", "schema": schema}}}
    async with talking(connect) as (client, _):
        said: list[Json] = [{"role": "user", "content": ASK}]
        turn = await TURN[api](client, said, tools=offered(api=api), **form, **STATELESS[api])
        assert turn.made == [("get_weather", '{"city":"Rome"}')]
        said += turn.said + results(turn, '{"sky":"cloudy","degrees":-4}', api=api)
        last = await TURN[api](client, said, tools=offered(api=api), **form, **STATELESS[api])
        assert json.loads(last.text) == {"city": "Rome", "degrees": -4, "sky": "cloudy"}


@pytest.mark.parametrize(
    ("text", "tool", "arguments"),
    [
        ("Where is my order A-1042?", "lookup_order", {"order_id": "A-1042"}),
        ("What is 17 * (3 + 4.5)?", "calculate", {"expression": "17 * (3 + 4.5)"}),
        ("Write to ann@example.org about it, by email", "send_email", {"to_email": "ann@example.org", "urgent": False}),
        ("Which books about whales do you have?", "query_library", {"limit": 5, "author": None}),
        ("List 3 books about whales", "query_library", {"author": None}),
        ("Nothing of that kind", None, {}),
    ],
)
async def test_arguments_are_taken_from_the_text(text: str, tool: str | None, arguments: Json) -> None:
    def of(name: str, description: str, **properties: Json) -> Json:
        whole = {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
        return {"name": name, "description": description, "parameters": whole, "strict": True}

    string, flag = {"type": "string"}, {"type": "boolean"}
    tools = offered(
        of("lookup_order", "Find an order by its number.", order_id=string),
        of("calculate", "Work out an expression.", expression=string),
        of("send_email", "Send an email.", to_email=string, urgent=flag),
        of(
            "query_library",
            "Find books by what they are about.",
            limit={"type": "integer", "default": 5},
            author={"anyOf": [string, {"type": "null"}]},
        ),
    )
    async with talking() as (client, _):
        made = (await chat(client, text, tools=tools)).made
    assert [name for name, _ in made] == ([tool] if tool else [])
    for _, given in made:
        assert json.loads(given).items() >= arguments.items()


def test_a_number_counts_for_the_word_beside_it() -> None:
    assert extract.has_number_for("days", "the weather for 3 days")
    assert extract.has_number_for("max_rows", "rows: 5")
    assert not extract.has_number_for("limit", "the weather for 3 days")


# What was said before


async def test_a_response_can_be_continued_by_its_id(connect: Connect) -> None:
    async with talking(connect, script=[BOTH[0], "done"]) as (client, sim):
        tools = offered(api="responses")
        first = await respond(client, ASK, tools=tools, store=True)
        outputs = results(first, "sunny", api="responses")
        last = await respond(client, outputs, tools=tools, previous_response_id=first.id, stream=True)
        assert last.text == "done"
        assert [(one.turn, one.results) for one in sim.ledger] == [(0, 0), (1, 1)]
        assert sim.ledger[1].prompt_tokens > sim.ledger[0].prompt_tokens
        # Two may go on from the same one.
        again = await respond(client, outputs, tools=tools, previous_response_id=first.id)
        assert again.id != last.id


async def test_a_streamed_response_is_stored_too_and_its_items_can_be_referred_to(connect: Connect) -> None:
    async with talking(connect, vendor="openai") as (client, _):
        tools = offered(api="responses")
        first = await respond(client, ASK, tools=tools, stream=True)
        references = [{"type": "item_reference", "id": item["id"]} for item in first.said]
        given = [{"role": "user", "content": ASK}, *references, *results(first, "sunny", api="responses")]
        assert "sunny" in (await respond(client, given, tools=tools)).text
        second = await respond(client, results(first, "rain", api="responses"), previous_response_id=first.id)
        assert "rain" in second.text
        third = await respond(client, "Thanks", previous_response_id=second.id)
        assert "Thanks" in third.text


async def test_what_is_not_stored_cannot_be_continued() -> None:
    async with talking() as (client, _):
        # The AI/ML API stores only when asked.
        first = await respond(client, ASK, tools=offered(api="responses"))
        with pytest.raises(BadRequestError, match=r"Previous response with id 'resp_.*' not found"):
            await respond(client, "Hello", previous_response_id=first.id)
        # Its schema takes reasoning items that did not come encrypted; OpenAI looks them up.
        given = [{"role": "user", "content": ASK}, *first.said, *results(first, "sunny", api="responses")]
        assert (await respond(client, given)).text
    async with talking(vendor="openai") as (client, _):
        first = await respond(client, ASK, tools=offered(api="responses"), store=False)
        given = [{"role": "user", "content": ASK}, *first.said, *results(first, "sunny", api="responses")]
        with pytest.raises(NotFoundError, match=r"Item with id 'rs_.*' not found"):
            await respond(client, given)


async def test_stored_responses_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "_MAX_RESPONSES", 2)
    async with talking(vendor="openai") as (client, sim):
        ids = [(await respond(client, "Hello")).id for _ in range(2)]
        await respond(client, "Hello", previous_response_id=ids[0])
        assert len(sim.state.stored) == 2
        await respond(client, "Hello", previous_response_id=ids[0])
        with pytest.raises(BadRequestError):
            await respond(client, "Hello", previous_response_id=ids[1])


@BOTH_WAYS
async def test_reasoning_comes_encrypted_when_asked(connect: Connect, stream: bool) -> None:
    async with talking(connect) as (client, _):
        asked = await respond(client, ASK, stream=stream, include=["reasoning.encrypted_content"])
        assert asked.said[0]["type"] == "reasoning"
        assert asked.said[0]["encrypted_content"].startswith("gAAAA")
        unasked = await respond(client, ASK, stream=stream)
        assert not unasked.said[0].get("encrypted_content")


USER: Json = {"role": "user", "content": ASK}
FUNCTION = {"name": "get_weather", "arguments": "{}"}
CALL: Json = {"id": "call_1", "type": "function", "function": FUNCTION}
SAID: Json = {"role": "assistant", "content": "", "tool_calls": [CALL]}
TOLD: Json = {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}
CALLED: Json = {"type": "function_call", "call_id": "call_1", **FUNCTION}
ANSWERED: Json = {"type": "function_call_output", "call_id": "call_1", "output": "sunny"}
THOUGHT: Json = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"}


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ([USER, SAID], "did not have response messages: call_1"),
        ([USER, SAID, USER, TOLD], "did not have response messages: call_1"),
        ([USER, TOLD], "must be a response to a preceding message"),
        ([USER, SAID, TOLD, SAID, {**TOLD, "tool_call_id": "call_2"}], "must be a response to a preceding message"),
        ([USER, CALLED], "No tool output found for function call call_1"),
        ([USER, ANSWERED], "No tool call found for function call output with call_id call_1"),
        (
            [USER, {**SAID, "tool_calls": [{**CALL, "function": {**FUNCTION, "name": "functions.x"}}]}, TOLD],
            r"Invalid 'messages\[1\]\.tool_calls\[0\]\.function\.name': string does not match pattern",
        ),
        ([USER, {**CALLED, "name": ""}, ANSWERED], r"Invalid 'input\[1\]\.name': string does not match pattern"),
        ([USER, THOUGHT], "'rs_1' of type 'reasoning' was provided without its required following item"),
        ([USER, THOUGHT, USER], "'rs_1' of type 'reasoning' was provided without its required following item"),
    ],
)
async def test_calls_and_results_belong_together(said: list[Json], reason: str) -> None:
    api = "responses" if any(item.get("type") for item in said) else "chat"
    async with talking() as (client, _):
        with pytest.raises(BadRequestError, match=reason):
            await TURN[api](client, said, tools=offered(api=api))
    async with talking(validate=False) as (client, _):
        await TURN[api](client, said, tools=offered(api=api))


@pytest.mark.parametrize(
    "items",
    [
        [{"type": 7, "content": []}],
        [{"type": ["x"], "role": None}],
        [{"type": "function_call"}, {"type": "function_call_output", "call_id": None}],
        [{"type": "item_reference"}],
        [{}],
    ],
)
async def test_items_of_no_kind_break_nothing(items: list[Json]) -> None:
    async with talking(script={"x": ["ok"]}) as (client, sim):
        with contextlib.suppress(BadRequestError, NotFoundError):
            await respond(client, items, extra_body={"metadata": {"script": ["x"]}})
        with contextlib.suppress(BadRequestError, NotFoundError):
            await respond(client, items)
        assert sim.ledger.by_status().keys() <= {200, 400, 404}
        assert len(sim.ledger) == 2


async def test_whole_conversations_are_taken() -> None:
    async with talking() as (client, sim):
        assert (await chat(client, [USER, SAID, TOLD, USER, SAID, TOLD], tools=offered())).text
        items = [USER, THOUGHT, CALLED, ANSWERED, USER, THOUGHT, {"role": "assistant", "content": "Well."}, USER]
        assert (await respond(client, items)).text
        assert [(one.turn, one.results) for one in sim.ledger] == [(2, 1), (2, 0)]


async def test_models_that_take_no_reasoning_items_refuse_them() -> None:
    items = [USER, THOUGHT, CALLED, ANSWERED]
    async with talking() as (client, _):
        assert (await respond(client, items)).text
        with pytest.raises(BadRequestError, match="does not take items of type 'reasoning'"):
            await respond(client, items, model=PRO)


LOOSE: Json = {"name": "get_weather", "strict": True, "parameters": {"type": "object", "properties": {"a": {}}}}
OPEN: Json = {**LOOSE, "parameters": {**LOOSE["parameters"], "additionalProperties": False}}


@ON_BOTH
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"tools": [{**WEATHER, "name": "get weather"}]}, "does not match"),
        ({"tools": [LOOSE]}, "'additionalProperties' is required"),
        ({"tools": [OPEN]}, "'required' must include every key in properties; missing 'a'"),
        ({"tools": [WEATHER], "tool_choice": "get_time"}, "'get_time' not found in 'tools'"),
    ],
)
async def test_tools_that_no_vendor_takes_are_refused(api: str, body: Json, reason: str) -> None:
    body = {**body, "tools": offered(*body["tools"], api=api)}
    if "tool_choice" in body:
        name = {"name": body["tool_choice"]}
        body["tool_choice"] = {"type": "function", **(name if api == "responses" else {"function": name})}
    async with talking(vendor="openai") as (client, _):
        with pytest.raises(BadRequestError, match=reason):
            await TURN[api](client, ASK, **body)


@pytest.mark.parametrize("name", ["tool_choice", "parallel_tool_calls"])
async def test_a_chat_chooses_tools_only_when_it_has_some(name: str) -> None:
    async with talking() as (client, _):
        with pytest.raises(BadRequestError, match=f"'{name}' is only allowed when 'tools' are specified"):
            await TURN["chat"](client, ASK, **{name: "auto" if name == "tool_choice" else True})


# Judging


@pytest.mark.parametrize(
    ("reference", "answer", "good"),
    [
        ("Refunds take 5 days.", "A refund takes 5 days.", True),
        ("Refunds take 5 days.", "A refund takes 9 days.", False),
        ("Refunds are possible.", "Refunds are not possible.", False),
        ("Refunds are made by card.", "I love bananas.", False),
    ],
)
async def test_an_answer_is_judged_by_its_reference(reference: str, answer: str, good: bool) -> None:
    ask = f"Judge it.\nReference: {reference}\nAnswer: {answer}"
    schema = {
        "type": "object",
        "properties": {
            "verdict": {"enum": ["incorrect", "correct"]},
            "is_correct": {"type": "boolean"},
            "is_wrong": {"type": "boolean"},
            "score": {"type": "integer", "minimum": 1, "maximum": 5},
            "reason": {"type": "string"},
        },
        "required": ["verdict", "is_correct", "is_wrong", "score", "reason"],
    }
    form = {"type": "json_schema", "json_schema": {"name": "v", "schema": schema}}
    async with talking() as (client, _):
        said = json.loads((await chat(client, ask, response_format=form)).text)
        plain = [{"role": "system", "content": "Answer one of: pass, fail."}, {"role": "user", "content": ask}]
        assert (await chat(client, plain)).text == ("pass" if good else "fail")
    assert said["verdict"] == ("correct" if good else "incorrect")
    assert (said["is_correct"], said["is_wrong"]) == (good, not good)
    assert (said["score"] > 3) == good
    assert said["reason"].startswith("The answer has ")


async def test_who_the_model_is_told_to_be_is_who_answers() -> None:
    said = [{"role": "system", "content": "You are the sales team of a shop."}, {"role": "user", "content": "Hello"}]
    async with talking() as (client, _):
        assert "simulated sales team" in (await chat(client, said)).text
